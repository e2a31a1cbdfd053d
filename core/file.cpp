#include "core/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "core/error.h"

namespace tessera {
namespace fs = std::filesystem;

static fs::path folder_of(const fs::path& path) { return path.parent_path().empty() ? "." : path.parent_path(); }

// Renaming replaces what is there: a link's target is meant, not the link, and a device or pipe must survive.
static fs::path replaceable(const fs::path& path) {
    std::error_code failure;
    const auto status = fs::status(path, failure);
    if (fs::is_directory(status)) throw Error("cannot write '" + path.string() + "': it is a folder, not a file");
    if (fs::exists(status) && !fs::is_regular_file(status))
        throw Error("cannot write '" + path.string() + "': not a regular file");
    if (!fs::is_symlink(fs::symlink_status(path, failure))) return path;
    const fs::path target = fs::weakly_canonical(path, failure);
    return failure ? path : target;
}

Descriptor::~Descriptor() {
    if (value_ >= 0) close(value_);
}
int Descriptor::release() { return std::exchange(value_, -1); }

AtomicFile::AtomicFile(fs::path path) : path_(replaceable(path)) {
    temporary_ = path_.string() + ".tmp-" + std::to_string(getpid());
    goes_.emplace(temporary_);
    descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    check_system(descriptor_ >= 0, "cannot write '" + path_.string() + "'", "is the folder there, and writable?");
    flock(descriptor_, LOCK_EX | LOCK_NB);  // for remove_stale_files(); where there are no locks, none says it is stale
}

AtomicFile::~AtomicFile() {
    if (descriptor_ < 0) return;
    close(descriptor_);
    unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
    for (auto* p = static_cast<const char*>(data); bytes > 0;) {
        const ssize_t n = ::write(descriptor_, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        check_system(n > 0, "cannot write '" + path_.string() + "'", "nothing was replaced; free some space");
        p += n, bytes -= size_t(n);
    }
}

void AtomicFile::commit() {
    check_system(fsync(descriptor_) == 0, "cannot write '" + path_.string() + "'", "nothing was replaced");
    check_system(close(std::exchange(descriptor_, -1)) == 0, "cannot write '" + path_.string() + "'");
    if (rename(temporary_.c_str(), path_.c_str()) != 0) {
        const int reason = errno;
        unlink(temporary_.c_str());
        errno = reason;
        check_system(false, "cannot rename to '" + path_.string() + "'");
    }
    const fs::path folder = folder_of(path_);
    if (int d = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); d >= 0) {
        fsync(d);  // makes the rename itself durable; not every file system offers it, so its failure is no error
        close(d);
    }
}

std::vector<uint8_t> read_file(const fs::path& path, int64_t limit_bytes) {
    const int d = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe without writers would wait for one
    check_system(d >= 0, "cannot read '" + path.string() + "'");
    struct stat status {};
    const bool regular = fstat(d, &status) == 0 && S_ISREG(status.st_mode);
    if (!regular || status.st_size > limit_bytes) {
        close(d);
        throw Error("cannot read '" + path.string() + "': " +
                    (regular ? "it has " + std::to_string(status.st_size) + " bytes, more than the " +
                                   std::to_string(limit_bytes) + " expected"
                             : "not a regular file"));
    }
    std::vector<uint8_t> bytes(size_t(status.st_size));
    size_t done = 0;
    while (done < bytes.size()) {
        const ssize_t n = read(d, bytes.data() + done, bytes.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += size_t(n);
    }
    close(d);
    if (done != bytes.size()) throw Error("cannot read '" + path.string() + "': it ended early");
    return bytes;
}

void write_file(const fs::path& path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

void remove_stale_files(const fs::path& folder, std::string_view of) {
    std::error_code failure;
    for (const auto& entry : fs::directory_iterator(folder, failure)) {
        const std::string name = entry.path().filename().string();
        const size_t at = name.rfind(".tmp-");
        if (at == std::string::npos || (!of.empty() && std::string_view(name).substr(0, at) != of)) continue;
        const std::string pid = name.substr(at + 5);
        if (pid.empty() || pid.size() > 9 || pid.find_first_not_of("0123456789") != std::string::npos) continue;
        if (kill(pid_t(std::stol(pid)), 0) == 0 || errno != ESRCH) continue;
        const Descriptor file(open(entry.path().c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
        if (file.value() >= 0 && flock(file.value(), LOCK_EX | LOCK_NB) == 0) unlink(entry.path().c_str());
    }
}

FolderLock::FolderLock(const fs::path& folder)
    : file_(open((folder / ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644)) {
    while (file_.value() >= 0 && flock(file_.value(), LOCK_EX) != 0 && errno == EINTR) {}
}

void require_writable(const fs::path& path, std::string_view what) {
    try {
        AtomicFile probe(path);
        remove_stale_files(folder_of(path), path.filename().string());
    } catch (const Error& e) { throw Error(std::string(what) + ": " + e.what(), e.hint()); }
}

}  // namespace tessera
