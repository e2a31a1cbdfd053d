// apps/summary.h - what a run came to: share of time per worker, efficiency against the bound that binds, memory.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/bounds.h"
#include "core/executor.h"
#include "models/machine.h"

namespace tessera {

struct WorkerShare {
    std::string name;
    double tasks, transfers, idle;  // fractions of the time
};

// Counters of all workers; the difference of two is what happened between.
struct WorkerClock {
    std::vector<double> busy_s, transfer_s;
};

// Reads them. StarPU's profiling forgets what it has told: the sums are kept here, so a run has one reader. Both
// arguments must outlive it.
class WorkerCounters {
 public:
    WorkerCounters(const Runtime& runtime, const Executor& executor) : runtime_(runtime), executor_(executor) {}
    WorkerClock now();

 private:
    const Runtime& runtime_;
    const Executor& executor_;
    std::vector<double> executing_s_, waiting_s_;  // per worker, since the first reading
};
std::vector<WorkerShare> worker_shares(const Runtime&, const WorkerClock& before, const WorkerClock& after,
                                       double seconds);

// Bound of one step of a plan from the times that its tasks took in this run (CPU) or in StarPU's models (CUDA).
Bound measured_bound(const Runtime&, const Executor&, int plan);

// The same from a machine's models: for simulation, and before a run.
Bound model_bound(const Runtime&, const Plan&, const Machine&, bool ordered);

// Most live bytes seen, per memory node.
class MemoryPeak {
 public:
    void sample(const Executor&);
    const std::vector<int64_t>& per_node() const { return peak_; }
    int64_t total() const { return total_; }

 private:
    std::vector<int64_t> peak_;
    int64_t total_ = 0;
};

}  // namespace tessera
