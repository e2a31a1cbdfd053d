#include "models/links.h"

#include "core/file.h"

namespace tessera {

Links::Links(const Machine* machine) {
    if (!machine) return;
    const FolderLock lock(machine->folder());  // StarPU of another process may be measuring
    for (const char* ending : {".platform.v4.xml", ".platform.xml"}) {
        const auto path = machine->folder() / "bus" / (machine->name() + ending);
        if (!std::filesystem::exists(path)) continue;
        platform_ = read_platform(path);
        return;
    }
}

std::vector<int> Links::between(const std::string& from, const std::string& to, double otherwise_bytes_per_s) {
    std::vector<int> way;
    if (const PlatformRoute* route = platform_.route(from, to)) {
        for (const std::string& id : route->links) way.push_back(number(id, platform_.link(id)->bytes_per_s));
    } else if (otherwise_bytes_per_s > 0) way.push_back(number(from + " to " + to, otherwise_bytes_per_s));
    return way;
}

int Links::number(const std::string& id, double rate) {
    const auto [it, fresh] = known_.emplace(id, int(bytes_per_s.size()));
    if (fresh) bytes_per_s.push_back(rate);
    return it->second;
}

}  // namespace tessera
