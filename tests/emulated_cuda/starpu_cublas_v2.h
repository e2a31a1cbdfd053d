// starpu_cublas_v2.h - as the header of a StarPU with CUDA.
#pragma once
#include "cublas_v2.h"

cublasHandle_t starpu_cublas_get_local_handle();
