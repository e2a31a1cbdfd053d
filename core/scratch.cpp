#include "core/scratch.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/error.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

const char* const lock_name = ".in-use";

// Stale is what can be locked: where the file system has no locks, nothing is. A folder gets its file when that is
// locked already, so one without is being made or removed, unless that was long ago.
bool is_stale(const fs::path& folder) {
    std::error_code failure;
    const fs::path file = folder / lock_name;
    if (fs::exists(file, failure)) {
        const Descriptor lock(open(file.c_str(), O_RDWR | O_CLOEXEC));
        return lock.value() >= 0 && flock(lock.value(), LOCK_EX | LOCK_NB) == 0;
    }
    const auto changed = fs::last_write_time(folder, failure);
    return !failure && fs::file_time_type::clock::now() - changed > std::chrono::hours(1);
}

void remove_stale(const fs::path& parent, const std::string& prefix) {
    std::error_code failure;
    for (const auto& entry : fs::directory_iterator(parent, failure)) {
        const std::string name = entry.path().filename().string();
        const bool ours = prefix.empty() || (name.starts_with(prefix) && name.size() == prefix.size() + 6);
        if (ours && entry.is_directory(failure) && is_stale(entry.path())) fs::remove_all(entry.path(), failure);
    }
}

Descriptor locked(const fs::path& folder) {
    const fs::path file = folder / lock_name, fresh = file.string() + ".new";
    Descriptor lock(open(fresh.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    flock(lock.value(), LOCK_EX | LOCK_NB);
    if (lock.value() >= 0) rename(fresh.c_str(), file.c_str());
    return lock;
}

}  // namespace

bool ScratchFolder::make(const fs::path& parent, const std::string& prefix) {
    remove_stale(parent, prefix);
    std::string name = (parent / (prefix + "XXXXXX")).string();
    if (!mkdtemp(name.data())) return false;
    path_ = name;
    goes_.emplace(path_);
    lock_ = locked(path_);
    return lock_.value() >= 0;
}

ScratchFolder::ScratchFolder(const fs::path& cache) {
    std::error_code failure;
    fs::create_directories(cache / "scratch", failure);
    if (!make(cache / "scratch", ""))
        throw Error("cannot write to the cache folder '" + cache.string() + "'", "set TESSERA_CACHE to one you can");
}

ScratchFolder::ScratchFolder(const fs::path& parent, const std::string& prefix) {
    check_system(make(parent, prefix), "cannot write to the folder '" + parent.string() + "'");
}

ScratchFolder::~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
}

}  // namespace tessera
