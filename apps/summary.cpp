#include "apps/summary.h"

#include <starpu.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace tessera {

WorkerClock WorkerClock::now(const Runtime& runtime, const Executor& executor) {
    WorkerClock c{executor.busy_s(), std::vector<double>(runtime.workers().size())};
    if (starpu_profiling_status_get() != STARPU_PROFILING_ENABLE) return c;
    // CUDA bodies return before their kernels end: only StarPU's own profiling knows. Reading it resets it.
    static std::vector<std::pair<double, double>> total(c.busy_s.size());
    for (const WorkerInfo& w : runtime.workers()) {
        starpu_profiling_worker_info info;
        starpu_profiling_worker_get_info(w.id, &info);
        auto& [executing, waiting] = total[size_t(w.id)];
        executing += starpu_timing_timespec_to_us(&info.executing_time) * 1e-6;
        waiting += starpu_timing_timespec_to_us(&info.waiting_time) * 1e-6;
        if (w.cuda) c.busy_s[size_t(w.id)] = executing;
        c.transfer_s[size_t(w.id)] = waiting;
    }
    return c;
}

std::vector<WorkerShare> worker_shares(const Runtime& runtime, const WorkerClock& before, const WorkerClock& after,
                                       double seconds) {
    std::vector<WorkerShare> shares;
    for (const WorkerInfo& w : runtime.workers()) {
        const double tasks = (after.busy_s[size_t(w.id)] - before.busy_s[size_t(w.id)]) / seconds;
        const double transfers = (after.transfer_s[size_t(w.id)] - before.transfer_s[size_t(w.id)]) / seconds;
        shares.push_back({w.name, tasks, transfers, std::max(0.0, 1 - tasks - transfers)});
    }
    return shares;
}

Bound measured_bound(const Runtime& runtime, const Executor& executor, int number) {
    const Plan& plan = executor.plan(number);
    const auto times = executor.class_times(number);
    // One kind for all CPU workers, one per GPU: GPUs may differ.
    std::vector<int> kinds = {runtime.cpu_workers()};
    std::vector<unsigned> gpus;
    for (const WorkerInfo& w : runtime.workers())
        if (w.cuda) gpus.push_back(unsigned(w.id)), kinds.push_back(1);
    std::vector<WorkClass> classes;
    std::map<std::pair<const CodeletInfo*, uint32_t>, double> fastest;
    size_t c = 0;
    for (const TaskSpec& t : plan.tasks) {
        if (fastest.contains({t.codelet, t.footprint})) continue;
        const ClassTime& measured = times[c++];
        WorkClass work{double(measured.tasks_per_step),
                       {measured.cpu.count ? measured.cpu.sum_s / double(measured.cpu.count) : NAN}};
        for (unsigned worker : gpus)
            work.time_s.push_back(
                1e-6 * starpu_perfmodel_history_based_expected_perf(
                           t.codelet->starpu->model, starpu_worker_get_perf_archtype(int(worker), 0), t.footprint));
        double best = NAN;
        for (double s : work.time_s) best = std::isnan(best) || s < best ? s : best;
        if (std::isnan(best)) work.time_s[0] = best = 0;  // never ran and no model: adds nothing to the bound
        fastest[{t.codelet, t.footprint}] = best;
        classes.push_back(std::move(work));
    }
    std::vector<double> task_times;
    for (const TaskSpec& t : plan.tasks) task_times.push_back(fastest[{t.codelet, t.footprint}]);
    return step_bound(plan, task_times, executor.options().deterministic, classes, kinds);
}

void MemoryPeak::sample(const Executor& executor) {
    const auto now = executor.live_bytes();
    peak_.resize(now.size());
    for (size_t i = 0; i < now.size(); ++i) peak_[i] = std::max(peak_[i], now[i]);
    total_ = std::max(total_, std::accumulate(now.begin(), now.end(), int64_t(0)));
}

}  // namespace tessera
