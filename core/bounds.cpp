#include "core/bounds.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/linear_program.h"

namespace tessera {

static double solve(const std::vector<WorkClass>& classes, const std::vector<int>& workers,
                    const std::vector<double>& bytes_per_s) {
    double unit = 0;  // keeps the coefficients near 1
    for (const auto& c : classes) {
        bool anywhere = false;
        for (size_t k = 0; k < workers.size(); ++k)
            if (std::isfinite(c.time_s[k]) && workers[k] > 0) unit = std::max(unit, c.time_s[k]), anywhere = true;
        if (!anywhere) throw Error("area bound: no time is known for one kind of task on any worker");
    }
    if (unit == 0) return 0;
    LinearProgram lp("area bound");
    const int time = lp.variable(1);
    std::vector<std::vector<LinearProgram::Term>> work(workers.size()), link(workers.size());
    for (const auto& c : classes) {
        std::vector<LinearProgram::Term> all;
        for (size_t k = 0; k < workers.size(); ++k) {
            if (!std::isfinite(c.time_s[k]) || workers[k] == 0) continue;
            const int x = lp.variable();
            all.push_back({x, 1});
            work[k].push_back({x, c.time_s[k] / unit});
            if (k < bytes_per_s.size() && bytes_per_s[k] > 0 && k < c.link_bytes.size() && c.link_bytes[k] > 0)
                link[k].push_back({x, c.link_bytes[k] / bytes_per_s[k] / unit});
        }
        lp.exactly(std::move(all), c.count);
    }
    for (size_t k = 0; k < workers.size(); ++k) {
        work[k].push_back({time, -double(workers[k])});
        lp.at_most(std::move(work[k]), 0);
        if (link[k].empty()) continue;
        link[k].push_back({time, -1});
        lp.at_most(std::move(link[k]), 0);
    }
    return lp.minimise()[size_t(time)] * unit;
}

double area_bound(const std::vector<WorkClass>& classes, const std::vector<int>& workers) {
    return solve(classes, workers, {});
}

double transfer_bound(const std::vector<WorkClass>& classes, const std::vector<int>& workers,
                      const std::vector<double>& bytes_per_s) {
    return solve(classes, workers, bytes_per_s);
}

std::vector<double> host_bytes(const Plan& plan) {
    enum Writer { nobody, only_cpus, others };
    std::vector<Writer> writer(plan.tiles.size(), nobody);
    std::vector<int64_t> readers(plan.tiles.size());
    for (const TaskSpec& t : plan.tasks)
        for (const TileUse& u : t.tiles) {
            Writer& w = writer[size_t(u.tile)];
            if (u.access == Access::read) ++readers[size_t(u.tile)];
            else w = t.codelet->cuda.empty() && w != others ? only_cpus : others;
        }
    std::vector<double> bytes;
    for (const TaskSpec& t : plan.tasks) {
        double sum = 0;
        for (const TileUse& u : t.tiles)
            if (u.access == Access::read && writer[size_t(u.tile)] == only_cpus)
                sum += double(plan.tiles[size_t(u.tile)].bytes) / double(readers[size_t(u.tile)]);
        bytes.push_back(sum);
    }
    return bytes;
}

static double path_of_steps(const Plan& plan, const std::vector<double>& times, bool ordered, int steps) {
    Plan many = plan;
    std::vector<double> all = times;
    for (int i = 1; i < steps; ++i) {
        many.tasks.insert(many.tasks.end(), plan.tasks.begin(), plan.tasks.end());
        all.insert(all.end(), times.begin(), times.end());
    }
    return dag_stats(many, all, ordered).t_inf;
}

double critical_path(const Plan& plan, const std::vector<double>& times, bool ordered) {
    return path_of_steps(plan, times, ordered, 3) - path_of_steps(plan, times, ordered, 2);
}

Bound step_bound(const Plan& plan, const std::vector<double>& fastest_times, bool ordered,
                 const std::vector<WorkClass>& classes, const std::vector<int>& workers,
                 const std::vector<double>& bytes_per_s) {
    const double path = critical_path(plan, fastest_times, ordered), area = area_bound(classes, workers);
    const double transfers = bytes_per_s.empty() ? 0 : transfer_bound(classes, workers, bytes_per_s);
    if (transfers > area * (1 + 1e-9) && transfers > path) return {transfers, "transfers"};
    return path > area ? Bound{path, "critical path"} : Bound{area, "area"};
}

}  // namespace tessera
