// What the emulated device must notice, so that tests on it can fail.
#include <gtest/gtest.h>

#include "emulated_cuda/cuda_runtime.h"

namespace {

constexpr int threads = 64;

// Writes to `to` what the thread beside it put into shared memory.
template <bool waits>
__global__ void rotate_kernel(int* to) {
    __shared__ int part[threads];
    const int t = int(threadIdx.x);
    part[t] = int(blockIdx.x) * threads + t;
    if (waits) __syncthreads();
    to[blockIdx.x * threads + threadIdx.x] = part[(t + 1) % threads];
    if (waits) __syncthreads();
}
template <bool waits>
int wrong_of_rotation() {
    constexpr int blocks = 5;
    int to[blocks * threads] = {}, wrong = 0;
    int* pointer = to;
    void* arguments[] = {&pointer};
    EXPECT_EQ(cudaLaunchKernel(rotate_kernel<waits>, dim3(blocks), dim3(threads), arguments, 0, nullptr), cudaSuccess);
    for (int b = 0; b < blocks; ++b)
        for (int t = 0; t < threads; ++t) wrong += to[b * threads + t] != b * threads + (t + 1) % threads;
    return wrong;
}
TEST(EmulatedDevice, KeepsBarriers) { EXPECT_EQ(wrong_of_rotation<true>(), 0); }
TEST(EmulatedDevice, ShowsAMissingBarrier) { EXPECT_GT(wrong_of_rotation<false>(), threads); }

__global__ void half_kernel() {
    if (threadIdx.x < threads / 2) __syncthreads();
}
TEST(EmulatedDeviceDeathTest, EndsWhereOnlyPartOfABlockWaits) {
    EXPECT_DEATH(cudaLaunchKernel(half_kernel, dim3(1), dim3(threads), nullptr, 0, nullptr),
                 "32 of 64 threads end while the others wait");
}

struct Large {
    char bytes[4097];
};
template <class P>
__global__ void nothing_kernel(P) {}
TEST(EmulatedDevice, RefusesLaunchesThatADeviceRefuses) {
    Large large{};
    int small = 0;
    void *large_argument[] = {&large}, *small_argument[] = {&small};
    const auto launch = [&](dim3 grid, dim3 block) {
        return cudaLaunchKernel(nothing_kernel<int>, grid, block, small_argument, 0, nullptr);
    };
    EXPECT_EQ(cudaLaunchKernel(nothing_kernel<Large>, dim3(1), dim3(1), large_argument, 0, nullptr),
              cudaErrorInvalidValue);
    EXPECT_EQ(launch(dim3(1), dim3(1024)), cudaSuccess);
    EXPECT_EQ(launch(dim3(1), dim3(1025)), cudaErrorInvalidValue);
    EXPECT_EQ(launch(dim3(0), dim3(1)), cudaErrorInvalidValue);
    EXPECT_EQ(launch(dim3(1, 65536), dim3(1)), cudaErrorInvalidValue);
}

TEST(EmulatedDevice, MemoryIsPoisoned) {
    void* memory = nullptr;
    ASSERT_EQ(cudaMalloc(&memory, 2 * sizeof(double)), cudaSuccess);
    EXPECT_TRUE(static_cast<double*>(memory)[1] != static_cast<double*>(memory)[1]);
    cudaFree(memory);
}

}  // namespace
