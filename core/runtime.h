// core/runtime.h - StarPU, started with sensible defaults and looked at before it can hang: environment, limits,
// workers.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/model_files.h"
#include "core/stall.h"

namespace tessera {

class ScratchFolder;

struct RuntimeOptions {
    std::optional<int64_t> gpu_memory_bytes;   // STARPU_LIMIT_CUDA_MEM
    std::optional<int64_t> host_memory_bytes;  // STARPU_LIMIT_CPU_MEM; needs `swap`
    std::string swap;                          // folder for what does not fit
    int cpu_workers = -1;                      // -1: as StarPU's variables say
    bool streamed = false;  // host_memory_bytes and swap are kept by who asks, not by StarPU (codelets/tile_io.h)
    bool blocked = false;   // plans are in blocks that fill memories (core/blocks.h): defaults for that
    bool one_size = false;  // all tiles are of one size: StarPU may cut them from larger pieces of a limited memory
    bool placed = false;    // plans say where their tasks run (core/list_schedule.h): likewise
};

struct WorkerInfo {
    int id;
    std::string name;
    bool cuda;
    unsigned node;
};

inline constexpr int most_streams = 32;  // of a GPU: STARPU_NWORKER_PER_CUDA

// One at a time. The constructor throws Error or UsageError instead of letting StarPU warn, hang or abort.
class Runtime {
 public:
    explicit Runtime(const RuntimeOptions& = {});
    ~Runtime();
    Runtime(const Runtime&) = delete;
    Runtime& operator=(const Runtime&) = delete;

    const Config& config() const { return config_; }
    std::string policy() const;
    std::vector<WorkerInfo> workers() const;
    int cpu_workers() const;
    int cuda_workers() const;
    // Limit of a memory node in bytes, or 0 for none.
    int64_t limit_bytes(unsigned node) const;
    int64_t swap_bytes() const;  // free on the disk of the swap folder, or 0 without one
    Activity& activity() const { return *activity_; }
    bool in_place() const { return !options_.host_memory_bytes || options_.streamed; }  // false: tiles may go to disk

 private:
    Config config_;
    RuntimeOptions options_;
    std::unique_ptr<ScratchFolder> swap_;
    std::unique_ptr<ModelFiles> model_files_;
    std::unique_ptr<Activity> activity_;
    std::unique_ptr<StallGuard> stall_guard_;
};

std::string node_name(unsigned node);  // a memory node as StarPU calls it: "NUMA 0", "CUDA 1"

std::vector<std::string> known_policies();

// StarPU takes the bus of a machine of this name from the user's home, or from its own installed files, before it
// measures one for `folder`, and writes where it has read: over a machine that it came with. Copies the bus to `folder`
// if there is none yet.
void adopt_bus(const std::filesystem::path& folder);

// One line on stderr if the process aborts (StarPU asserts do), besides what StarPU printed.
void install_abort_handler();

}  // namespace tessera
