// codelets/cuda.h - what CUDA bodies share: status checks, launch shapes, a block-wide sum, a workspace, cuBLAS. Empty
// where nvcc is absent.
#pragma once
#include "core/codelet.h"
#include "core/error.h"

#ifdef TESSERA_CUDA
#include <cublas_v2.h>
#include <starpu_cublas_v2.h>

#include <map>
#include <type_traits>
#include <utility>

namespace tessera {

inline void check(cudaError_t status, const char* call) {
    if (status != cudaSuccess) throw Error(std::string(call) + " failed: " + cudaGetErrorString(status));
}
inline void check(cublasStatus_t status, const char* call) {
    if (status != CUBLAS_STATUS_SUCCESS) throw Error(std::string(call) + " failed: " + cublasGetStatusString(status));
}

inline int current_device() {
    int device = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    return device;
}

inline constexpr int threads_per_block = 256;

// Enough blocks for `work` items, and no more than a grid may have; kernels loop with the grid's stride.
inline unsigned blocks_for(int64_t work) {
    const int64_t blocks = (work + threads_per_block - 1) / threads_per_block;
    return unsigned(blocks < 1 ? 1 : blocks > 65535 ? 65535 : blocks);
}
inline unsigned blocks_for_rows(int64_t rows) { return unsigned(rows < 65535 ? rows : 65535); }

// kernel(arguments...) by blocks of threads_per_block threads; a launch that fails is an Error that begins with `name`.
template <class... P>
void launch(const char* name, cudaStream_t stream, dim3 blocks, void (*kernel)(P...),
            std::type_identity_t<P>... arguments) {
    void* pointers[] = {&arguments...};
    check(cudaLaunchKernel(kernel, blocks, dim3(threads_per_block), pointers, 0, stream), name);
}

// Sum over the threads of a block, given to all of them. Every thread must call it.
template <class C>
__device__ C block_sum(C value) {
    __shared__ C partial[threads_per_block];
    partial[threadIdx.x] = value;
    for (int half = threads_per_block / 2; half > 0; half /= 2) {
        __syncthreads();
        if (int(threadIdx.x) < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    }
    __syncthreads();
    const C sum = partial[0];
    __syncthreads();  // the next call may overwrite
    return sum;
}
template <class C>
__device__ C block_max(C value) {
    __shared__ C partial[threads_per_block];
    partial[threadIdx.x] = value;
    for (int half = threads_per_block / 2; half > 0; half /= 2) {
        __syncthreads();
        if (int(threadIdx.x) < half) {
            const C a = partial[threadIdx.x], b = partial[threadIdx.x + half];
            partial[threadIdx.x] = a != a || a >= b ? a : b;  // NaN wins, on either side
        }
    }
    __syncthreads();
    const C most = partial[0];
    __syncthreads();
    return most;
}

// Parts of a long sum are added up in the computing type, not in bf16.
inline cublasHandle_t cublas(cudaStream_t stream) {
    constexpr auto math = cublasMath_t(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    cublasHandle_t handle = starpu_cublas_get_local_handle();
    check(cublasSetStream(handle, stream), "cublasSetStream");
    check(cublasSetMathMode(handle, math), "cublasSetMathMode");
    return handle;
}

namespace device {

// Memory for one task's intermediate results. A stream runs its tasks one after another, so they share it. Callers stay
// below TESSERA_WORKSPACE. It ends with the device's context.
inline void* workspace(int64_t bytes, cudaStream_t stream) {
    struct Block {
        void* memory = nullptr;
        int64_t bytes = 0;
    };
    thread_local std::map<cudaStream_t, Block> blocks;
    Block& block = blocks[stream];
    if (block.bytes < bytes) {
        check(cudaFree(std::exchange(block.memory, nullptr)), "cudaFree");  // waits for what uses it
        block.bytes = 0;
        check(cudaMalloc(&block.memory, size_t(bytes)), "cudaMalloc of a workspace");
        block.bytes = bytes;
    }
    return block.memory;
}

}  // namespace device

}  // namespace tessera
#endif
