// codelets/blas.h - row-major C = alpha op(A) op(B) + beta C on the host, one thread, safe from several workers at
// once. One wrapper, compiled by the host compiler: oneDNN's header does not pass through nvcc.
#pragma once
#include <cstdint>

#include "core/types.h"

namespace tessera::blas {

template <class T, class R = T>  // R: of the result
struct Product {
    bool ta, tb;
    int64_t m, n, k;  // of op(A) [m x k], op(B) [k x n]
    double alpha;
    const T* a;
    int64_t lda;
    const T* b;
    int64_t ldb;
    double beta;  // 0: C is written, not read
    R* c;
    int64_t ldc;
};

void openblas(const Product<float>&);
void openblas(const Product<double>&);
void onednn(const Product<float>&);
void widened(const Product<bf16>&);  // operands widened to f32 in the workspace, product in f32, rounded once

}  // namespace tessera::blas
