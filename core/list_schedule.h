// core/list_schedule.h - a plan on several devices without running it: list scheduling with transfers (HEFT without
// insertion: Topcuoglu, Hariri, Wu 2002, IEEE TPDS 13(3)), step after step until they follow each other evenly, and a
// search over orders and placements around it.
#pragma once
#include <cstdint>
#include <vector>

#include "core/plan.h"

namespace tessera {

// Where tasks may run. Memory 0 is the host's. A memory sends one tile at a time, and receives one.
struct Devices {
    std::vector<int> kind;                                    // of every worker: its row of the times
    std::vector<int> memory;                                  // of every worker
    std::vector<std::vector<double>> latency_s, bytes_per_s;  // [from][to] memory
    int workers() const { return int(kind.size()); }
    int memories() const { return int(latency_s.size()); }
    double transfer_s(int from, int to, int64_t bytes) const {
        return latency_s[size_t(from)][size_t(to)] + double(bytes) / bytes_per_s[size_t(from)][size_t(to)];
    }
};

struct Placement {
    double step_s = 0;        // that each further step adds
    std::vector<int> worker;  // of every task
    std::vector<int> order;   // tasks, as they were given to workers: each behind those that it waits for
    int workers_used() const;
};

class ListScheduler {
 public:
    // times_s[kind][task]; infinite or NaN: cannot run there. Throws Error naming an op that runs nowhere.
    ListScheduler(const Plan&, std::vector<std::vector<double>> times_s, Devices, bool ordered);

    // Every task, in the order of its longest path to the end, to the worker that would end it first. Ranks are
    // perturbed by up to `noise` of themselves; transfers count `reluctance` times where workers are compared.
    struct Choice {
        double noise = 0, reluctance = 1;
        uint64_t seed = 0;
        std::vector<bool> allowed = {};  // of workers; empty: all. What runs on none of them goes to any.
    };
    Placement greedy(const Choice&) const;

    // The best of greedy choices on all, one, two ... GPUs, then of moves of single nodes: `tries` schedules in all.
    // Never worse than greedy({}) or than the best single device with the host.
    Placement search(int tries, uint64_t seed = 1) const;

    // Tasks by their longest path to the end, none before what it waits for.
    std::vector<int> by_rank() const { return order_by(ranks_); }
    // Of given workers, tasks in a given order.
    double step_seconds(const Placement&) const;

 private:
    struct Clock;
    std::vector<int> order_by(const std::vector<double>& rank) const;
    bool runs_on(int worker, int task) const;
    double ready(const Clock&, int task) const;
    double finish(const Clock&, int task, int worker, double reluctance) const;
    void run(Clock&, int task, int worker) const;
    std::vector<std::vector<bool>> device_sets() const;

    const Plan& plan_;
    std::vector<std::vector<double>> times_;
    Devices devices_;
    std::vector<std::vector<int>> before_, after_;
    std::vector<double> ranks_;
};

}  // namespace tessera
