#include "codelets/blas.h"

#include <cblas.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <string>

#include "core/body.h"
#include "core/error.h"

namespace tessera::blas {
namespace {

CBLAS_TRANSPOSE op(bool transposed) { return transposed ? CblasTrans : CblasNoTrans; }

// OpenBLAS leaves C alone when k = 0 and some versions read C when beta = 0 and it holds NaN; neither is the formula.
template <class T>
bool degenerate(const Product<T>& p) {
    if (p.k > 0 && p.alpha != 0) return false;
    for (int64_t i = 0; i < p.m; ++i)
        for (int64_t j = 0; j < p.n; ++j) {
            T& c = p.c[i * p.ldc + j];
            c = p.beta == 0 ? T(0) : T(p.beta * c);
        }
    return true;
}

// A program without a Runtime, which sets this for all bodies, would find it using every core.
void use_one_thread() {
    if (openblas_get_num_threads() != 1) openblas_set_num_threads(1);
}

void widen(const bf16* from, int64_t ld, int64_t rows, int64_t cols, float* to) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j) to[i * cols + j] = from[i * ld + j];
}

}  // namespace

void openblas(const Product<float>& p) {
    if (degenerate(p)) return;
    use_one_thread();
    cblas_sgemm(CblasRowMajor, op(p.ta), op(p.tb), int(p.m), int(p.n), int(p.k), float(p.alpha), p.a, int(p.lda), p.b,
                int(p.ldb), float(p.beta), p.c, int(p.ldc));
}
void openblas(const Product<double>& p) {
    if (degenerate(p)) return;
    use_one_thread();
    cblas_dgemm(CblasRowMajor, op(p.ta), op(p.tb), int(p.m), int(p.n), int(p.k), p.alpha, p.a, int(p.lda), p.b,
                int(p.ldb), p.beta, p.c, int(p.ldc));
}

void onednn(const Product<float>& p) {
    if (degenerate(p)) return;
    thread_local bool prepared = false;  // OpenMP's thread count belongs to the calling thread
    if (!prepared) omp_set_num_threads(1), prepared = true;
    const auto status = dnnl_sgemm(p.ta ? 'T' : 'N', p.tb ? 'T' : 'N', p.m, p.n, p.k, float(p.alpha), p.a, p.lda, p.b,
                                   p.ldb, float(p.beta), p.c, p.ldc);
    if (status != dnnl_success) throw Error("dnnl_sgemm failed with status " + std::to_string(int(status)));
}

void widened(const Product<bf16>& p) {
    const int64_t a = p.m * p.k, b = p.k * p.n, c = p.m * p.n;
    auto* memory = static_cast<float*>(workspace((a + b + c + 48) * int64_t(sizeof(float))));
    const auto aligned = [](int64_t n) { return (n + 15) / 16 * 16; };
    float *wa = memory, *wb = wa + aligned(a), *wc = wb + aligned(b);
    const int64_t lda = p.ta ? p.m : p.k, ldb = p.tb ? p.k : p.n;
    widen(p.a, p.lda, p.ta ? p.k : p.m, lda, wa);
    widen(p.b, p.ldb, p.tb ? p.n : p.k, ldb, wb);
    if (p.beta != 0) widen(p.c, p.ldc, p.m, p.n, wc);
    onednn({p.ta, p.tb, p.m, p.n, p.k, p.alpha, wa, lda, wb, ldb, p.beta, wc, p.n});
    for (int64_t i = 0; i < p.m; ++i)
        for (int64_t j = 0; j < p.n; ++j) p.c[i * p.ldc + j] = bf16(wc[i * p.n + j]);
}

}  // namespace tessera::blas
