// codelets/product.h - the products that gemm and linear share: cuBLAS on row-major operands (swapped, so that its
// column-major view is the transpose of ours), and views checked against each other.
#pragma once
#include "codelets/blas.h"
#include "codelets/cuda.h"

namespace tessera {

template <class T>
blas::Product<T> product(bool ta, bool tb, double alpha, In<T> a, In<T> b, double beta, View<T, Access::accumulate> c) {
    return {ta, tb, c.rows, c.cols, ta ? a.rows : a.cols, alpha, a.data, a.ld, b.data, b.ld, beta, c.data, c.ld};
}

#ifdef TESSERA_CUDA
template <class T>
inline constexpr cudaDataType_t cuda_type = dtype_of<T> == DType::f64    ? CUDA_R_64F
                                            : dtype_of<T> == DType::bf16 ? CUDA_R_16BF
                                                                         : CUDA_R_32F;

// tf32 says something of f32 only.
template <class T>
void cublas_product(const blas::Product<T>& p, bool tf32, cudaStream_t stream) {
    constexpr cudaDataType_t type = cuda_type<T>;
    const cublasComputeType_t compute = dtype_of<T> == DType::f64           ? CUBLAS_COMPUTE_64F
                                        : tf32 && dtype_of<T> == DType::f32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                            : CUBLAS_COMPUTE_32F;
    Compute<T> alpha = Compute<T>(p.alpha), beta = Compute<T>(p.beta);
    const auto op = [](bool t) { return t ? CUBLAS_OP_T : CUBLAS_OP_N; };
    check(cublasGemmEx(cublas(stream), op(p.tb), op(p.ta), int(p.n), int(p.m), int(p.k), &alpha, p.b, type, int(p.ldb),
                       p.a, type, int(p.lda), &beta, p.c, type, int(p.ldc), compute, CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
}
#endif

}  // namespace tessera
