// graphs/checkpoint.h - all state of a training in one safetensors file. Copies are tasks, and a thread of its own
// writes them, so that training goes on; the file is replaced whole or not at all.
#pragma once
#include <filesystem>
#include <future>
#include <map>

#include "core/executor.h"
#include "data/safetensors.h"

namespace tessera {

class Checkpoint {
 public:
    // Names and values that describe the run (network, optimizer, seed ...). A checkpoint with others is refused, and
    // the first that differs is told.
    using Facts = std::vector<std::pair<std::string, std::string>>;
    Checkpoint(Executor&, std::vector<const Params*>, std::filesystem::path file, Facts);
    ~Checkpoint();

    // Takes the state as it is after the steps submitted so far, `step` of them. Waits only for an earlier save. `note`
    // is the caller's, given back by load().
    void save(int64_t step, const std::string& note = "");
    void wait();  // until the file is there; throws what failed

    struct Found {
        int64_t step;
        std::string note;
    };
    // Puts the file's state in place. Throws Error naming file, tensor and shapes.
    Found load();
    bool exists() const { return std::filesystem::exists(file_); }
    const std::filesystem::path& file() const { return file_; }

 private:
    void write(int64_t step, const std::string& note, int64_t failures_before);

    Executor& executor_;
    std::vector<const Param*> params_, shadows_;
    Params shadow_storage_;
    std::filesystem::path file_;
    Facts facts_;
    int plan_ = -1;
    std::future<void> writing_;
};

}  // namespace tessera
