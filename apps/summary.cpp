#include "apps/summary.h"

#include <starpu.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace tessera {

WorkerClock WorkerCounters::now() {
    const auto workers = runtime_.workers();
    WorkerClock c{executor_.busy_s(), std::vector<double>(workers.size())};
    if (starpu_profiling_status_get() != STARPU_PROFILING_ENABLE) return c;
    executing_s_.resize(workers.size()), waiting_s_.resize(workers.size());
    for (const WorkerInfo& w : workers) {
        starpu_profiling_worker_info info;
        starpu_profiling_worker_get_info(w.id, &info);
        const size_t i = size_t(w.id);
        executing_s_[i] += starpu_timing_timespec_to_us(&info.executing_time) * 1e-6;
        waiting_s_[i] += starpu_timing_timespec_to_us(&info.waiting_time) * 1e-6;
        if (w.cuda) c.busy_s[i] = executing_s_[i];  // CUDA bodies return before their kernels end
        c.transfer_s[i] = waiting_s_[i];
    }
    return c;
}

std::vector<WorkerShare> worker_shares(const Runtime& runtime, const WorkerClock& before, const WorkerClock& after,
                                       double seconds) {
    std::vector<WorkerShare> shares;
    for (const WorkerInfo& w : runtime.workers()) {
        const double tasks = (after.busy_s[size_t(w.id)] - before.busy_s[size_t(w.id)]) / seconds;
        // StarPU's sum for the worker counts what several tasks wait for at once several times.
        const double waited = (after.transfer_s[size_t(w.id)] - before.transfer_s[size_t(w.id)]) / seconds;
        const double transfers = std::clamp(waited, 0.0, std::max(0.0, 1 - tasks));
        shares.push_back({w.name, tasks, transfers, std::max(0.0, 1 - tasks - transfers)});
    }
    return shares;
}

namespace {

// One kind for all CPU workers, one per GPU: GPUs may differ. A GPU's link is the one from host memory.
struct Kinds {
    std::vector<int> workers;
    std::vector<unsigned> gpus;
    std::vector<double> bytes_per_s;
    explicit Kinds(const Runtime& runtime) : workers{runtime.cpu_workers()}, bytes_per_s{0} {
        for (const WorkerInfo& w : runtime.workers())
            if (w.cuda) {
                workers.push_back(1), gpus.push_back(unsigned(w.id));
                bytes_per_s.push_back(1e6 * starpu_transfer_bandwidth(STARPU_MAIN_RAM, w.node));
            }
    }
};

// Where each task's class begins with its mean bytes from the host on every GPU.
void add_link_bytes(std::vector<WorkClass>& classes, const std::vector<size_t>& class_of, const Plan& plan) {
    const auto bytes = host_bytes(plan);
    std::vector<double> sum(classes.size());
    for (size_t i = 0; i < class_of.size(); ++i) sum[class_of[i]] += bytes[i];
    for (size_t c = 0; c < classes.size(); ++c) {
        classes[c].link_bytes.assign(classes[c].time_s.size(), sum[c] / classes[c].count);
        classes[c].link_bytes[0] = 0;  // the CPUs are there
    }
}

}  // namespace

Bound measured_bound(const Runtime& runtime, const Executor& executor, int number) {
    const Plan& plan = executor.plan(number);
    const auto times = executor.class_times(number);
    const Kinds kinds(runtime);
    std::map<std::pair<const CodeletInfo*, uint32_t>, size_t> known;
    std::vector<WorkClass> classes;
    std::vector<double> fastest, task_times;
    std::vector<size_t> class_of;
    for (const TaskSpec& t : plan.tasks) {
        const auto [it, fresh] = known.emplace(std::pair{t.codelet, t.footprint}, classes.size());
        if (fresh) {
            const ClassTime& measured = times[classes.size()];
            WorkClass work{double(measured.tasks_per_step),
                           {measured.cpu.count ? measured.cpu.sum_s / double(measured.cpu.count) : NAN}};
            for (unsigned worker : kinds.gpus)
                work.time_s.push_back(
                    1e-6 * starpu_perfmodel_history_based_expected_perf(
                               t.codelet->starpu->model, starpu_worker_get_perf_archtype(int(worker), 0), t.footprint));
            double best = NAN;
            for (double s : work.time_s) best = std::isnan(best) || s < best ? s : best;
            // Never ran and no model: adds nothing to the bound.
            if (std::isnan(best)) work.time_s[kinds.workers[0] > 0 ? 0 : 1] = best = 0;
            fastest.push_back(best);
            classes.push_back(std::move(work));
        }
        class_of.push_back(it->second);
        task_times.push_back(fastest[it->second]);
    }
    add_link_bytes(classes, class_of, plan);
    return step_bound(plan, task_times, executor.options().deterministic, classes, kinds.workers, kinds.bytes_per_s);
}

Bound model_bound(const Runtime& runtime, const Plan& plan, const Machine& machine, bool ordered) {
    const Kinds kinds(runtime);
    std::vector<ModelDevice> devices = {{}};
    for (unsigned w : kinds.gpus) devices.push_back({1, starpu_worker_get_devid(int(w)), 1});
    std::map<std::pair<const CodeletInfo*, uint32_t>, size_t> known;
    std::map<const CodeletInfo*, ModelFile> models;
    std::vector<WorkClass> classes;
    std::vector<double> fastest, task_times;
    std::vector<size_t> class_of;
    for (const TaskSpec& t : plan.tasks) {
        const auto [it, fresh] = known.emplace(std::pair{t.codelet, t.footprint}, classes.size());
        if (fresh) {
            if (!models.contains(t.codelet)) models[t.codelet] = machine.model(t.codelet->name);
            classes.push_back({0, {}});
            double best = INFINITY;
            for (size_t d = 0; d < devices.size(); ++d) {
                const double least = 1e-6 * models[t.codelet].fastest_us(devices[d], t.footprint);
                classes.back().time_s.push_back(least);
                if (kinds.workers[d] > 0 && least < best) best = least;
            }
            fastest.push_back(best);
        }
        classes[it->second].count += 1;
        class_of.push_back(it->second);
        task_times.push_back(fastest[it->second]);
    }
    add_link_bytes(classes, class_of, plan);
    return step_bound(plan, task_times, ordered, classes, kinds.workers, kinds.bytes_per_s);
}

void MemoryPeak::sample(const Executor& executor) {
    const auto now = executor.live_bytes();
    peak_.resize(now.size());
    for (size_t i = 0; i < now.size(); ++i) peak_[i] = std::max(peak_[i], now[i]);
    total_ = std::max(total_, std::accumulate(now.begin(), now.end(), int64_t(0)));
}

}  // namespace tessera
