// core/scratch.h - a folder for as long as it is needed, which goes with the process; what killed processes left is
// removed by the next. It may be made where hosts and containers share files, which do not know each other's processes:
// who lives holds the lock of a file in its folder.
#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "core/file.h"
#include "core/stop.h"

namespace tessera {

class ScratchFolder {
 public:
    explicit ScratchFolder(const std::filesystem::path& cache);  // below it; throws Error if it cannot be made
    // In `parent`, which is the user's: `prefix` and six letters. Throws Error.
    ScratchFolder(const std::filesystem::path& parent, const std::string& prefix);
    ~ScratchFolder();
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;
    const std::filesystem::path& path() const { return path_; }

 private:
    bool make(const std::filesystem::path& parent, const std::string& prefix);
    std::filesystem::path path_;
    std::optional<GoesWithProcess> goes_;
    Descriptor lock_;
};

}  // namespace tessera
