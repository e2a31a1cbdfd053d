// elements.h - matrices of any element type, as the emulated libraries read and write them: sums in double.
#pragma once
#include "core/types.h"
#include "cuda_runtime.h"

namespace emulated {

inline double load(const void* data, cudaDataType_t type, int64_t at) {
    if (type == CUDA_R_64F) return static_cast<const double*>(data)[at];
    if (type == CUDA_R_32F) return static_cast<const float*>(data)[at];
    return static_cast<const tessera::bf16*>(data)[at];
}
inline void store(void* data, cudaDataType_t type, int64_t at, double value) {
    if (type == CUDA_R_64F) static_cast<double*>(data)[at] = value;
    else if (type == CUDA_R_32F) static_cast<float*>(data)[at] = float(value);
    else static_cast<tessera::bf16*>(data)[at] = tessera::bf16(float(value));
}
// What alpha and beta point to: of the type that sums have.
inline double factor(const void* p, bool f64) {
    return f64 ? *static_cast<const double*>(p) : double(*static_cast<const float*>(p));
}
// alpha sum + beta to: with beta = 0 what was there does not count, NaN included.
inline void put(void* to, cudaDataType_t type, int64_t at, double alpha_sum, double beta) {
    store(to, type, at, beta == 0 ? alpha_sum : alpha_sum + beta * load(to, type, at));
}

}  // namespace emulated
