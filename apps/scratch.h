// apps/scratch.h - a folder in the cache for as long as it is needed; what killed processes left is removed by the
// next. The cache may be shared by hosts and containers, which do not know each other's processes: who lives holds the
// lock of a file in its folder.
#pragma once
#include <filesystem>

#include "core/file.h"

namespace tessera {

class ScratchFolder {
 public:
    explicit ScratchFolder(const std::filesystem::path& cache);  // throws Error if it cannot be made
    ~ScratchFolder();
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;
    const std::filesystem::path& path() const { return path_; }

 private:
    std::filesystem::path path_;
    Descriptor lock_;
};

}  // namespace tessera
