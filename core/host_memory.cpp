#include "core/host_memory.h"

#include <starpu.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>

#include "core/error.h"

namespace tessera {
namespace fs = std::filesystem;

static std::string text_of(const fs::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

static int64_t limit_in(const fs::path& file) {
    const std::string text = text_of(file);  // a number, or "max"
    int64_t bytes = 0;
    const bool number = std::from_chars(text.data(), text.data() + text.size(), bytes).ec == std::errc();
    return number && bytes > 0 ? bytes : INT64_MAX;
}

int64_t group_limit_bytes(const std::string& groups, const fs::path& root) {
    int64_t least = INT64_MAX;
    std::istringstream lines(groups);
    for (std::string line; std::getline(lines, line);) {  // NUMBER:CONTROLLERS:PATH; version 2 has no controllers
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
        const bool unified = controllers == ",,";
        if (!unified && controllers.find(",memory,") == std::string::npos) continue;
        const fs::path top = unified ? root : root / "memory";
        const char* const name = unified ? "memory.max" : "memory.limit_in_bytes";
        // In a container the path may be the host's, of which only the end or nothing is there.
        for (fs::path group = fs::path(line.substr(second + 1)).relative_path();; group = group.parent_path()) {
            least = std::min(least, limit_in(top / group / name));
            if (group.empty()) break;
        }
    }
    return least;
}

#ifdef STARPU_SIMGRID
int64_t host_memory_bytes() { return INT64_MAX; }
#else
int64_t host_memory_bytes() {
    struct sysinfo s {};
    const int64_t built_in = sysinfo(&s) == 0 ? int64_t(s.totalram) * int64_t(s.mem_unit) : INT64_MAX;
    return std::min(built_in, group_limit_bytes(text_of("/proc/self/cgroup"), "/sys/fs/cgroup"));
}
#endif

void require_host_memory(int64_t bytes, std::string_view what, const std::string& hint) {
    struct sysinfo s {};
    const int64_t memory = host_memory_bytes(),
                  swap = sysinfo(&s) == 0 ? int64_t(s.totalswap) * int64_t(s.mem_unit) : 0;
    if (bytes <= memory || bytes - memory <= swap) return;
    throw Error(std::string(what) + " " + std::to_string(bytes >> 20) + " MiB of memory; there are " +
                    std::to_string((memory >> 20) + (swap >> 20)) + " MiB",
                hint);
}

}  // namespace tessera
