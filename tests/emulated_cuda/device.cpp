// device.cpp - blocks of fibers, and device memory.
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "emulation.h"

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace {

constexpr unsigned char poison = 0xff;  // NaN in every float type
constexpr size_t stack_bytes = size_t(64) << 10, most_argument_bytes = 4096;
constexpr unsigned most_threads = 1024, most_blocks_yz = 65535;

// The threads of one block. They run until the next barrier or their end, one after another, in random order.
class Block {
 public:
    explicit Block(unsigned threads) : threads_(threads), stacks_(new char[threads * stack_bytes]), fibers_(threads) {
        for (unsigned t = 0; t < threads; ++t) order_.push_back(t);
    }
    void run(const std::function<void()>& body, std::minstd_rand& random) {
        body_ = &body;
        for (unsigned t = 0; t < threads_; ++t) prepare(fibers_[t].context, stacks_.get() + t * stack_bytes);
        for (size_t ended = 0; ended < threads_;) {
            std::shuffle(order_.begin(), order_.end(), random);
            for (unsigned t : order_) {
                current_ = t;
                threadIdx = {t, 0, 0};
                fibers_[t].state = running;
                here_ = this;
                swapcontext(&outside_, &fibers_[t].context);
                if (fibers_[t].state == running) fibers_[t].state = at_end;
            }
            ended =
                size_t(std::count_if(fibers_.begin(), fibers_.end(), [](const Fiber& f) { return f.state == at_end; }));
            if (ended != 0 && ended != threads_) {
                std::fprintf(stderr, "emulated CUDA: %zu of %u threads end while the others wait at a barrier\n", ended,
                             threads_);
                std::abort();
            }
        }
    }
    unsigned threads() const { return threads_; }
    static void barrier() {
        Fiber& mine = here_->fibers_[here_->current_];
        mine.state = at_barrier;
        swapcontext(&mine.context, &here_->outside_);
    }

 private:
    enum State { running, at_barrier, at_end };
    struct Fiber {
        ucontext_t context;
        State state;
    };
    void prepare(ucontext_t& context, char* stack) {
        getcontext(&context);
        context.uc_stack.ss_sp = stack, context.uc_stack.ss_size = stack_bytes;
        context.uc_link = &outside_;
        makecontext(&context, enter, 0);
    }
    static void enter() { (*here_->body_)(); }

    static thread_local Block* here_;
    unsigned threads_, current_ = 0;
    std::unique_ptr<char[]> stacks_;
    std::vector<Fiber> fibers_;
    std::vector<unsigned> order_;
    ucontext_t outside_{};
    const std::function<void()>* body_ = nullptr;
};
thread_local Block* Block::here_ = nullptr;

}  // namespace

void __syncthreads() { Block::barrier(); }

cudaError_t emulated::run(dim3 grid, dim3 block, size_t argument_bytes, const std::function<void()>& thread) {
    const bool possible = grid.x > 0 && grid.x <= INT32_MAX && grid.y > 0 && grid.y <= most_blocks_yz && grid.z == 1 &&
                          block.x > 0 && block.x <= most_threads && block.y == 1 && block.z == 1 &&
                          argument_bytes <= most_argument_bytes;
    if (!possible) return cudaErrorInvalidValue;
    thread_local std::unique_ptr<Block> threads;
    thread_local std::minstd_rand random;
    if (!threads || threads->threads() != block.x) threads = std::make_unique<Block>(block.x);
    gridDim = grid, blockDim = block;
    for (unsigned y = 0; y < grid.y; ++y)
        for (unsigned x = 0; x < grid.x; ++x) {
            blockIdx = {x, y, 0};
            threads->run(thread, random);
        }
    return cudaSuccess;
}

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t e) { return e == cudaErrorInvalidValue ? "invalid argument" : "an error"; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) { return *pool = nullptr, cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }

cudaError_t cudaMalloc(void** memory, size_t bytes) {
    if (bytes == 0) return *memory = nullptr, cudaSuccess;
    *memory = std::malloc(bytes);
    if (!*memory) return cudaErrorMemoryAllocation;
    std::memset(*memory, poison, bytes);
    return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) { return cudaMalloc(memory, bytes); }
cudaError_t cudaFree(void* memory) { return std::free(memory), cudaSuccess; }
cudaError_t cudaFreeAsync(void* memory, cudaStream_t) { return cudaFree(memory); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
    return std::memcpy(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t) {
    if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
    for (size_t i = 0; i < height; ++i)
        std::memcpy(static_cast<char*>(to) + i * to_pitch, static_cast<const char*>(from) + i * from_pitch, width);
    return cudaSuccess;
}

// Hidden: StarPU's own calls of its function are to stay its own.
extern "C" __attribute__((visibility("hidden"))) cudaStream_t starpu_cuda_get_local_stream() { return nullptr; }
