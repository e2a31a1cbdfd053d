// graphs/product.h - C := alpha op(A) op(B) + beta C on matrices in the caller's memory, larger than the memories of
// the devices that compute it if need be. Can take the place of a BLAS call: blocking (gemm) or not (Product).
#pragma once
#include <memory>
#include <vector>

#include "codelets/ops.h"
#include "core/blocks.h"
#include "core/executor.h"

namespace tessera {

// Row-major, as it is stored; op() is not applied to it.
struct Matrix {
    void* data = nullptr;
    int64_t rows = 0, cols = 0;
    int64_t ld = 0;  // elements from row to row, at least cols; 0: cols
    DType dtype = DType::f32;
};

struct ProductOptions {
    GemmOptions gemm;                  // alpha, beta, op, tf32
    int64_t tile = 1024;               // largest extent of a tile
    bool blocked = true;               // false: tasks in i, j, k order, placed by the policy alone
    std::vector<BlockDevice> devices;  // who computes how much; empty: all GPUs alike, or the cores if there is none
    ExecutorOptions executor;
};

// Throws UsageError naming the matrix: extents that are negative or do not match, ld below the columns, a matrix of
// more than 2^63 bytes, types other than f32, f64, bf16 or not alike, no memory.
void check_product(const Matrix& a, const Matrix& b, const Matrix& c, const GemmOptions&);

// The plan of a product: A, B, C cut into tiles, tasks given to devices in blocks (core/blocks.h). Params must outlive
// the plan. Every extent must be positive.
Plan product_plan(const Param& a, const Param& b, const Param& c, const GemmOptions&,
                  const std::vector<BlockDevice>& devices);

// A, B and C of a product, cut alike where they meet.
struct ProductParams {
    ProductParams(const Matrix& a, const Matrix& b, const Matrix& c, const GemmOptions&, int64_t tile);
    Param a, b, c;
};

// One product. The matrices stay in place - their memory is pinned, not copied - and must not be used until wait() has
// returned or the object is gone. Throws UsageError before anything is submitted: where check_product() does, where
// data that is read or written is null, and where C shares an element with A or B. In a simulation StarPU allocates for
// null. As BLAS does it: C is not read if beta = 0, A and B are not read if alpha = 0; NaN and Inf go their way.
class Product {
 public:
    Product(const Runtime&, const Matrix& a, const Matrix& b, const Matrix& c, const ProductOptions& = {});
    ~Product();
    Product(const Product&) = delete;

    void submit();  // returns at once; again after wait(), between which A, B and C may be changed
    void wait();    // until C is complete in host memory; throws Error if a task failed
    bool empty() const { return !executor_; }  // nothing to multiply: submit() has scaled C
    const Plan& plan() const { return executor_->plan(0); }
    Executor& executor() { return *executor_; }

 private:
    void scale_only();
    Matrix c_;
    GemmOptions options_;
    bool submitted_ = false;
    std::unique_ptr<ProductParams> params_;
    std::unique_ptr<Executor> executor_;
};

// Blocking.
void gemm(const Runtime&, const Matrix& a, const Matrix& b, const Matrix& c, const ProductOptions& = {});

void check_leading_dimension(const char* name, int64_t ld, int64_t cols);  // throws UsageError

// As cblas_?gemm with CblasRowMajor: op(A) is m x k, op(B) k x n, C m x n. T: float, double, bf16.
template <class T>
void gemm(const Runtime& runtime, bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const T* a,
          int64_t lda, const T* b, int64_t ldb, double beta, T* c, int64_t ldc) {
    const auto view = [](const char* name, const T* data, bool t, int64_t rows, int64_t cols, int64_t ld) {
        check_leading_dimension(name, ld, t ? rows : cols);
        return Matrix{const_cast<T*>(data), t ? cols : rows, t ? rows : cols, ld, dtype_of<T>};
    };
    ProductOptions options;
    options.gemm = {alpha, beta, ta, tb, false};
    gemm(runtime, view("A", a, ta, m, k, lda), view("B", b, tb, k, n, ldb), view("C", c, false, m, n, ldc), options);
}

}  // namespace tessera
