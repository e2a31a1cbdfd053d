// apps/worker_peaks.h - what workers do at best with tasks like any program's: products in each type, and copies.
#pragma once
#include <string>
#include <vector>

#include "core/runtime.h"
#include "models/machine.h"

namespace tessera {

struct WorkerPeaks {
    WorkerInfo worker;
    DeviceFacts best;  // a GPU's name as its driver gives it; GFLOP/s of products, GB/s read and written by a copy
};

// The CPU workers, or one worker of each GPU, all of them busy with tasks pinned to them; about `seconds`. Times are
// those of a trace. The tasks have no performance model: nothing of this is kept with the machine's. Throws what failed
// in a task.
std::vector<WorkerPeaks> measure_workers(const Runtime&, bool cuda, double seconds);

// Figures that are above the published ones, or below a third of them, a line each.
std::vector<std::string> odd_peaks(const WorkerPeaks&, const DeviceFacts& published);

}  // namespace tessera
