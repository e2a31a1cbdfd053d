// emulation.h - read first by every op's file that is compiled for the emulated device.
#pragma once
#include <starpu.h>

#include "cuda_runtime.h"

extern "C" cudaStream_t starpu_cuda_get_local_stream();
#define TESSERA_CUDA 1
#define TESSERA_CUDNN 1
