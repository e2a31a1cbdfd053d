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
};

// Least time in which workers[k] workers of each kind k could do all the work if it could be split freely: the linear
// program min T, sum_k x_ck = count_c, sum_c x_ck time_ck <= T workers_k, x >= 0. Throws Error if a class runs nowhere.
double area_bound(const std::vector<WorkClass>&, const std::vector<int>& workers);

// Time that each further step adds to the longest path through many steps: what pipelining steps cannot hide.
double critical_path(const Plan&, const std::vector<double>& times, bool ordered);

struct Bound {
    double seconds = 0;
    std::string kind;  // "critical path" or "area": the one that binds
};
Bound step_bound(const Plan&, const std::vector<double>& fastest_times, bool ordered, const std::vector<WorkClass>&,
                 const std::vector<int>& workers);

}  // namespace tessera
