// models/calibration.h - measures what the tasks of a plan take: each distinct (codelet, footprint), by each
// implementation, on each kind of worker, with all workers busy. No training: tasks run on made-up values.
#pragma once
#include <functional>

#include "core/executor.h"
#include "models/machine.h"

namespace tessera {

struct CalibrationOptions {
    int64_t samples = least_samples + 2;  // per device and implementation, after one that is not counted
    bool reset = false;                   // measures what is there and current, too
    std::string command;                  // noted with what is measured
    // Called before each measurement with how many of `total` are done.
    std::function<void(int64_t done, int64_t total, const std::string& what)> progress;
};
struct CalibrationResult {
    int64_t measured = 0, present = 0;  // (codelet, footprint, device, implementation) quadruples
    int64_t spikes = 0;                 // times over three medians, left out
};

// Entries of `machine` that are missing, have fewer samples, are estimates or come from another source of their op are
// measured and merged into its files, one codelet at a time under a lock: an interrupted run keeps what it has, and two
// at once keep each other's. The runtime must keep its own models elsewhere (STARPU_PERF_MODEL_DIR): StarPU writes
// them when it stops.
CalibrationResult calibrate(const Runtime&, Machine&, const std::vector<const Plan*>&, const Step&,
                            const CalibrationOptions&);

// Reads a machine's facts, lets `change` work on them, and writes them, under the same lock.
void change_facts(const std::filesystem::path& folder, const std::function<void(MachineFacts&)>& change);

// One class of tasks once more: median microseconds, or nothing if no plan holds it.
std::optional<double> remeasure(const Runtime&, const std::vector<const Plan*>&, const Step&,
                                const std::string& codelet, uint32_t footprint, int implementation);

}  // namespace tessera
