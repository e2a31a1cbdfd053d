// softmax: y(i, j) = exp(x(i, j) - m(i)) / sum over j of the same, m(i) the row's maximum; a row with NaN becomes NaN.
// dx = y (dy - sum over j of dy y). f32, f64, bf16. A task needs whole rows: columns are retiled into one tile.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "codelets/reduce.h"
#include "codelets/vector_math.h"
#include "core/body.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
struct Softmax {
    static constexpr auto name = "softmax", formula = "y(i, j) = exp(x(i, j)) / sum over k of exp(x(i, k))";
    static constexpr DType dtype = dtype_of<T>;
    using C = Compute<T>;
    static Cost cost(NoArgs, In<T> x, Out<T> y) { return {10 * double(y.size()), bytes_of_views(x, y)}; }
    static void cpu(NoArgs, In<T> x, Out<T> y) {
        const int64_t n = x.cols;
        C* __restrict e = static_cast<C*>(workspace(n * int64_t(sizeof(C))));
        for (int64_t i = 0; i < x.rows; ++i) {
            const T* __restrict from = x.row(i);
            T* __restrict to = y.row(i);
            const C most = max_of<C>(n, [=](int64_t j) { return C(from[j]); });
            for (int64_t j = 0; j < n; ++j) e[j] = std::exp(C(from[j]) - most);
            const C factor = C(1) / sum_of<C>(n, [=](int64_t j) { return e[j]; });
            for (int64_t j = 0; j < n; ++j) to[j] = T(e[j] * factor);
        }
    }
    static void cuda(NoArgs, In<T> x, Out<T> y, Stream stream);
};

template <class T>
struct SoftmaxBackward {
    static constexpr auto name = "softmax_backward",
                          formula = "dx(i, j) = y(i, j) (dy(i, j) - sum over k of dy(i, k) y(i, k))";
    static constexpr DType dtype = dtype_of<T>;
    using C = Compute<T>;
    static Cost cost(NoArgs, In<T> y, In<T> dy, Out<T> dx) { return {4 * double(y.size()), bytes_of_views(y, dy, dx)}; }
    static void cpu(NoArgs, In<T> y, In<T> dy, Out<T> dx) {
        for (int64_t i = 0; i < y.rows; ++i) {
            const T* __restrict p = y.row(i), * __restrict d = dy.row(i);
            T* __restrict to = dx.row(i);
            const C dot = sum_of<C>(y.cols, [=](int64_t j) { return C(d[j]) * C(p[j]); });
            for (int64_t j = 0; j < y.cols; ++j) to[j] = T(C(p[j]) * (C(d[j]) - dot));
        }
    }
    static void cuda(NoArgs, In<T> y, In<T> dy, Out<T> dx, Stream stream);
};

#ifdef TESSERA_CUDA
template <class T>
__global__ void softmax_kernel(In<T> x, Out<T> y) {  // one block per row
    using C = Compute<T>;
    for (int64_t i = blockIdx.x; i < x.rows; i += gridDim.x) {
        C most = -INFINITY;
        for (int64_t j = threadIdx.x; j < x.cols; j += blockDim.x) most = C(x(i, j)) > most ? C(x(i, j)) : most;
        most = block_max(most);
        C sum = 0;
        for (int64_t j = threadIdx.x; j < x.cols; j += blockDim.x) sum += std::exp(C(x(i, j)) - most);
        const C factor = C(1) / block_sum(sum);
        for (int64_t j = threadIdx.x; j < x.cols; j += blockDim.x) y(i, j) = T(std::exp(C(x(i, j)) - most) * factor);
    }
}
template <class T>
__global__ void softmax_backward_kernel(In<T> y, In<T> dy, Out<T> dx) {
    using C = Compute<T>;
    for (int64_t i = blockIdx.x; i < y.rows; i += gridDim.x) {
        C dot = 0;
        for (int64_t j = threadIdx.x; j < y.cols; j += blockDim.x) dot += C(dy(i, j)) * C(y(i, j));
        dot = block_sum(dot);
        for (int64_t j = threadIdx.x; j < y.cols; j += blockDim.x) dx(i, j) = T(C(y(i, j)) * (C(dy(i, j)) - dot));
    }
}
template <class T>
void Softmax<T>::cuda(NoArgs, In<T> x, Out<T> y, Stream stream) {
    launch(name, stream, blocks_for_rows(x.rows), softmax_kernel<T>, x, y);
}
template <class T>
void SoftmaxBackward<T>::cuda(NoArgs, In<T> y, In<T> dy, Out<T> dx, Stream stream) {
    launch(name, stream, blocks_for_rows(y.rows), softmax_backward_kernel<T>, y, dy, dx);
}
#endif
const Register<Softmax<float>, Softmax<double>, Softmax<bf16>, SoftmaxBackward<float>, SoftmaxBackward<double>,
               SoftmaxBackward<bf16>>
    codelets;
const Example example(codelets, softmax);

Tensor whole_rows(Tensor x) { return on_grid(x, {x.grid().row_extents, {x.shape().cols}}); }

}  // namespace

Tensor softmax(Tensor x) {
    Tensor y = map_tiles<Softmax, float, double, bf16>(NoArgs{}, {whole_rows(x)}, {});
    return with_vjp(y, [y](const auto& d) {
        return std::vector{map_tiles<SoftmaxBackward, float, double, bf16>(NoArgs{}, {y, d[0]}, {})};
    });
}

}  // namespace tessera
