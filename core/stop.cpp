#include "core/stop.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>

namespace tessera {
namespace {

// A handler may interrupt whoever allocates or holds a lock, so all is in place and goes by atomics.
struct Place {
    std::atomic<bool> taken{false}, valid{false};
    pid_t owner = 0;  // a child's copy removes nothing
    char path[PATH_MAX];
};
constexpr int places = 100;
Place table[places];

// opendir() allocates.
struct Entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[1];
};

void remove_at(int folder, const char* name, int depth);

void empty_folder(int folder, int depth) {
    alignas(Entry) char buffer[4096];
    long bytes = 0;
    while ((bytes = syscall(SYS_getdents64, folder, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < bytes;) {
            const auto* entry = reinterpret_cast<const Entry*>(buffer + at);
            const char* name = entry->name;
            const bool self = name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
            if (!self) remove_at(folder, name, depth + 1);
            at += entry->length;
        }
}

void remove_at(int folder, const char* name, int depth) {
    constexpr int deepest = 8, attempts = 3;  // other threads may still make files
    if (unlinkat(folder, name, 0) == 0 || (errno != EISDIR && errno != EPERM) || depth > deepest) return;
    for (int attempt = 0; attempt < attempts; ++attempt) {
        const int inside = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (inside < 0) return;
        empty_folder(inside, depth);
        close(inside);
        if (unlinkat(folder, name, AT_REMOVEDIR) == 0 || errno != ENOTEMPTY) return;
    }
}

void stop(int signal) {
    const int error = errno;
    remove_what_goes();
    errno = error;
    std::signal(signal, SIG_DFL);
    raise(signal);  // which is blocked until this returns
}

}  // namespace

GoesWithProcess::GoesWithProcess(const std::filesystem::path& path) {
    std::error_code failure;
    const std::string text = std::filesystem::absolute(path, failure).string();
    if (failure || text.size() >= PATH_MAX) return;
    for (int i = 0; i < places && place_ < 0; ++i)
        if (bool free = false; table[i].taken.compare_exchange_strong(free, true)) place_ = i;
    if (place_ < 0) return;
    Place& place = table[place_];
    place.owner = getpid();
    std::memcpy(place.path, text.c_str(), text.size() + 1);
    place.valid = true;
}

GoesWithProcess::~GoesWithProcess() {
    if (place_ < 0) return;
    table[place_].valid = false;
    table[place_].taken = false;
}

void remove_what_goes() {
    for (Place& place : table)
        if (place.valid && place.owner == getpid()) remove_at(AT_FDCWD, place.path, 0);
}

void install_stop_handler() {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction now {};
        if (sigaction(signal, nullptr, &now) != 0 || now.sa_handler != SIG_DFL) continue;
        now.sa_handler = stop;
        sigaction(signal, &now, nullptr);
    }
}

}  // namespace tessera
