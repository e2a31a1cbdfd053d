// codelets/columns.h - sums over the rows of a tile, column by column, where rows are many and columns few (channels
// last). The order of the additions is fixed: the same bits every time.
#pragma once
#include <cstdint>

#include "codelets/cuda.h"

namespace tessera {

// --- on the host ---

inline constexpr int64_t columns_at_once = 512;  // in first-level cache, with some rows

// Rows of `cols` columns that stay in cache while they are read twice.
template <class T>
int64_t rows_at_once(int64_t cols) {
    const int64_t rows = 32768 / (cols * int64_t(sizeof(T)));
    return rows < 16 ? 16 : rows;
}

// sum[j] += f(i, j) over 0 <= i < rows. Four rows at once: the additions to one column wait for each other.
template <class C, class F>
inline void sum_columns(int64_t rows, int64_t cols, C* __restrict sum, F f) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4)
        for (int64_t j = 0; j < cols; ++j) sum[j] += (f(i, j) + f(i + 1, j)) + (f(i + 2, j) + f(i + 3, j));
    for (; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j) sum[j] += f(i, j);
}

#ifdef TESSERA_CUDA
// --- on the device: chunks of rows by many blocks, then the chunks. S is what adds up: S{} is nothing, add(S). ---

// n sums that are made together.
template <class C, int n>
struct Sums {
    C of[n];
    HD void add(const Sums& o) {
        for (int k = 0; k < n; ++k) of[k] += o.of[k];
    }
};

// Device memory for a body's kernels: ordered by the stream, kept by the device's pool for the next body.
class DeviceScratch {
 public:
    DeviceScratch(int64_t bytes, cudaStream_t stream) : stream_(stream) {
        cudaMemPool_t pool;
        uint64_t keep = UINT64_MAX;
        check(cudaDeviceGetDefaultMemPool(&pool, current_device()), "cudaDeviceGetDefaultMemPool");
        check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute");
        check(cudaMallocAsync(&memory_, size_t(bytes), stream), "cudaMallocAsync");
    }
    ~DeviceScratch() { cudaFreeAsync(memory_, stream_); }
    DeviceScratch(const DeviceScratch&) = delete;
    void* memory() const { return memory_; }

 private:
    void* memory_ = nullptr;
    cudaStream_t stream_;
};

// A block is 32 neighbouring columns by 8 rows.
inline constexpr int column_lanes = 32, row_lanes = threads_per_block / column_lanes;

// What the threads of one column have, together, in those of the first row. Every thread must call it.
template <class S>
__device__ S over_row_lanes(S mine) {
    __shared__ S part[row_lanes][column_lanes];
    const int column = int(threadIdx.x) % column_lanes, row = int(threadIdx.x) / column_lanes;
    part[row][column] = mine;
    __syncthreads();
    for (int r = 1; row == 0 && r < row_lanes; ++r) mine.add(part[r][column]);
    __syncthreads();  // the next call may overwrite
    return mine;
}

// use(j, sum over begin <= i < end of term(i, j)), once for each of this block's columns.
template <class S, class Term, class Use>
__device__ void sum_block_columns(int64_t begin, int64_t end, int64_t cols, Term term, Use use) {
    const int64_t step = int64_t(gridDim.y) * column_lanes;
    for (int64_t j0 = int64_t(blockIdx.y) * column_lanes; j0 < cols; j0 += step) {
        const int64_t j = j0 + threadIdx.x % column_lanes, row = threadIdx.x / column_lanes;
        S mine{};
        if (j < cols)
            for (int64_t i = begin + row; i < end; i += row_lanes) mine.add(term(i, j));
        mine = over_row_lanes(mine);
        if (row == 0 && j < cols) use(j, mine);
    }
}
template <class S>
struct Parts {  // [chunks x cols]
    S* data;
    int64_t cols;
    __device__ S operator()(int64_t i, int64_t j) const { return data[i * cols + j]; }
};
template <class S>
struct StorePart {
    Parts<S> parts;
    __device__ void operator()(int64_t j, const S& sum) const { parts.data[blockIdx.x * parts.cols + j] = sum; }
};
template <class S, class Term, class Use>
__global__ void sum_chunks_kernel(int64_t rows, int64_t cols, int64_t chunk, Term term, Use use) {
    const int64_t begin = int64_t(blockIdx.x) * chunk, end = begin + chunk < rows ? begin + chunk : rows;
    sum_block_columns<S>(begin, end, cols, term, use);
}

// use(j, sum over i of term(i, j)) for every column. Term and Use are functors: what they point to is on the device.
template <class S, class Term, class Use>
void sum_columns_on_cuda(int64_t rows, int64_t cols, Term term, Use use, cudaStream_t stream, const char* name) {
    constexpr int64_t least = 64, most = 128;  // rows of a chunk, chunks
    const int64_t chunk = rows > least * most ? (rows + most - 1) / most : least, chunks = (rows + chunk - 1) / chunk;
    const unsigned across = blocks_for_rows((cols + column_lanes - 1) / column_lanes);
    const auto sum = [&](int64_t blocks, int64_t n, int64_t each, auto of, auto then) {
        launch(name, stream, dim3(unsigned(blocks), across), sum_chunks_kernel<S, decltype(of), decltype(then)>, n,
               cols, each, of, then);
    };
    if (chunks == 1) return sum(1, rows, rows, term, use);
    const DeviceScratch scratch(chunks * cols * int64_t(sizeof(S)), stream);
    const Parts<S> parts{static_cast<S*>(scratch.memory()), cols};
    sum(chunks, rows, chunk, term, StorePart<S>{parts});
    sum(1, chunks, chunks, parts, use);
}
#endif

}  // namespace tessera
