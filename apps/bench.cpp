// tessera bench: its subcommands, and what a one-tile gemm costs beyond bare BLAS. Compared runs are interleaved;
// medians of the ratios are printed.
#include <sched.h>
#include <starpu.h>
#include <CLI/CLI.hpp>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/bench.h"
#include "codelets/blas.h"
#include "codelets/ops.h"
#include "core/error.h"
#include "core/threads.h"
#include "models/model_file.h"

namespace tessera {

Cores::Cores() {
    cpu_set_t all;
    check_system(sched_getaffinity(0, sizeof all, &all) == 0, "cannot ask which cores this process may use");
    for (size_t c = 0; c < CPU_SETSIZE; ++c)
        if (CPU_ISSET(c, &all)) numbers_.push_back(c);
}

void Cores::use(size_t first, size_t count) const {
    cpu_set_t some;
    CPU_ZERO(&some);
    for (size_t i = first; i < first + count; ++i) CPU_SET(numbers_[i % numbers_.size()], &some);
    check_system(sched_setaffinity(0, sizeof some, &some) == 0,
                 "cannot bind a thread to core " + std::to_string(numbers_[first % numbers_.size()]));
}

void say_round(const CommonOptions& common, int round, int rounds, int warm_up) {
    if (round == -warm_up && warm_up > 0) common.progress("warming up");
    if (round >= 0) common.progress("round " + std::to_string(round + 1) + " of " + std::to_string(rounds));
}

namespace {

// One task per worker at a time, each on matrices of its own, against as many threads that call BLAS: each
// implementation against its own bare call, and the one that the models choose against the better call.
nlohmann::json bench_gemm(const CommonOptions& common, int64_t n, int rounds, int repeat) {
    const Cores cores;
    Runtime runtime(common.runtime());
    if (runtime.cpu_workers() == 0) throw Error("bench gemm compares CPU products and needs a CPU worker");
    const int workers = runtime.cpu_workers();
    Params params;
    const auto value = [n](int64_t i, int64_t j) { return double((i * 7 + j * 13) % n) / double(n) - 0.5; };
    for (int w = 0; w < workers; ++w)
        for (const char* name : {"a", "b"}) params.add({name + std::to_string(w), {n, n}, DType::f32, {}, value});
    ExecutorOptions chosen = common.executor(runtime.config()), onednn_only = chosen, openblas_only = chosen;
    onednn_only.forced_implementation = 0, openblas_only.forced_implementation = 1;
    Executor by_models(runtime, chosen), by_onednn(runtime, onednn_only), by_openblas(runtime, openblas_only);
    const auto load = [&](Executor& executor) {
        Graph g;
        for (int w = 0; w < workers; ++w) {
            const std::string number = std::to_string(w);
            g.keep(gemm(g.param(*params.find("a" + number)), g.param(*params.find("b" + number))));
        }
        return executor.load(Plan(g));
    };
    const auto run_plan = [repeat](Executor& executor, int plan) {
        for (int i = 0; i < repeat; ++i) executor.submit(plan, {});
        executor.wait();
    };
    const int plan = load(by_models), onednn_plan = load(by_onednn), openblas_plan = load(by_openblas);
    const int warm_up = 2 + int(2 * (least_samples + 2) / (repeat * workers));  // samples for two implementations
    struct Free {
        void operator()(float* p) const { std::free(p); }
    };
    std::vector<std::unique_ptr<float, Free>> memory;
    for (int i = 0; i < 3 * workers; ++i) {
        memory.emplace_back(static_cast<float*>(std::aligned_alloc(64, size_t(n * n) * sizeof(float))));
        for (int64_t k = 0; k < n * n; ++k) memory.back().get()[k] = float(value(k / n, k % n));
    }
    const auto bare_with = [&](void (*product)(const blas::Product<float>&)) {
        in_threads(workers, [&](int64_t w) {
            cores.use(size_t(w), 1);  // as workers have
            for (int r = 0; r < repeat; ++r)
                product({false, false, n, n, n, 1, memory[size_t(3 * w)].get(), n, memory[size_t(3 * w + 1)].get(), n,
                         0, memory[size_t(3 * w + 2)].get(), n});
        });
    };
    const double flops = 2.0 * double(n) * double(n) * double(n) * workers * repeat;
    const std::function<void()> runs[] = {[&] { run_plan(by_models, plan); }, [&] { run_plan(by_onednn, onednn_plan); },
                                          [&] { run_plan(by_openblas, openblas_plan); },
                                          [&] { bare_with([](const blas::Product<float>& p) { blas::onednn(p); }); },
                                          [&] { bare_with([](const blas::Product<float>& p) { blas::openblas(p); }); }};
    constexpr int kinds = 5, first_bare = 3;
    std::vector<double> rate[kinds], onednn_ratio, openblas_ratio, chosen_ratio;
    for (int r = -warm_up; r < rounds; ++r) {
        say_round(common, r, rounds, warm_up);
        double time[kinds];
        for (int k = 0; k < kinds; ++k) {  // each comes at every place in turn
            const int which = (k + r + warm_up) % kinds;
            if (which >= first_bare) starpu_pause();  // idle workers poll, and would take half of each core
            time[which] = time_s(runs[which]);
            if (which >= first_bare) starpu_resume();
        }
        if (r < 0) continue;
        for (int k = 0; k < kinds; ++k) rate[k].push_back(flops / time[k] * 1e-9);
        onednn_ratio.push_back(time[3] / time[1]), openblas_ratio.push_back(time[4] / time[2]);
        chosen_ratio.push_back(std::min(time[3], time[4]) / time[0]);
    }
    return {{"bench", "gemm"},
            {"n", n},
            {"workers", workers},
            {"policy", runtime.policy()},
            {"tessera_gflops", median(rate[0])},
            {"tessera_onednn_gflops", median(rate[1])},
            {"tessera_openblas_gflops", median(rate[2])},
            {"bare_onednn_gflops", median(rate[3])},
            {"bare_openblas_gflops", median(rate[4])},
            {"ratio_onednn", median(onednn_ratio)},
            {"ratio_openblas", median(openblas_ratio)},
            {"ratio_chosen_to_better", median(chosen_ratio)}};
}

}  // namespace

Command add_bench(CLI::App& app) {
    struct Flags {
        CommonOptions common;
        TraceBench trace;
        ProductBench product;
        OverheadBench overhead;
        int64_t n = 2048;
        int rounds = 15, repeat = 4;
    };
    auto f = std::make_shared<Flags>();
    app.require_subcommand(1);
    CLI::App* overhead = app.add_subcommand("overhead", "Microseconds per task beyond a bare starpu_task_submit");
    overhead->add_option("--tasks", f->overhead.tasks, "In each round")->capture_default_str()->check(whole_number(1));
    CLI::App* product =
        app.add_subcommand("gemm", "One n x n product per worker against bare BLAS calls on as many threads");
    product->add_option("--n", f->n, "Rows and columns of a matrix")->capture_default_str()->check(whole_number(1));
    product->add_option("--repeat", f->repeat, "Products per worker and round")
        ->capture_default_str()
        ->check(whole_number(1));
    CLI::App* trace =
        app.add_subcommand("trace", "Products with and without --trace: ratio of the times, and us per task");
    trace->add_option("--task-us", f->trace.task_us, "About how long a task takes on one core; its size follows")
        ->capture_default_str()
        ->check(whole_number(1));
    trace->add_option("--tasks", f->trace.tasks, "In each turn; a round has three")
        ->capture_default_str()
        ->check(whole_number(1));
    CLI::App* whole =
        app.add_subcommand("product", "One n x n product on all cores against bare BLAS on as many threads");
    whole->add_option("--n", f->product.n, "Rows and columns of a matrix")
        ->capture_default_str()
        ->check(whole_number(1));
    whole->add_option("--tile", f->product.tile, "Largest extent of a tile; 0 chooses")
        ->capture_default_str()
        ->check(whole_number(0));
    for (CLI::App* sub : {overhead, product, trace, whole}) {
        sub->add_option("--rounds", f->rounds, "Interleaved repetitions")
            ->capture_default_str()
            ->check(whole_number(1));
        sub->add_flag("--json", f->common.json, "Last line of stdout is one JSON object");
        sub->add_flag("--quiet", f->common.quiet, "No progress on stderr");
    }
    auto interop_flags = std::make_shared<InteropBench>();
    CLI::App* interop = app.add_subcommand("interop", "A network's ops side by side against one after the other");
    add_interop_flags(*interop, *interop_flags);
    return [f, overhead, trace, whole, interop, interop_flags] {
        if (interop->parsed()) {
            const auto j = bench_interop(*interop_flags);
            if (interop_flags->train.common.json) std::cout << j.dump() << std::endl;
            return 0;
        }
        f->overhead.rounds = f->trace.rounds = f->product.rounds = f->rounds;
        const auto j = overhead->parsed() ? bench_overhead(f->common, f->overhead)
                       : trace->parsed()  ? bench_trace(f->common, f->trace)
                       : whole->parsed()  ? bench_product(f->common, f->product)
                                          : bench_gemm(f->common, f->n, f->rounds, f->repeat);
        print_bench(j);
        if (f->common.json) std::cout << j.dump() << std::endl;
        return 0;
    };
}

}  // namespace tessera
