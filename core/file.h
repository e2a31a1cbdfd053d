// core/file.h - files that are whole or absent: written to a temporary name, fsync'ed, renamed.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "core/stop.h"

namespace tessera {

class Descriptor {  // closes itself
 public:
    explicit Descriptor(int value = -1) : value_(value) {}
    ~Descriptor();
    Descriptor(Descriptor&& other) : value_(other.release()) {}
    Descriptor& operator=(Descriptor&& other) {
        std::swap(value_, other.value_);
        return *this;
    }
    int value() const { return value_; }
    int release();

 private:
    int value_;
};

// Writes `path`.tmp-<pid>; `commit()` makes it `path`. Without commit (an exception, a signal) the temporary goes away.
// Throws Error naming the path: missing folder, no permission, full disk.
class AtomicFile {
 public:
    explicit AtomicFile(std::filesystem::path path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;
    void write(const void* data, size_t bytes);
    void write(std::string_view text) { write(text.data(), text.size()); }
    void commit();

 private:
    std::filesystem::path path_, temporary_;
    std::optional<GoesWithProcess> goes_;
    int descriptor_ = -1;
};

// Whole file as bytes. Throws Error if it cannot be read or is larger than `limit_bytes`.
std::vector<uint8_t> read_file(const std::filesystem::path& path, int64_t limit_bytes = int64_t(1) << 40);

void write_file(const std::filesystem::path& path, std::string_view text);

// Deletes the temporary files that killed processes left in a folder; each may be as large as a checkpoint. With `of`
// only those of the file of that name. A process is alive if this host knows its number or, as others may share the
// folder, if it holds its file's lock.
void remove_stale_files(const std::filesystem::path& folder, std::string_view of = {});

// One process at a time works on a folder's files, where the file system has locks and the folder can be written; where
// not, all do.
class FolderLock {
 public:
    explicit FolderLock(const std::filesystem::path& folder);

 private:
    Descriptor file_;
};

// Throws Error now, before an hour of work, if a file could not be written at `path` later.
void require_writable(const std::filesystem::path& path, std::string_view what);

}  // namespace tessera
