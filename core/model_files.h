// core/model_files.h - StarPU's files of performance models, which several processes may have open: StarPU reads them
// when a codelet is first used and writes them all, in place, when it ends.
#pragma once
#include <filesystem>
#include <map>
#include <memory>

#include "core/file.h"

namespace tessera {

// From before StarPU starts until after it has ended.
class ModelFiles {
 public:
    explicit ModelFiles(std::filesystem::path folder);  // waits while others start or end there
    void started();                                     // StarPU has its bus
    void ends();                                        // now StarPU writes
    // What others wrote since the start stays: a calibration that ended while this program ran is not undone.
    ~ModelFiles();

 private:
    std::filesystem::path folder_;
    std::unique_ptr<FolderLock> lock_;
    std::map<std::filesystem::path, std::filesystem::file_time_type> at_start_;
    std::map<std::filesystem::path, std::string> of_others_;
};

}  // namespace tessera
