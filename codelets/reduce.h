// codelets/reduce.h - sum and maximum of f(0) ... f(n - 1) on the host, in 16 independent lanes: compilers vectorize
// them without licence to reorder, and rounding errors grow slower than in one chain. The order is fixed: same bits.
#pragma once
#include <cstdint>
#include <limits>

namespace tessera {

inline constexpr int64_t reduction_lanes = 16;

template <class C, class F>
C sum_of(int64_t n, F f) {
    C partial[reduction_lanes] = {}, sum = 0;
    int64_t j = 0;
    for (; j + reduction_lanes <= n; j += reduction_lanes)
        for (int64_t l = 0; l < reduction_lanes; ++l) partial[l] += f(j + l);
    for (; j < n; ++j) sum += f(j);
    for (C p : partial) sum += p;
    return sum;
}

// -infinity if n is 0; NaN is passed over.
template <class C, class F>
C max_of(int64_t n, F f) {
    C partial[reduction_lanes], most = -std::numeric_limits<C>::infinity();
    for (C& p : partial) p = most;
    const auto larger = [](C a, C b) { return a > b ? a : b; };
    int64_t j = 0;
    for (; j + reduction_lanes <= n; j += reduction_lanes)
        for (int64_t l = 0; l < reduction_lanes; ++l) partial[l] = larger(f(j + l), partial[l]);
    for (; j < n; ++j) most = larger(f(j), most);
    for (C p : partial) most = larger(p, most);
    return most;
}

}  // namespace tessera
