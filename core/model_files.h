// core/model_files.h - StarPU's files of performance models, which several processes may have open: StarPU reads them
// when a codelet is first used and writes them all, in place, when it ends.
#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "core/file.h"

namespace tessera {

// From before StarPU starts until after it has ended.
class ModelFiles {
 public:
    explicit ModelFiles(std::filesystem::path folder);  // waits while others start or end there
    void started();                                     // StarPU has its bus
    void ends();                                        // now StarPU writes
    // What others wrote since the start stays: a calibration that ended while this program ran is not undone. Where
    // StarPU could not write a file to its end, as on a full disk, all are put back as they were, and a line on stderr
    // says so.
    ~ModelFiles();

 private:
    bool torn() const;
    void put_back() const;

    std::filesystem::path folder_;
    std::unique_ptr<FolderLock> lock_;
    std::map<std::filesystem::path, std::filesystem::file_time_type> at_start_;
    std::map<std::filesystem::path, std::string> before_;  // when StarPU began to write
    std::set<std::filesystem::path> of_others_;            // written by others since the start
};

// Does a model hold all the lines that its own counts promise, the last one with its end? Lines are not understood.
bool is_whole_model(std::string_view text);

}  // namespace tessera
