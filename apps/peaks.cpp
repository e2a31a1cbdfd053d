#include "apps/peaks.h"

#include <hwloc.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <stdexcept>
#include <vector>

#include "codelets/blas.h"
#include "core/threads.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

struct Topology {
    hwloc_topology_t handle = nullptr;
    Topology() {
        if (hwloc_topology_init(&handle) != 0 || hwloc_topology_load(handle) != 0)
            throw std::runtime_error("hwloc cannot read this machine's topology");
    }
    ~Topology() { hwloc_topology_destroy(handle); }
};

template <class T>
struct Matrices {
    explicit Matrices(int64_t n) : a(size_t(n * n), T(0.5)), b(a), c(a) {}
    std::vector<T> a, b, c;
};

// Several products of one type until `seconds` are over; all cores begin together. GFLOP/s of the best one.
template <class T>
double best_product(double seconds, void (*product)(const blas::Product<T>&), std::barrier<>& together) {
    constexpr int64_t n = 768;
    Matrices<T> m(n);
    double best = 0;
    together.arrive_and_wait();
    const auto start = Clock::now();
    for (auto now = start; now - start < std::chrono::duration<double>(seconds);) {
        product({false, false, n, n, n, 1, m.a.data(), n, m.b.data(), n, 0, m.c.data(), n});
        const auto end = Clock::now();
        best = std::max(best, 2.0 * n * n * n / std::chrono::duration<double>(end - now).count() * 1e-9);
        now = end;
    }
    return best;
}

// GB/s of the best pass.
double best_triad(double seconds, std::barrier<>& together) {
    constexpr size_t n = size_t(8) << 20;  // 64 MiB an array
    std::vector<double> a(n, 1), b(n, 2), c(n, 3);
    double best = 0;
    together.arrive_and_wait();
    const auto start = Clock::now();
    for (auto now = start; now - start < std::chrono::duration<double>(seconds);) {
        const double s = 1 + best * 1e-9;  // not a constant: nothing may be left out
        for (size_t i = 0; i < n; ++i) a[i] = b[i] + s * c[i];
        std::swap(a, b);
        const auto end = Clock::now();
        best = std::max(best, 24.0 * n / std::chrono::duration<double>(end - now).count() * 1e-9);
        now = end;
    }
    return best;
}

}  // namespace

Peaks measure_peaks(double seconds) {
    const Topology topology;
    Peaks peaks;
    peaks.cores = std::max(1, hwloc_get_nbobjs_by_type(topology.handle, HWLOC_OBJ_CORE));
    std::vector<Peaks> each(size_t(peaks.cores));
    std::barrier together(peaks.cores);
    const auto measure = [&](int64_t i) {
        if (hwloc_obj_t core = hwloc_get_obj_by_type(topology.handle, HWLOC_OBJ_CORE, unsigned(i)))
            hwloc_set_cpubind(topology.handle, core->cpuset, HWLOC_CPUBIND_THREAD);
        Peaks& mine = each[size_t(i)];
        const double share = seconds / 4;
        mine.f32_gflops = std::max(best_product<float>(share, blas::openblas, together),
                                   best_product<float>(share, blas::onednn, together));
        mine.f64_gflops = best_product<double>(share, blas::openblas, together);
        mine.gbytes_per_s = best_triad(share, together);
    };
    in_threads(peaks.cores, measure, [&](int64_t) { together.arrive_and_drop(); });
    for (const Peaks& p : each) {
        peaks.f32_gflops += p.f32_gflops / peaks.cores;
        peaks.f64_gflops += p.f64_gflops / peaks.cores;
        peaks.gbytes_per_s += p.gbytes_per_s / peaks.cores;
    }
    return peaks;
}

}  // namespace tessera
