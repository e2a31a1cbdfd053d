#include "core/gpus.h"

#include <starpu.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <sstream>
#include <string>

#include "core/error.h"

namespace tessera {

#if defined(STARPU_USE_CUDA) && !defined(STARPU_SIMGRID)

std::vector<int> wanted_gpus() {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) return {};
    std::vector<int> all;
    if (const char* ids = std::getenv("STARPU_WORKERS_CUDAID")) {
        std::istringstream words(ids);
        for (int id; words >> id;)
            if (id >= 0 && id < count) all.push_back(id);
    } else
        for (int id = 0; id < count; ++id) all.push_back(id);
    const char* wanted = std::getenv("STARPU_NCUDA");
    if (wanted) all.resize(size_t(std::clamp<int64_t>(std::atoll(wanted), 0, int64_t(all.size()))));
    return all;
}

void fit_gpu_memory() {
    constexpr int64_t mebibyte = int64_t(1) << 20,
                      least_mib = 64;  // StarPU measures the bus with 32, libraries need some
    for (const int gpu : wanted_gpus()) {
        const std::string name = "GPU " + std::to_string(gpu);
        const auto check = [&](cudaError_t status) {
            if (status == cudaSuccess) return;
            throw Error(name + " cannot be used: " + cudaGetErrorString(status),
                        "CUDA_VISIBLE_DEVICES or STARPU_WORKERS_CUDAID choose others, STARPU_NCUDA=0 none");
        };
        size_t free_bytes = 0, total_bytes = 0;
        check(cudaSetDevice(gpu));
        check(cudaMemGetInfo(&free_bytes, &total_bytes));
        const int64_t free_mib = int64_t(free_bytes) / mebibyte, total_mib = int64_t(total_bytes) / mebibyte;
        const std::string own = "STARPU_LIMIT_CUDA_" + std::to_string(gpu) + "_MEM";
        const char* limit = std::getenv("STARPU_LIMIT_CUDA_MEM");
        if (!limit) limit = std::getenv(own.c_str());
        const std::string has = name + " has " + std::to_string(free_mib) + " of " + std::to_string(total_mib) +
                                " MiB free, other processes hold the rest";
        if (free_mib < least_mib) throw Error(has, "wait for them, or leave the GPU out with CUDA_VISIBLE_DEVICES");
        if (limit && std::atoll(limit) > free_mib)
            throw Error(has + ": a limit of " + limit + " MiB does not fit",
                        "lower it, or wait for the other processes");
        if (!limit && free_mib * 9 / 10 < total_mib * 9 / 10 - least_mib)
            setenv(own.c_str(), std::to_string(free_mib * 9 / 10).c_str(), 1);
    }
}

void require_one_gpu_model() {
    std::string first;
    for (const int gpu : wanted_gpus()) {
        cudaDeviceProp p;
        if (cudaGetDeviceProperties(&p, gpu) != cudaSuccess) continue;
        if (first.empty()) first = p.name;
        else if (first != p.name)
            throw UsageError("--deterministic needs GPUs of one model; here are " + first + " and " + p.name,
                             "choose with CUDA_VISIBLE_DEVICES or STARPU_WORKERS_CUDAID");
    }
}

void try_gpu_memory(int gpu, int64_t bytes) {
    void* memory = nullptr;
    cudaError_t status = cudaSetDevice(gpu);
    if (status == cudaSuccess) status = cudaMalloc(&memory, size_t(bytes));
    if (status == cudaSuccess) status = cudaFree(memory);
    if (status == cudaSuccess) return;
    (void)cudaGetLastError();  // told here
    throw Error(
        "GPU " + std::to_string(gpu) + " does not give the " + std::to_string(bytes) +
            " bytes that StarPU asks for first: " + cudaGetErrorString(status),
        "other processes may hold its memory; choose a smaller --tile, or other GPUs with CUDA_VISIBLE_DEVICES");
}

#else

std::vector<int> wanted_gpus() { return {}; }
void fit_gpu_memory() {}
void require_one_gpu_model() {}
void try_gpu_memory(int, int64_t) {}

#endif

}  // namespace tessera
