#include "apps/scratch.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <string>

#include "core/error.h"

namespace tessera {
namespace fs = std::filesystem;

// Names begin with the process's number.
static void remove_stale(const fs::path& parent) {
    std::error_code failure;
    for (const auto& entry : fs::directory_iterator(parent, failure)) {
        const std::string name = entry.path().filename().string();
        pid_t pid = 0;
        const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (bad == std::errc() && *end == '-' && pid > 0 && kill(pid, 0) != 0 && errno == ESRCH)
            fs::remove_all(entry.path(), failure);
    }
}

ScratchFolder::ScratchFolder(const fs::path& cache) {
    static std::atomic<int> count = 0;
    const fs::path parent = cache / "scratch";
    remove_stale(parent);
    path_ = parent / (std::to_string(getpid()) + "-" + std::to_string(++count));
    std::error_code failure;
    fs::remove_all(path_, failure);
    fs::create_directories(path_, failure);
    if (failure || access(path_.c_str(), W_OK) != 0)
        throw Error("cannot write to the cache folder '" + cache.string() + "'", "set TESSERA_CACHE to one you can");
}

ScratchFolder::~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
}

}  // namespace tessera
