// core/trace.h - what happened when: a ring buffer per worker of finished tasks, transfers per pair of memory nodes,
// memory in use. Fed by the executor; works in simulation, too, where all times are simulated.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace tessera {

class Plan;

// Times in microseconds since StarPU's start.
struct TaskEvent {
    double fetch_us = 0, start_us = 0, end_us = 0;  // inputs are being fetched from fetch_us to start_us
    int32_t plan = 0, task = 0, worker = 0, implementation = 0;
    int64_t step = 0;          // counts submissions of the executor
    int64_t memory_bytes = 0;  // in use on the worker's memory node at the end
};
struct LinkEvent {  // the sum of what went over a link in that time
    double start_us = 0, end_us = 0;
    int32_t from = 0, to = 0;  // memory nodes
    int64_t bytes = 0;
};
struct WorkerTotals {
    int64_t tasks = 0;
    double busy_us = 0, fetch_us = 0;
};

// Names and events in one: what the writers of pictures take.
struct TraceData {
    struct Worker {
        std::string name;
        bool cuda = false;
        int node = 0;
    };
    struct Task {
        std::string op, layer, tile;  // "gemm_f32", "fc1", "y(0,1)"
        double flops = 0;
    };
    std::vector<Worker> workers;
    std::vector<std::string> nodes;             // memory nodes
    std::vector<std::vector<Task>> plans;       // [plan][task]
    std::vector<std::vector<TaskEvent>> tasks;  // [worker], by end
    std::vector<LinkEvent> links;               // by start
    int64_t dropped = 0;                        // events that the rings had no place for any more: the oldest
};

class Trace {
 public:
    explicit Trace(size_t events_per_worker = size_t(1) << 16);
    ~Trace();
    Trace(const Trace&) = delete;
    Trace& operator=(const Trace&) = delete;

    // From the worker that ran the task; each worker writes its own ring only.
    void task(const TaskEvent&);
    // What went over a link; as many are kept as tasks of a worker, for every link.
    void link(const LinkEvent&);
    // Adds what has gone over each bus since the last sample as one event per pair of nodes, no faster than the bus was
    // measured; samples are at least 200 us apart, unless the counters are wanted at once.
    void sample_links(bool at_once = false);

    std::vector<WorkerTotals> totals() const;
    std::vector<int64_t> peak_memory_bytes() const;          // per memory node, at ends of tasks
    std::vector<std::array<int64_t, 3>> link_bytes() const;  // from, to, bytes; pairs with traffic only
    TraceData data(const std::vector<const Plan*>&) const;   // when all tasks are done

 private:
    struct Ring;
    void add_link(const LinkEvent&);  // under the mutex
    std::vector<std::unique_ptr<Ring>> rings_;
    std::vector<std::atomic<int64_t>> peak_;
    mutable std::mutex mutex_;
    std::vector<LinkEvent> links_;  // a ring, too
    size_t link_capacity_, next_link_ = 0;
    std::map<std::pair<int, int>, int64_t> link_bytes_;    // of all that ever went from one node to another
    std::map<std::pair<int, int>, double> busy_until_us_;  // of links, by what was sampled
    std::atomic<double> last_sample_us_ = 0;
};

}  // namespace tessera
