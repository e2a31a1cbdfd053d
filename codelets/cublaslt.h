// codelets/cublaslt.h - Y = X W^T + b + beta Y by one cuBLASLt call, which adds the bias while the product's tile is in
// registers. Row-major operands are handed over as the column-major transposes of each other.
#pragma once
#include "codelets/product.h"
#include "core/body.h"

#ifdef TESSERA_CUDA
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <memory>

namespace tessera {

namespace lt {

template <class Handle, cublasStatus_t (*destroy)(Handle)>
struct Destroy {
    using pointer = Handle;
    void operator()(Handle h) const { destroy(h); }
};
using Layout = std::unique_ptr<void, Destroy<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>>;
using Operation = std::unique_ptr<void, Destroy<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>>;
using Preference = std::unique_ptr<void, Destroy<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>>;

inline Layout layout(cudaDataType_t type, int64_t rows, int64_t cols, int64_t ld) {
    cublasLtMatrixLayout_t made = nullptr;
    check(cublasLtMatrixLayoutCreate(&made, type, uint64_t(rows), uint64_t(cols), ld), "cublasLtMatrixLayoutCreate");
    return Layout(made);
}

// The largest power of two, up to 256, that divides the address: what a kernel may load at once depends on it.
inline uint32_t alignment_of(const void* p) {
    const auto address = reinterpret_cast<uintptr_t>(p);
    return uint32_t(1) << std::min(8, std::countr_zero(address));  // countr_zero(0) is 64
}

}  // namespace lt

// `p` as linear makes it (a not transposed, b transposed, alpha 1); bias [1 x n] or null. False: there is no such
// kernel.
template <class T>
bool cublaslt_linear(const blas::Product<T>& p, const T* bias, cudaStream_t stream) {
    using namespace lt;
    constexpr cudaDataType_t type = cuda_type<T>;
    const auto handle = reinterpret_cast<cublasLtHandle_t>(cublas(stream));  // a cuBLAS handle is one, too
    cublasLtMatmulDesc_t made = nullptr;
    check(cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    const Operation operation(made);
    const auto set = [&](cublasLtMatmulDescAttributes_t what, const auto& value) {
        check(cublasLtMatmulDescSetAttribute(operation.get(), what, &value, sizeof value), "cublasLtMatmulDescSet");
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T), set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
    if (bias) {
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
        set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
        set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type);
    }
    // Y^T [n x m] = W [n x k] X^T [k x m] in columns: W lies there as its transpose.
    const Layout w = layout(type, p.k, p.n, p.ldb), x = layout(type, p.k, p.m, p.lda),
                 y = layout(type, p.n, p.m, p.ldc);

    // What was found for a shape is kept: asking takes longer than many products.
    using Key = std::array<int64_t, 11>;
    struct Found {
        bool any = false;
        cublasLtMatmulAlgo_t algorithm{};
        size_t bytes = 0;
    };
    thread_local std::map<Key, Found> known;
    const uint32_t align[] = {alignment_of(p.b), alignment_of(p.a), alignment_of(p.c), alignment_of(bias)};
    const int64_t room = std::min(int64_t(32) << 20, workspace_limit());  // for parts of the sum
    const Key key{current_device(),
                  room,
                  p.m,
                  p.n,
                  p.k,
                  p.lda,
                  p.ldb,
                  p.ldc,
                  p.beta == 0,
                  bias != nullptr,
                  int64_t(align[0]) << 32 | align[1] << 20 | align[2] << 10 | align[3]};
    const auto [at, fresh] = known.try_emplace(key);
    if (fresh) {
        cublasLtMatmulPreference_t wish = nullptr;
        check(cublasLtMatmulPreferenceCreate(&wish), "cublasLtMatmulPreferenceCreate");
        const Preference preference(wish);
        const auto wish_for = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
            check(cublasLtMatmulPreferenceSetAttribute(wish, what, &value, sizeof value),
                  "cublasLtMatmulPreferenceSetAttribute");
        };
        wish_for(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(room));
        // Sums are not rounded to the result's type on the way.
        wish_for(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                 uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
        constexpr cublasLtMatmulPreferenceAttributes_t least[] = {
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
        for (int i = 0; i < 4; ++i) wish_for(least[i], align[std::min(i, 2)]);
        cublasLtMatmulHeuristicResult_t result{};
        int results = 0;
        const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, operation.get(), w.get(), x.get(), y.get(),
                                                                     y.get(), wish, 1, &result, &results);
        if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic");
        at->second = {status == CUBLAS_STATUS_SUCCESS && results > 0, result.algo, result.workspaceSize};
    }
    if (!at->second.any) return false;
    const float alpha = 1, beta = float(p.beta);
    const size_t bytes = at->second.bytes;
    check(cublasLtMatmul(handle, operation.get(), &alpha, p.b, w.get(), p.a, x.get(), &beta, p.c, y.get(), p.c, y.get(),
                         &at->second.algorithm, device::workspace(int64_t(bytes), stream), bytes, stream),
          "cublasLtMatmul");
    return true;
}

}  // namespace tessera
#endif
