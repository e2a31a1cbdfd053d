// apps/bench.h - what the subcommands of tessera bench share.
#pragma once
#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "apps/train_setup.h"
#include "core/statistics.h"

namespace tessera {

template <class F>
double time_s(F&& f) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    f();
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// The cores that this process may use, looked up before a runtime starts: StarPU binds the main thread, and what it
// starts inherits that.
class Cores {
 public:
    Cores();
    // The calling thread runs on `count` of them, from number `first` on, and from the beginning after the last.
    void use(size_t first, size_t count) const;

 private:
    std::vector<size_t> numbers_;
};

// Says which round begins, on stderr; those before number 0 warm up.
void say_round(const CommonOptions&, int round, int rounds, int warm_up);

void print_bench(const nlohmann::json&);  // the figures of all but interop, which prints its own

struct OverheadBench {
    int64_t tasks = 20000;
    int rounds = 15;
};
nlohmann::json bench_overhead(const CommonOptions&, const OverheadBench&);

struct TraceBench {
    int64_t task_us = 200, tasks = 2000;
    int rounds = 15;
};
nlohmann::json bench_trace(const CommonOptions&, const TraceBench&);

struct ProductBench {
    int64_t n = 4096, tile = 0;  // 0: chosen
    int rounds = 9;
};
struct InteropBench {
    TrainFlags train;
    std::vector<std::string> machines;  // MACHINE:GPUS[:CPUS]
    int64_t steps = 4, simulated_steps = 5;
    int rounds = 5;
};
void add_interop_flags(CLI::App&, InteropBench&);
nlohmann::json bench_interop(const InteropBench&);  // prints tables, too

nlohmann::json bench_product(const CommonOptions&, const ProductBench&);

}  // namespace tessera
