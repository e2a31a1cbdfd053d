// core/list_schedule.h - a plan on several devices without running it: list scheduling with transfers (HEFT, with or
// without insertion: Topcuoglu, Hariri, Wu 2002, IEEE TPDS 13(3)), step after step until they follow each other evenly,
// and a search over orders and placements around it.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/plan.h"

namespace tessera {

// Where tasks may run. Memory 0 is the host's. A memory sends one tile at a time, and receives one; transfers between
// different memories share the links that they have in common.
struct Devices {
    std::vector<int> kind;                                    // of every worker: its row of the times
    std::vector<int> memory;                                  // of every worker
    std::vector<std::vector<double>> latency_s, bytes_per_s;  // [from][to] memory
    std::vector<std::vector<std::vector<int>>> links = {};    // [from][to]: rows of the next; empty: none is shared
    std::vector<double> link_bytes_per_s = {};
    std::vector<double> fetch_s = {};  // of every memory: of its worker's own time, for each tile that comes; or empty
    bool sent_on = false;              // a tile goes when it is written; else when its reader waits for nothing else
    bool insertion = false;            // tasks and transfers go into idle times before others that were placed earlier
    int workers() const { return int(kind.size()); }
    double fetching(int memory) const { return fetch_s.empty() ? 0 : fetch_s[size_t(memory)]; }
    int memories() const { return int(latency_s.size()); }
    double transfer_s(int from, int to, int64_t bytes) const {
        return latency_s[size_t(from)][size_t(to)] + double(bytes) / bytes_per_s[size_t(from)][size_t(to)];
    }
};

struct Placement {
    double step_s = 0;        // that each further step adds
    std::vector<int> worker;  // of every task
    std::vector<int> order;   // tasks, as they were given to workers: each behind those that it waits for
    struct Time {
        double start_s, takes_s;
    };
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

    // Greedy choices on all, one, two ... devices, then simulated annealing (Kirkpatrick, Gelatt, Vecchi 1983,
    // Science 220) over the places of families and of neighbouring tasks, and over the order: `tries` changes of the
    // best of them and of the best on half, a quarter ... of the devices, each twice or more, in a thread each. At
    // times the worse half of these chains goes on from where the better half is (Aldous, Vazirani 1994, FOCS). What
    // they have found, the best first: it is never worse than greedy({}) or than the best single device with the host,
    // or than the best of `starts`: schedules that are known, from which chains go on.
    std::vector<Placement> search(int tries, std::vector<Placement> starts = {}, uint64_t seed = 1) const;

    // Tasks by their longest path to the end, none before what it waits for.
    std::vector<int> by_rank() const { return order_by(ranks_); }
    // Of given workers, tasks in a given order.
    double step_seconds(const Placement&) const;
    // Of every task, from the end of the step before.
    std::vector<Placement::Time> times(const Placement&) const;
    // The same with tasks in the order in which they start, each behind those that it waits for: with insertion another
    // than they were placed in.
    Placement by_start(Placement) const;

 private:
    friend class ScheduleSearch;
    struct Clock;
    struct Use {
        int tile;  // or the one in whose memory it lies: whatever comes there later waits
        bool reads, writes;
        int64_t bytes;
    };
    std::span<const Use> uses(int task) const {
        return {uses_.data() + first_use_[size_t(task)], uses_.data() + first_use_[size_t(task) + 1]};
    }
    double seconds(int task, int worker) const { return times_[size_t(devices_.kind[size_t(worker)])][size_t(task)]; }
    std::vector<int> order_by(const std::vector<double>& rank) const;
    bool runs_on(int worker, int task) const;
    double ready(const Clock&, int task) const;
    int source_of(const Clock&, const Use&, int to) const;
    double start_of(const Clock&, const Use&, int from, int to, double earliest) const;
    double finish(const Clock&, int task, int worker, double reluctance) const;
    double run(Clock&, int task, int worker) const;  // when it starts
    void send(Clock&, const Use&, int from, int to, double earliest) const;
    std::vector<std::vector<bool>> device_sets() const;
    std::vector<bool> workers_in(int first, int last) const;

    const Plan& plan_;
    std::vector<std::vector<double>> times_;
    Devices devices_;
    std::vector<std::vector<int>> before_, after_;
    std::vector<Use> uses_;  // task after task
    std::vector<size_t> first_use_;
    std::vector<double> ranks_;
};

}  // namespace tessera
