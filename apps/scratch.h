// apps/scratch.h - a folder in the cache for as long as it is needed; what killed processes left is removed by the
// next.
#pragma once
#include <filesystem>

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
};

}  // namespace tessera
