// core/bounds.h - how long a step must take at least, from the times of its tasks: efficiency = bound / measured.
#pragma once
#include <string>
#include <vector>

#include "core/plan.h"

namespace tessera {

// Tasks of one kind: how many per step, and the time of one on each kind of worker (NaN or infinite: cannot run there).
struct WorkClass {
    double count;
    std::vector<double> time_s;
    std::vector<double> link_bytes = {};  // that one such task brings over the link of each kind; empty: none
};

// Least time in which workers[k] workers of each kind k could do all the work if it could be split freely: the linear
// program min T, sum_k x_ck = count_c, sum_c x_ck time_ck <= T workers_k, x >= 0. Throws Error if a class runs nowhere.
double area_bound(const std::vector<WorkClass>&, const std::vector<int>& workers);

// The same where each kind k also has a link of bytes_per_s[k] (NaN or 0: none that limits): adds
// sum_c x_ck link_bytes_ck <= T bytes_per_s_k. Never below area_bound().
double transfer_bound(const std::vector<WorkClass>&, const std::vector<int>& workers,
                      const std::vector<double>& bytes_per_s);

// Bytes per task of what must come from host memory if the task runs elsewhere: tiles that only CPU workers can have
// written, each shared evenly among the tasks of the step that read it, so that no transfer is counted twice.
std::vector<double> host_bytes(const Plan&);

// Time that each further step adds to the longest path through many steps: what pipelining steps cannot hide.
double critical_path(const Plan&, const std::vector<double>& times, bool ordered);

struct Bound {
    double seconds = 0;
    std::string kind;  // "critical path", "area" or "transfers": the one that binds
};
Bound step_bound(const Plan&, const std::vector<double>& fastest_times, bool ordered, const std::vector<WorkClass>&,
                 const std::vector<int>& workers, const std::vector<double>& bytes_per_s = {});

}  // namespace tessera
