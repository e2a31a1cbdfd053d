// cublas.cpp - products in columns: element (i, j) of a matrix lies at i + j ld.
#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "cublasLt.h"
#include "elements.h"
#include "starpu_cublas_v2.h"

using emulated::load, emulated::put;

cublasHandle_t starpu_cublas_get_local_handle() { return nullptr; }
const char* cublasGetStatusString(cublasStatus_t s) {
    return s == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_NOT_SUPPORTED";
}
cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }

namespace {

struct Operand {
    const void* data;
    cudaDataType_t type;
    int64_t ld;
    bool transposed;
    double at(int64_t i, int64_t j) const { return load(data, type, transposed ? j + i * ld : i + j * ld); }
};

// c (i, j) = sum over l of a(i, l) b(l, j), times alpha, plus bias(i) and beta c.
void multiply(int64_t m, int64_t n, int64_t k, double alpha, Operand a, Operand b, double beta, void* c,
              cudaDataType_t type, int64_t ldc, const Operand* bias) {
    std::vector<double> columns(size_t(m * k), 0), sums(size_t(m), 0);
    for (int64_t l = 0; l < k; ++l)
        for (int64_t i = 0; i < m; ++i) columns[size_t(l * m + i)] = a.at(i, l);
    for (int64_t j = 0; j < n; ++j) {
        std::fill(sums.begin(), sums.end(), 0.0);
        for (int64_t l = 0; l < k; ++l) {
            const double factor = b.at(l, j);
            for (int64_t i = 0; i < m; ++i) sums[size_t(i)] += columns[size_t(l * m + i)] * factor;
        }
        for (int64_t i = 0; i < m; ++i)
            put(c, type, i + j * ldc, alpha * sums[size_t(i)] + (bias ? bias->at(i, 0) : 0), beta);
    }
}

int64_t bytes_of(cudaDataType_t t) { return t == CUDA_R_64F ? 8 : t == CUDA_R_32F ? 4 : 2; }

// The combinations of types that Tessera may ask for, out of the documented table.
bool supported(cudaDataType_t ab, cudaDataType_t c, cublasComputeType_t compute) {
    if (compute == CUBLAS_COMPUTE_64F) return ab == CUDA_R_64F && c == CUDA_R_64F;
    if (compute == CUBLAS_COMPUTE_32F_FAST_TF32) return ab == CUDA_R_32F && c == CUDA_R_32F;
    return (ab == CUDA_R_32F && c == CUDA_R_32F) || (ab == CUDA_R_16BF && (c == CUDA_R_16BF || c == CUDA_R_32F));
}

}  // namespace

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t, cublasOperation_t ta, cublasOperation_t tb, int m, int n,
                                          int k, const void* alpha, const void* a, cudaDataType_t a_type, int lda,
                                          long long a_stride, const void* b, cudaDataType_t b_type, int ldb,
                                          long long b_stride, const void* beta, void* c, cudaDataType_t c_type, int ldc,
                                          long long c_stride, int count, cublasComputeType_t compute,
                                          cublasGemmAlgo_t) {
    const bool shapes = m >= 0 && n >= 0 && k >= 0 && count >= 0 && lda >= std::max(1, ta ? k : m) &&
                        ldb >= std::max(1, tb ? n : k) && ldc >= std::max(1, m);
    if (!shapes) return CUBLAS_STATUS_INVALID_VALUE;
    if (a_type != b_type || !supported(a_type, c_type, compute)) return CUBLAS_STATUS_NOT_SUPPORTED;
    const bool f64 = compute == CUBLAS_COMPUTE_64F;
    for (int64_t p = 0; p < count; ++p)
        multiply(m, n, k, emulated::factor(alpha, f64),
                 {static_cast<const char*>(a) + p * a_stride * bytes_of(a_type), a_type, lda, ta == CUBLAS_OP_T},
                 {static_cast<const char*>(b) + p * b_stride * bytes_of(b_type), b_type, ldb, tb == CUBLAS_OP_T},
                 emulated::factor(beta, f64), static_cast<char*>(c) + p * c_stride * bytes_of(c_type), c_type, ldc,
                 nullptr);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                            const void* alpha, const void* a, cudaDataType_t a_type, int lda, const void* b,
                            cudaDataType_t b_type, int ldb, const void* beta, void* c, cudaDataType_t c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta, c, c_type,
                                      ldc, 0, 1, compute, algorithm);
}

// --- cuBLASLt ---

struct cublasLtMatrixLayoutOpaque_t {
    cudaDataType_t type;
    int64_t rows, cols, ld;
};
struct cublasLtMatmulDescOpaque_t {
    int32_t ta = CUBLAS_OP_N, tb = CUBLAS_OP_N, bias_type = -1;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void* bias = nullptr;
};
struct cublasLtMatmulPreferenceOpaque_t {
    uint64_t room = 0;
    std::map<int, uint32_t> others;
};

namespace {

constexpr size_t workspace_bytes_used = 4096;

template <class T>
cublasStatus_t set(T& attribute, const void* value, size_t bytes) {
    if (bytes != sizeof attribute) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&attribute, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

bool fits(const cublasLtMatmulDescOpaque_t& op, const cublasLtMatrixLayoutOpaque_t& a,
          const cublasLtMatrixLayoutOpaque_t& b, const cublasLtMatrixLayoutOpaque_t& c) {
    const bool ta = op.ta == CUBLAS_OP_T, tb = op.tb == CUBLAS_OP_T;
    return (ta ? a.cols : a.rows) == c.rows && (tb ? b.rows : b.cols) == c.cols &&
           (ta ? a.rows : a.cols) == (tb ? b.cols : b.rows) && a.ld >= a.rows && b.ld >= b.rows && c.ld >= c.rows &&
           a.type == b.type && supported(a.type, c.type, CUBLAS_COMPUTE_32F);
}

}  // namespace

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType_t type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
    *made = new cublasLtMatrixLayoutOpaque_t{type, int64_t(rows), int64_t(cols), ld};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) { return delete l, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t compute, cudaDataType_t scale) {
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    *made = new cublasLtMatmulDescOpaque_t;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) { return delete d, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what,
                                              const void* value, size_t bytes) {
    switch (what) {
        case CUBLASLT_MATMUL_DESC_TRANSA:
            return set(d->ta, value, bytes);
        case CUBLASLT_MATMUL_DESC_TRANSB:
            return set(d->tb, value, bytes);
        case CUBLASLT_MATMUL_DESC_EPILOGUE:
            return set(d->epilogue, value, bytes);
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
            return set(d->bias, value, bytes);
        case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
            return set(d->bias_type, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) {
    *made = new cublasLtMatmulPreferenceOpaque_t;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) { return delete p, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void* value,
                                                    size_t bytes) {
    if (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return set(p->room, value, bytes);
    return set(p->others[what], value, bytes);
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t p, int wanted,
                                              cublasLtMatmulHeuristicResult_t* result, int* found) {
    if (!fits(*op, *a, *b, *c) || !fits(*op, *a, *b, *d)) return CUBLAS_STATUS_INVALID_VALUE;
    *found = wanted > 0 && p->room >= workspace_bytes_used;
    if (*found == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
    *result = {{{1}}, workspace_bytes_used, CUBLAS_STATUS_SUCCESS};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t op, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t la, const void* b, cublasLtMatrixLayout_t lb, const void* beta,
                              const void* c, cublasLtMatrixLayout_t lc, void* d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                              cudaStream_t) {
    const bool has_bias = op->epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (!fits(*op, *la, *lb, *ld) || !fits(*op, *la, *lb, *lc) || c != d || algorithm->data[0] != 1 ||
        workspace_bytes < workspace_bytes_used || (has_bias && (!op->bias || op->bias_type < 0)))
        return CUBLAS_STATUS_INVALID_VALUE;
    std::memset(workspace, 0xff, workspace_bytes_used);
    const bool ta = op->ta == CUBLAS_OP_T;
    const Operand bias{op->bias, cudaDataType_t(op->bias_type), 0, false};
    multiply(ld->rows, ld->cols, ta ? la->rows : la->cols, emulated::factor(alpha, false), {a, la->type, la->ld, ta},
             {b, lb->type, lb->ld, op->tb == CUBLAS_OP_T}, emulated::factor(beta, false), d, ld->type, ld->ld,
             has_bias ? &bias : nullptr);
    return CUBLAS_STATUS_SUCCESS;
}
