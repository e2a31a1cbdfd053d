// Each worker fills square matrices of its own and works on them again and again. They grow until a task is so long
// that launching it and noticing its end are less than a percent, or a quarter of the memory is full.
#include "apps/worker_peaks.h"

#include <starpu.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <set>

#include "apps/table.h"
#include "codelets/ops.h"
#include "core/executor.h"
#include "core/trace.h"

namespace tessera {
namespace {

struct Kind {
    DType dtype;
    bool product;  // else a copy
    double DeviceFacts::*figure;
    int64_t first_extent;  // of copies: beyond the caches of a core
    double long_enough_us;
    int64_t matrices() const { return product ? 3 : 2; }
};
const Kind kinds[] = {{DType::f32, true, &DeviceFacts::f32_gflops, 384, 5000},
                      {DType::f64, true, &DeviceFacts::f64_gflops, 384, 5000},
                      {DType::bf16, true, &DeviceFacts::bf16_gflops, 384, 5000},
                      {DType::f32, false, &DeviceFacts::gbytes_per_s, 4096, 1000}};

struct Slot {
    WorkerPeaks* peaks;
    int64_t extent;
    double rate = 0;         // flops or bytes per microsecond, best at this extent
    double shortest_us = 0;  // of the tasks of the last pass
    bool growing = true;
};

// A policy must neither choose by what these tasks took nor keep it.
class WithoutModels {
 public:
    const CodeletInfo* operator()(const CodeletInfo* codelet) {
        auto& copy = copies_[codelet];
        if (!copy) {
            copy = std::make_unique<Copy>(Copy{*codelet, *codelet->starpu});
            copy->codelet.model = nullptr;
            copy->codelet.perf_counter_values = nullptr;  // StarPU makes one for each codelet
            copy->info.starpu = &copy->codelet;
        }
        return &copy->info;
    }

 private:
    struct Copy {
        CodeletInfo info;
        starpu_codelet codelet;
    };
    std::map<const CodeletInfo*, std::unique_ptr<Copy>> copies_;
};

bool is_timed(const TaskSpec& t) { return t.codelet->op != "fill"; }

// Values need no host memory and no transfer: fill tasks write them where they are used.
Plan plan_of(const Kind& kind, const std::vector<Slot>& slots, WithoutModels& without_models) {
    constexpr int runs = 3;  // of each implementation
    Graph g;
    for (const Slot& s : slots) {
        const Shape shape{s.extent, s.extent};
        const auto filled = [&](double value) { return fill(g, shape, kind.dtype, Grid::whole(shape), value); };
        const Tensor a = filled(0.5);
        g.keep(kind.product ? gemm(a, filled(0.25)) : copy(a));
    }
    Plan plan(g);
    std::vector<TaskSpec> tasks;
    const size_t per_slot = plan.tasks.size() / slots.size();
    for (size_t i = 0; i < plan.tasks.size(); ++i) {
        TaskSpec t = plan.tasks[i];
        const WorkerInfo& worker = slots[i / per_slot].peaks->worker;
        const int implementations = int((worker.cuda ? t.codelet->cuda : t.codelet->cpu).size());
        t.worker = worker.id;
        const bool timed = is_timed(t);
        t.codelet = without_models(t.codelet);
        // All write the same matrix: one after the other, so that no time holds a wait for another's kernel.
        for (int r = 0; r < (timed ? runs * implementations : 1); ++r) {
            t.implementation = timed ? r % implementations : 0;
            tasks.push_back(t);
        }
    }
    plan.tasks = std::move(tasks);
    return plan;
}

void run_once(const Runtime& runtime, const Kind& kind, std::vector<Slot>& slots) {
    WithoutModels without_models;  // outlives the tasks
    Trace trace;
    ExecutorOptions options;
    options.trace = &trace;
    Executor executor(runtime, options);
    const int number = executor.load(plan_of(kind, slots, without_models));
    executor.submit(number, {});
    executor.wait();
    const Plan& plan = executor.plan(number);
    const TraceData data = trace.data({&plan});
    for (Slot& s : slots) {
        s.shortest_us = std::numeric_limits<double>::infinity();
        for (const TaskEvent& e : data.tasks[size_t(s.peaks->worker.id)]) {
            const TaskSpec& t = plan.tasks[size_t(e.task)];
            const double us = e.end_us - e.start_us;
            if (!is_timed(t) || !(us > 0)) continue;
            s.shortest_us = std::min(s.shortest_us, us);
            s.rate = std::max(s.rate, (kind.product ? t.cost.flops : t.cost.bytes) / us);
        }
    }
}

// Bytes that one worker's matrices may take. The executor refuses a plan whose largest task, times the workers of a
// memory, is beyond any memory's limit.
int64_t room_bytes(const Runtime& runtime) {
    int64_t room = std::numeric_limits<int64_t>::max();
    std::map<unsigned, int64_t> workers;
    for (const WorkerInfo& w : runtime.workers()) ++workers[w.node];
    for (const auto& [node, count] : workers)
        if (const int64_t limit = runtime.limit_bytes(node); limit > 0) room = std::min(room, limit / (4 * count));
    return room;
}

void measure(const Runtime& runtime, const Kind& kind, std::vector<WorkerPeaks>& all, double seconds) {
    const int64_t room = room_bytes(runtime);
    const auto fits = [&](int64_t n) { return n * n <= room / (kind.matrices() * bytes_of(kind.dtype)); };
    int64_t first = kind.first_extent;
    while (first > 16 && !fits(first)) first /= 2;
    std::vector<Slot> slots;
    for (WorkerPeaks& p : all) slots.push_back({&p, first});
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    for (bool any_grows = true; any_grows || Clock::now() - start < std::chrono::duration<double>(seconds);) {
        run_once(runtime, kind, slots);
        any_grows = false;
        for (Slot& s : slots) {
            s.growing = s.growing && s.shortest_us < kind.long_enough_us && fits(2 * s.extent);
            if (s.growing) s.extent *= 2, s.rate = 0;  // a cache may have held the smaller ones
            any_grows = any_grows || s.growing;
        }
    }
    for (const Slot& s : slots) s.peaks->best.*kind.figure = s.rate * 1e-3;
}

std::string name_of_gpu([[maybe_unused]] int worker) {
#if defined(STARPU_USE_CUDA) && !defined(STARPU_SIMGRID)
    return starpu_cuda_get_device_properties(unsigned(worker))->name;
#else
    return "";
#endif
}

}  // namespace

std::vector<WorkerPeaks> measure_workers(const Runtime& runtime, bool cuda, double seconds) {
    std::vector<WorkerPeaks> all;
    std::set<int> gpus;
    for (const WorkerInfo& w : runtime.workers()) {
        if (w.cuda != cuda || (cuda && !gpus.insert(starpu_worker_get_devid(w.id)).second)) continue;
        WorkerPeaks p{w, {}};
        if (cuda) p.best.device = {1, starpu_worker_get_devid(w.id), 1};
        p.best.name = cuda ? name_of_gpu(w.id) : "CPU core";
        p.best.measured = true, p.best.source = cuda ? "measured, all GPUs busy" : "measured, all cores busy";
        all.push_back(std::move(p));
    }
    if (all.empty()) return all;
    const int profiling = starpu_profiling_status_get();
    for (const Kind& kind : kinds) measure(runtime, kind, all, seconds / std::size(kinds));
    starpu_profiling_status_set(profiling);  // a trace switches it on
    return all;
}

std::vector<std::string> odd_peaks(const WorkerPeaks& p, const DeviceFacts& published) {
    std::vector<std::string> lines;
    const std::pair<const char*, double DeviceFacts::*> figures[] = {{"f32 GFLOP/s", &DeviceFacts::f32_gflops},
                                                                     {"f64 GFLOP/s", &DeviceFacts::f64_gflops},
                                                                     {"bf16 GFLOP/s", &DeviceFacts::bf16_gflops},
                                                                     {"GB/s", &DeviceFacts::gbytes_per_s}};
    for (const auto& [what, figure] : figures) {
        const double now = p.best.*figure, known = published.*figure;
        if (known <= 0 || now <= 0 || (now <= 1.02 * known && now >= known / 3)) continue;
        lines.push_back(p.worker.name + ": " + fixed(now, 1) + " " + what + ", but " + fixed(known, 1) +
                        " are published" + (now < known ? "; does another program use it?" : ""));
    }
    return lines;
}

}  // namespace tessera
