// core/gpus.h - the GPUs of this machine before StarPU starts.
#pragma once
#include <cstdint>
#include <vector>

namespace tessera {

// CUDA's numbers of those that StarPU will take, by STARPU_WORKERS_CUDAID and STARPU_NCUDA; none without a driver.
std::vector<int> wanted_gpus();

// Throws UsageError if those are of several models: their libraries choose other algorithms, and round otherwise.
void require_one_gpu_model();

// StarPU counts on 90 % of a GPU's memory, whoever holds it, and stops the program where it gets less. Where other
// processes hold some, StarPU's limit for that GPU becomes 90 % of what is free. Throws Error for a GPU that cannot be
// used, has next to nothing free, or less than a limit that is set.
void fit_gpu_memory();

// Throws Error if the GPU does not give so many bytes in one piece: StarPU would ask again for ever.
void try_gpu_memory(int gpu, int64_t bytes);

}  // namespace tessera
