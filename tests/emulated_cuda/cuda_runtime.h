// cuda_runtime.h - what Tessera uses of CUDA, on the CPU: kernels run block after block, the threads of a block as
// fibers that stop at every barrier and go on in random order. The check of CUDA bodies where no GPU is. Meaning of
// each call: CUDA Runtime API reference; of __syncthreads, __shared__: CUDA C++ Programming Guide.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __shared__ static thread_local  // one for all fibers of a block: they share a thread

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };
enum cudaDataType_t : int32_t { CUDA_R_32F = 0, CUDA_R_64F = 1, CUDA_R_16BF = 14 };
using cudaStream_t = struct CUstream_st*;
using cudaMemPool_t = struct CUmemPoolHandle_st*;
struct cudaDeviceProp;

struct uint3 {
    unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
extern thread_local uint3 threadIdx, blockIdx;
extern thread_local dim3 blockDim, gridDim;
void __syncthreads();  // all threads of a block must call it, or none: anything else ends the program

// As on a device, a launch that is refused is told once, and by the launch itself.
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t);
cudaError_t cudaGetDevice(int*);
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t*, int device);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value);
cudaError_t cudaMalloc(void** memory, size_t bytes);  // filled with NaN
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t);
cudaError_t cudaFree(void*);
cudaError_t cudaFreeAsync(void*, cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t);

namespace emulated {
cudaError_t run(dim3 grid, dim3 block, size_t argument_bytes, const std::function<void()>& thread);
}

template <class... P>
cudaError_t cudaLaunchKernel(void (*kernel)(P...), dim3 grid, dim3 block, void** args, size_t, cudaStream_t) {
    static_assert((std::is_trivially_copyable_v<P> && ...), "a kernel's arguments travel as bytes");
    return [&]<size_t... I>(std::index_sequence<I...>) {
        return emulated::run(grid, block, (sizeof(P) + ... + 0),
                             [&] { kernel(*static_cast<const std::remove_reference_t<P>*>(args[I])...); });
    }
    (std::index_sequence_for<P...>{});
}
