// Checks every op on the CPU. --seed N repeats a run; --perf [CASE] prints speeds instead; --calibrate [CASE] fills the
// performance models of this machine's workers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "apps/peaks.h"
#include "core/error.h"
#include "op_check.h"

namespace tessera::test {
namespace {

struct Row {
    double flops = 0, bytes = 0, seconds = 0;
};

// Best times of the tasks of each codelet over some runs, added up.
std::vector<std::pair<const CodeletInfo*, Row>> measure(const OpCase& c, Interpreter& run) {
    const Plan& plan = run.plan();
    std::vector<double> best(plan.tasks.size(), 1e30);
    double total = 0;
    for (int i = 0; i < 100 && (i < 3 || total < 0.2); ++i) {
        run.run(c.step(0));
        for (size_t t = 0; t < best.size(); ++t)
            best[t] = std::min(best[t], run.seconds()[t]), total += run.seconds()[t];
    }
    std::vector<std::pair<const CodeletInfo*, Row>> rows;
    for (size_t t = 0; t < best.size(); ++t) {
        const TaskSpec& task = plan.tasks[t];
        auto at = std::find_if(rows.begin(), rows.end(), [&](auto& r) { return r.first == task.codelet; });
        if (at == rows.end()) at = rows.insert(rows.end(), {task.codelet, {}});
        at->second.flops += task.cost.flops, at->second.bytes += task.cost.bytes, at->second.seconds += best[t];
    }
    return rows;
}

void perf(const std::string& only) {
    const Peaks peaks = measure_peaks(1);
    std::printf("a core's peak, all cores busy: %.1f GFLOP/s f32, %.1f f64, %.1f GB/s\n", peaks.f32_gflops,
                peaks.f64_gflops, peaks.gbytes_per_s);
    std::printf("%-28s %-32s %-16s %12s %9s %9s %8s\n", "case", "codelet", "implementation", "time_us", "GFLOP/s",
                "GB/s", "of peak");
    std::set<std::string> seen;  // codelets of gradients come once
    for (const OpCase& c : all_cases()) {
        if (!only.empty() && c.name != only) continue;
        std::mt19937_64 random = generator(c.name);
        for (DType type : c.types) {
            Setup s = set_up(c, type, c.perf, 0, Grid::whole, draw(c, type, c.perf, random));
            std::set<const CodeletInfo*> forward;
            for (const TaskSpec& t : Plan(*s.graph).tasks) forward.insert(t.codelet);
            Gradients g;
            if (c.gradient && facts(type).epsilon > 0) g = add_gradients(c, s, random);
            size_t implementations = 1;
            for (size_t i = 0; i < implementations; ++i) {
                Interpreter run(*s.graph, {.implementation = int(i), .padding = 0, .checks = false});
                for (size_t k = 0; k < s.x.size(); ++k) run.write(s.x[k], s.values[k]);
                for (size_t k = 0; k < g.seeds.size(); ++k) run.write(g.seeds[k], g.seed_values[k]);
                for (auto& [codelet, row] : measure(c, run)) {
                    implementations = std::max(implementations, codelet->cpu.size());
                    if (i >= codelet->cpu.size()) continue;
                    const bool is_new = seen.insert(codelet->name + codelet->cpu[i]).second;
                    if (!forward.count(codelet) && !is_new) continue;
                    const double gflops = row.flops / row.seconds * 1e-9, gbytes = row.bytes / row.seconds * 1e-9;
                    // Caches are faster than memory: small tiles may move more than its peak.
                    const double share = std::max(gflops / (type == DType::f64 ? peaks.f64_gflops : peaks.f32_gflops),
                                                  gbytes / peaks.gbytes_per_s);
                    std::printf("%-28s %-32s %-16s %12.1f %9.2f %9.2f %6.1f %%\n", c.name.c_str(),
                                codelet->name.c_str(), codelet->cpu[i].c_str(), row.seconds * 1e6, gflops, gbytes,
                                100 * share);
                    std::fflush(stdout);
                }
            }
        }
    }
}

// A history entry needs 10 samples per kind of worker and implementation, and drops its first.
void calibrate(const std::string& only) {
    setenv("STARPU_CALIBRATE", "1", 1);
    const Runtime runtime;
    for (const OpCase& c : all_cases()) {
        if (!only.empty() && c.name != only) continue;
        std::mt19937_64 random = generator(c.name);
        for (DType type : c.types)
            for (int64_t tile : {256, 512, 1024}) {
                const Extents e{tile, tile, tile};
                Setup s = set_up(c, type, e, 0, Grid::whole, draw(c, type, e, random));
                Gradients g;
                if (c.gradient && facts(type).epsilon > 0) g = add_gradients(c, s, random);
                size_t implementations = 1;
                for (const TaskSpec& t : Plan(*s.graph).tasks)
                    implementations = std::max({implementations, t.codelet->cpu.size(), t.codelet->cuda.size()});
                Executor executor(runtime, {});
                const int plan = executor.load(Plan(*s.graph));
                for (size_t k = 0; k < s.x.size(); ++k) executor.write(plan, s.x[k], s.values[k].v);
                for (size_t k = 0; k < g.seeds.size(); ++k) executor.write(plan, g.seeds[k], g.seed_values[k].v);
                const int64_t steps = 12 * int64_t(implementations) * (runtime.cuda_workers() + 1);
                for (int64_t i = 0; i < steps; ++i) executor.submit(plan, c.step(i));
                executor.wait();
                std::printf("%s %s, tile %ld: %ld steps\n", c.name.c_str(), std::string(name_of(type)).c_str(),
                            long(tile), long(steps));
                std::fflush(stdout);
            }
    }
}

int main_of(int argc, char** argv) {
    enum { check, measure_speed, fill_models } mode = check;
    std::string only;
    testing::InitGoogleTest(&argc, argv);
    for (int i = 1; i < argc; ++i) {
        const bool last = i + 1 == argc;
        if (!std::strcmp(argv[i], "--seed") && !last) run_seed() = std::strtoull(argv[++i], nullptr, 10);
        else if (!std::strcmp(argv[i], "--perf") || !std::strcmp(argv[i], "--calibrate")) {
            mode = argv[i][2] == 'p' ? measure_speed : fill_models;
            if (!last && argv[i + 1][0] != '-') only = argv[++i];
        } else
            throw UsageError(std::string("unknown argument '") + argv[i] + "'",
                             "op_test [--seed N] [--perf [CASE] | --calibrate [CASE]] [--gtest_filter=...]");
    }
    std::vector<std::string> names;
    for (const OpCase& c : all_cases()) names.push_back(c.name);
    if (!only.empty() && std::find(names.begin(), names.end(), only) == names.end())
        throw UsageError("there is no case '" + only + "'", suggestion(only, names));
    if (mode != check) return mode == measure_speed ? perf(only) : calibrate(only), 0;
    register_tests();
    std::printf("seed %llu\n", static_cast<unsigned long long>(run_seed()));
    return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace tessera::test

int main(int argc, char** argv) {
    try {
        return tessera::test::main_of(argc, argv);
    } catch (const tessera::UsageError& e) {
        std::fprintf(stderr, "error: %s\n%s\n", e.what(), e.hint().c_str());
        return 2;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "error: %s\n", e.what());
        return 1;
    }
}
