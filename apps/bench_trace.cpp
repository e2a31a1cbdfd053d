// tessera bench trace: what --trace costs. The same independent products with and without a trace; each turn with one
// lies between two plain turns, so that a machine that becomes slower step by step favours neither.
#include <starpu.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/bench.h"
#include "codelets/ops.h"
#include "core/error.h"

namespace tessera {
namespace {

constexpr int64_t products_per_worker = 16;  // in one step: enough that no worker waits for the end of one
constexpr int64_t least_extent = 8, most_extent = 2048;
constexpr int64_t longest_task_us = 10000;  // beyond it a trace's microseconds are below what can be measured

struct Operands {
    Params all;
    explicit Operands(int64_t n) {
        const auto value = [n](int64_t i, int64_t j) { return double((i * 7 + j * 13) % n) / double(n) - 0.5; };
        for (const char* name : {"a", "b"}) all.add({name, {n, n}, DType::f32, {}, value});
    }
    // Products that read the same two matrices, each into one of its own.
    Plan products(int64_t count) {
        Graph g;
        for (int64_t i = 0; i < count; ++i) g.keep(gemm(g.param(*all.find("a")), g.param(*all.find("b"))));
        return Plan(g);
    }
};

// Of the tasks that a trace holds.
double median_us(const Trace& trace, const Plan& plan) {
    std::vector<double> us;
    for (const auto& events : trace.data({&plan}).tasks)
        for (const TaskEvent& e : events) us.push_back(e.end_us - e.start_us);
    return median(std::move(us));
}

// Median microseconds of a product of n x n matrices while all workers are busy.
double product_us(const Runtime& runtime, ExecutorOptions options, int64_t n, int64_t count) {
    Operands operands(n);
    Trace trace;
    options.trace = &trace;
    Executor executor(runtime, options);
    const int plan = executor.load(operands.products(count));
    for (int step = 0; step < 3; ++step) executor.submit(plan, {});  // the first calls of a shape are slow ones
    executor.wait();
    return median_us(trace, executor.plan(plan));
}

// Extent of matrices whose product takes about `wanted_us` here.
int64_t extent_for(const Runtime& runtime, const ExecutorOptions& options, double wanted_us, int64_t count) {
    int64_t n = 128;
    for (int i = 0; i < 8; ++i) {
        const double ratio = wanted_us / product_us(runtime, options, n, count);
        if (std::fabs(ratio - 1) < 0.1) break;
        const double wanted = double(n) * std::clamp(std::cbrt(ratio), 0.25, 4.0);
        const int64_t next = std::clamp(int64_t(wanted / 8 + 0.5) * 8, least_extent, most_extent);
        if (next == n) break;
        n = next;
    }
    return n;
}

struct Turns {
    std::vector<double> plain_s, traced_s, ratio, ratio_plain, extra_s;
    double task_us = 0;
};

Turns measure(const CommonOptions& common, const Runtime& runtime, const ExecutorOptions& options, int64_t n,
              int64_t count, int64_t steps, int rounds) {
    Operands operands(n);
    Trace trace;
    ExecutorOptions with_trace = options;
    with_trace.trace = &trace;
    Executor plain(runtime, options), traced(runtime, with_trace);
    const int plain_plan = plain.load(operands.products(count)), traced_plan = traced.load(operands.products(count));
    const auto turn = [steps](Executor& executor, int plan, int profiling) {
        starpu_profiling_status_set(profiling);  // a trace switches it on; a run without one has it off
        return time_s([&] {
            for (int64_t i = 0; i < steps; ++i) executor.submit(plan, {});
            executor.wait();
        });
    };
    Turns t;
    constexpr int warm_up = 2;
    for (int r = -warm_up; r < rounds; ++r) {
        say_round(common, r, rounds, warm_up);
        const double before = turn(plain, plain_plan, STARPU_PROFILING_DISABLE);
        const double with = turn(traced, traced_plan, STARPU_PROFILING_ENABLE);
        const double after = turn(plain, plain_plan, STARPU_PROFILING_DISABLE);
        if (r < 0) continue;
        const double without = (before + after) / 2;
        t.plain_s.push_back(without), t.traced_s.push_back(with);
        t.ratio.push_back(with / without), t.ratio_plain.push_back(after / before), t.extra_s.push_back(with - without);
    }
    t.task_us = median_us(trace, traced.plan(traced_plan));
    return t;
}

}  // namespace

nlohmann::json bench_trace(const CommonOptions& common, const TraceBench& f) {
    if (f.task_us > longest_task_us)
        throw UsageError("--task-us " + std::to_string(f.task_us) + " is more than " + std::to_string(longest_task_us),
                         "a trace costs microseconds a task: nothing would be seen");
    setenv("STARPU_NCUDA", "0", 0);  // the length of tasks is that on a core
    Runtime runtime(common.runtime());
    if (runtime.cpu_workers() == 0) throw Error("bench trace runs CPU products and needs a CPU worker");
    const int64_t workers = int64_t(runtime.workers().size()), count = products_per_worker * workers;
    const int64_t steps = f.tasks / count + (f.tasks % count != 0), tasks = steps * count;
    ExecutorOptions options = common.executor(runtime.config());
    options.forced_implementation = 0;  // one body for both: no choice that changes on the way
    const int64_t n = extent_for(runtime, options, double(f.task_us), count);
    const Turns t = measure(common, runtime, options, n, count, steps, f.rounds);
    const double us_per_task = 1e6 * double(workers) / double(tasks);  // of a worker, for a second of the whole
    return {{"bench", "trace"},
            {"policy", runtime.policy()},
            {"workers", workers},
            {"n", n},
            {"tasks", tasks},
            {"rounds", f.rounds},
            {"task_us", t.task_us},
            {"plain_us", median(t.plain_s) * us_per_task},
            {"traced_us", median(t.traced_s) * us_per_task},
            {"overhead_us", median(t.extra_s) * us_per_task},
            {"ratio", median(t.ratio)},
            {"ratio_low", quantile(t.ratio, 0.25)},
            {"ratio_high", quantile(t.ratio, 0.75)},
            {"ratio_plain", median(t.ratio_plain)}};
}

}  // namespace tessera
