// models/task_bench.h - single tasks of a plan on made-up values, each on a worker and by an implementation that are
// named: what calibration measures, alone and in company.
#pragma once
#include <map>
#include <vector>

#include "core/executor.h"
#include "core/trace.h"
#include "models/model_file.h"

namespace tessera {

// One distinct (codelet, footprint): a task that stands for all of them.
struct TaskClass {
    const Plan* plan;
    const TaskSpec* task;
    int64_t among_bytes;  // what all tasks of the plans touch
    // Of each tile: most such tasks find it in their core's cache, where plans are run in order.
    std::vector<bool> at_hand;
    int64_t bytes() const;  // of the tiles that are not at hand
};
// Of the plans' tasks; a codelet's classes are neighbours.
std::vector<TaskClass> classes_of(const std::vector<const Plan*>& plans);

int implementations(const CodeletInfo&, bool cuda);

// Workers by the device whose model they share. Of a GPU with several only the first, if `alone`.
std::map<ModelDevice, std::vector<int>> workers_by_device(const Runtime&, bool alone);

// The same task again and again on each worker, on tiles of its own with the original's leading dimensions. Values are
// in [0.1, 0.9), so that no body meets NaN, denormals or a negative second moment; integers are 0, a valid label.
class TaskBench {
 public:
    // `repeat` runs on one worker that shares its cache with `sharing` workers, after a first run on each set of tiles:
    // their values were made by another core. Returns the number of those first runs.
    int64_t add(const TaskClass&, int worker, int implementation, int64_t repeat, int64_t sharing);
    // What ran, by worker.
    std::vector<std::vector<TaskEvent>> run(const Runtime&, const Step&);

 private:
    // Those at hand are `first`'s, if it is given.
    TaskSpec on_own_tiles(const TaskClass&, int worker, int implementation, const TaskSpec* first);
    int add_tile(const Plan& from, int number);
    Params params_;
    Plan plan_;
};

}  // namespace tessera
