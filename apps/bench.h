// apps/bench.h - what the subcommands of tessera bench share.
#pragma once
#include <algorithm>
#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "apps/options.h"

namespace tessera {

// The value below which `share` of `v` lies.
inline double quantile(std::vector<double> v, double share) {
    std::sort(v.begin(), v.end());
    return v[std::min(v.size() - 1, size_t(double(v.size()) * share))];
}
inline double median(std::vector<double> v) { return quantile(std::move(v), 0.5); }

template <class F>
double time_s(F&& f) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    f();
    return std::chrono::duration<double>(Clock::now() - start).count();
}

struct TraceBench {
    int64_t task_us = 200, tasks = 2000;
    int rounds = 15;
};
nlohmann::json bench_trace(const CommonOptions&, const TraceBench&);

struct ProductBench {
    int64_t n = 4096, tile = 0;  // 0: chosen
    int rounds = 9;
};
nlohmann::json bench_product(const CommonOptions&, const ProductBench&);

}  // namespace tessera
