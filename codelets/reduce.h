// codelets/reduce.h - sum and maximum of f(0) ... f(n - 1). On the host in 16 independent lanes: compilers vectorize
// them without licence to reorder, and rounding errors grow slower than in one chain. On the device in blocks, whose
// number depends on n only. The order is fixed: the same bits every time.
#pragma once
#include <cstdint>
#include <limits>

#include "codelets/cuda.h"

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

#ifdef TESSERA_CUDA
template <class C>
struct BlockSums {  // one per block
    C* data;
    __device__ C operator()(int64_t k) const { return data[k]; }
};
template <class C>
struct StoreBlockSum {
    C* data;
    __device__ void operator()(C sum) const { data[blockIdx.x] = sum; }
};
// Every block calls use(its part of the sum) once.
template <class C, class Term, class Use>
__global__ void sum_kernel(int64_t n, Term term, Use use) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    C sum = 0;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < n; k += stride) sum += term(k);
    sum = block_sum(sum);
    if (threadIdx.x == 0) use(sum);
}

// use(term(0) + ... + term(n - 1)), once. `each`: the least number of terms that are worth a thread. Term and Use are
// functors: what they point to is on the device.
template <class C, class Term, class Use>
void sum_on_cuda(int64_t n, int64_t each, Term term, Use use, cudaStream_t stream, const char* name) {
    constexpr int64_t most = 1024;
    const int64_t share = each * threads_per_block, wanted = (n + share - 1) / share;
    const unsigned blocks = unsigned(wanted < 1 ? 1 : wanted > most ? most : wanted);
    const auto sum = [&](unsigned grid, int64_t terms, auto of, auto then) {
        launch(name, stream, grid, sum_kernel<C, decltype(of), decltype(then)>, terms, of, then);
    };
    if (blocks == 1) return sum(1, n, term, use);
    C* parts = static_cast<C*>(device::workspace(most * int64_t(sizeof(C)), stream));
    sum(blocks, n, term, StoreBlockSum<C>{parts});
    sum(1, blocks, BlockSums<C>{parts}, use);
}
inline constexpr int64_t elements_per_thread = 8;  // for terms of one element
#endif

}  // namespace tessera
