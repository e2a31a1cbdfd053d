// layer_norm: y(i, j) = (x(i, j) - mean(i)) rstd(i) gamma(j) + beta(j), rstd = 1 / sqrt(var + epsilon), over each row.
// f32, f64, bf16; mean and rstd [rows x 1] are kept in the computing type. A task needs whole rows: columns are retiled
// into one tile. Ba, Kiros, Hinton 2016, arXiv:1607.06450.
#include <algorithm>
#include <cmath>

#include "codelets/columns.h"
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "codelets/reduce.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct LayerNormArgs {
    double epsilon;
};

template <class T>
struct LayerNorm {
    static constexpr auto name = "layer_norm", formula = "y(i, j) = (x(i, j) - mean(i)) rstd(i) gamma(j) + beta(j)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = LayerNormArgs;
    using C = Compute<T>;
    static Cost cost(Args, In<T> x, In<T> gamma, In<T> beta, Out<T> y, Out<C> mean, Out<C> rstd) {
        return {8 * double(x.size()), bytes_of_views(x, gamma, beta, y, mean, rstd)};
    }
    HD static C f(C x, C mean, C rstd, C gamma, C beta) { return (x - mean) * rstd * gamma + beta; }
    static void cpu(Args a, In<T> x, In<T> gamma, In<T> beta, Out<T> y, Out<C> mean, Out<C> rstd) {
        const int64_t n = x.cols;
        const T* __restrict by = gamma.data, * __restrict plus = beta.data;
        for (int64_t i = 0; i < x.rows; ++i) {
            const T* __restrict from = x.row(i);
            T* __restrict to = y.row(i);
            const C m = sum_of<C>(n, [=](int64_t j) { return C(from[j]); }) / C(n);
            const C squares = sum_of<C>(n, [=](int64_t j) { return (C(from[j]) - m) * (C(from[j]) - m); });
            const C r = C(1) / std::sqrt(squares / C(n) + C(a.epsilon));
            for (int64_t j = 0; j < n; ++j) to[j] = T(f(from[j], m, r, by[j], plus[j]));
            mean(i, 0) = m;
            rstd(i, 0) = r;
        }
    }
    static void cuda(Args a, In<T> x, In<T> gamma, In<T> beta, Out<T> y, Out<C> mean, Out<C> rstd, Stream stream);
};

// With z = (x - mean) rstd and g = dy gamma: dx = rstd (g - mean over j of g - z * mean over j of g z).
template <class T>
struct LayerNormBackward {
    static constexpr auto name = "layer_norm_backward", formula = "dx = rstd (g - mean(g) - z mean(g z)), g = dy gamma";
    static constexpr DType dtype = dtype_of<T>;
    using C = Compute<T>;
    static Cost cost(NoArgs, In<T> x, In<T> gamma, In<C> mean, In<C> rstd, In<T> dy, Out<T> dx) {
        return {12 * double(x.size()), bytes_of_views(x, gamma, mean, rstd, dy, dx)};
    }
    HD static C f(C z, C g, C rstd, C mean_g, C mean_gz) { return rstd * (g - mean_g - z * mean_gz); }
    static void cpu(NoArgs, In<T> x, In<T> gamma, In<C> mean, In<C> rstd, In<T> dy, Out<T> dx) {
        const int64_t n = x.cols;
        const T* __restrict by = gamma.data;
        for (int64_t i = 0; i < x.rows; ++i) {
            const T* __restrict from = x.row(i), * __restrict d = dy.row(i);
            T* __restrict to = dx.row(i);
            const C m = mean(i, 0), r = rstd(i, 0);
            const auto z = [=](int64_t j) { return (C(from[j]) - m) * r; };
            const auto g = [=](int64_t j) { return C(d[j]) * C(by[j]); };
            const C mean_g = sum_of<C>(n, g) / C(n);
            const C mean_gz = sum_of<C>(n, [=](int64_t j) { return g(j) * z(j); }) / C(n);
            for (int64_t j = 0; j < n; ++j) to[j] = T(f(z(j), g(j), r, mean_g, mean_gz));
        }
    }
    static void cuda(NoArgs, In<T> x, In<T> gamma, In<C> mean, In<C> rstd, In<T> dy, Out<T> dx, Stream stream);
};

struct AffineArgs {
    bool first;
};

template <class T>
struct LayerNormBackwardAffine {
    static constexpr auto name = "layer_norm_backward_affine",
                          formula = "dgamma(j) = sum over i of dy (x - mean) rstd, dbeta(j) = sum over i of dy";
    static constexpr DType dtype = dtype_of<T>;
    using Args = AffineArgs;
    using C = Compute<T>;
    static Cost cost(Args, In<T> x, In<C> mean, In<C> rstd, In<T> dy, Acc<T> dgamma, Acc<T> dbeta) {
        return {5 * double(x.size()), bytes_of_views(x, mean, rstd, dy, dgamma, dbeta)};
    }
    static void cpu(Args a, In<T> x, In<C> mean, In<C> rstd, In<T> dy, Acc<T> dgamma, Acc<T> dbeta) {
        constexpr int64_t width = 256;  // columns summed at once, in first-level cache
        C gamma[width], beta[width];
        for (int64_t j0 = 0; j0 < x.cols; j0 += width) {
            const int64_t n = std::min(width, x.cols - j0);
            for (int64_t j = 0; j < n; ++j) {
                gamma[j] = a.first ? C(0) : C(dgamma.data[j0 + j]);
                beta[j] = a.first ? C(0) : C(dbeta.data[j0 + j]);
            }
            for (int64_t i = 0; i < x.rows; ++i) {
                const T* __restrict from = x.row(i) + j0, * __restrict d = dy.row(i) + j0;
                const C m = mean(i, 0), r = rstd(i, 0);
                for (int64_t j = 0; j < n; ++j) {
                    gamma[j] += C(d[j]) * ((C(from[j]) - m) * r);
                    beta[j] += C(d[j]);
                }
            }
            for (int64_t j = 0; j < n; ++j) {
                dgamma.data[j0 + j] = T(gamma[j]);
                dbeta.data[j0 + j] = T(beta[j]);
            }
        }
    }
    static void cuda(Args a, In<T> x, In<C> mean, In<C> rstd, In<T> dy, Acc<T> dgamma, Acc<T> dbeta, Stream stream);
};

#ifdef TESSERA_CUDA
template <class T, class C>
__global__ void layer_norm_kernel(LayerNormArgs a, In<T> x, In<T> gamma, In<T> beta, Out<T> y, Out<C> mean,
                                  Out<C> rstd) {
    for (int64_t i = blockIdx.x; i < x.rows; i += gridDim.x) {  // one block per row
        C sum = 0, squares = 0;
        for (int64_t j = threadIdx.x; j < x.cols; j += blockDim.x) sum += C(x(i, j));
        const C m = block_sum(sum) / C(x.cols);
        for (int64_t j = threadIdx.x; j < x.cols; j += blockDim.x) squares += (C(x(i, j)) - m) * (C(x(i, j)) - m);
        const C r = C(1) / std::sqrt(block_sum(squares) / C(x.cols) + C(a.epsilon));
        for (int64_t j = threadIdx.x; j < x.cols; j += blockDim.x)
            y(i, j) = T(LayerNorm<T>::f(x(i, j), m, r, gamma.data[j], beta.data[j]));
        if (threadIdx.x == 0) mean(i, 0) = m, rstd(i, 0) = r;
    }
}
template <class T, class C>
__global__ void layer_norm_backward_kernel(In<T> x, In<T> gamma, In<C> mean, In<C> rstd, In<T> dy, Out<T> dx) {
    for (int64_t i = blockIdx.x; i < x.rows; i += gridDim.x) {  // one block per row
        const C m = mean(i, 0), r = rstd(i, 0);
        C sum_g = 0, sum_gz = 0;
        for (int64_t j = threadIdx.x; j < x.cols; j += blockDim.x) {
            const C g = C(dy(i, j)) * C(gamma.data[j]);
            sum_g += g;
            sum_gz += g * ((C(x(i, j)) - m) * r);
        }
        const C mean_g = block_sum(sum_g) / C(x.cols), mean_gz = block_sum(sum_gz) / C(x.cols);
        for (int64_t j = threadIdx.x; j < x.cols; j += blockDim.x) {
            const C z = (C(x(i, j)) - m) * r, g = C(dy(i, j)) * C(gamma.data[j]);
            dx(i, j) = T(LayerNormBackward<T>::f(z, g, r, mean_g, mean_gz));
        }
    }
}
template <class T, class C>
struct AffineTerm {
    In<T> x, dy;
    In<C> mean, rstd;
    __device__ Sums<C, 2> operator()(int64_t i, int64_t j) const {
        const C d = C(dy(i, j));
        return {{d * ((C(x(i, j)) - mean(i, 0)) * rstd(i, 0)), d}};
    }
};
template <class T, class C>
struct AddAffine {
    AffineArgs a;
    Acc<T> dgamma, dbeta;
    __device__ void operator()(int64_t j, const Sums<C, 2>& sum) const {
        dgamma.data[j] = T(sum.of[0] + (a.first ? C(0) : C(dgamma.data[j])));
        dbeta.data[j] = T(sum.of[1] + (a.first ? C(0) : C(dbeta.data[j])));
    }
};
template <class T>
void LayerNorm<T>::cuda(Args a, In<T> x, In<T> gamma, In<T> beta, Out<T> y, Out<C> mean, Out<C> rstd, Stream stream) {
    launch(name, stream, blocks_for_rows(x.rows), layer_norm_kernel<T, C>, a, x, gamma, beta, y, mean, rstd);
}
template <class T>
void LayerNormBackward<T>::cuda(NoArgs, In<T> x, In<T> gamma, In<C> mean, In<C> rstd, In<T> dy, Out<T> dx,
                                Stream stream) {
    launch(name, stream, blocks_for_rows(x.rows), layer_norm_backward_kernel<T, C>, x, gamma, mean, rstd, dy, dx);
}
template <class T>
void LayerNormBackwardAffine<T>::cuda(Args a, In<T> x, In<C> mean, In<C> rstd, In<T> dy, Acc<T> dgamma, Acc<T> dbeta,
                                      Stream stream) {
    sum_columns_on_cuda<Sums<C, 2>>(x.rows, x.cols, AffineTerm<T, C>{x, dy, mean, rstd},
                                    AddAffine<T, C>{a, dgamma, dbeta}, stream, name);
}
#endif
const Register<LayerNorm<float>, LayerNorm<double>, LayerNorm<bf16>, LayerNormBackward<float>,
               LayerNormBackward<double>, LayerNormBackward<bf16>, LayerNormBackwardAffine<float>,
               LayerNormBackwardAffine<double>, LayerNormBackwardAffine<bf16>>
    codelets;
const Example example(codelets, activation_sizes, [](ExampleGraph& e, Shape s) {
    const Tensor x = e.input(s), gamma = e.input({1, s.cols}), beta = e.input({1, s.cols});
    e.keep_with_gradients(layer_norm(x, gamma, beta), {x, gamma, beta});
});

// dgamma, dbeta [1 x cols] for x and dy cut into whole rows.
std::vector<Tensor> affine_gradients(Tensor x, Tensor mean, Tensor rstd, Tensor dy) {
    Graph& g = *x.graph;
    const Shape shape{1, x.shape().cols};
    Tensor dgamma = g.value("dgamma", shape, x.dtype(), Grid::whole(shape));
    Tensor dbeta = g.value("dbeta", shape, x.dtype(), Grid::whole(shape));
    Node node;
    node.op = "layer_norm_backward_affine", node.inputs = {x, mean, rstd, dy}, node.outputs = {dgamma, dbeta};
    node.lower = [=](Lowering& to) {
        const auto sum = [&](Tensor t, bool first) {
            return first ? Lowering::first(to.tile(t, 0, 0)) : to.tile(t, 0, 0);
        };
        dispatch<float, double, bf16>(x.dtype(), "layer_norm_backward_affine", [&]<class T>() {
            for (int64_t i = 0; i < x.grid().rows(); ++i)
                to.task<LayerNormBackwardAffine<T>>({i == 0}, to.tile(x, i, 0), to.tile(mean, i, 0),
                                                    to.tile(rstd, i, 0), to.tile(dy, i, 0), sum(dgamma, i == 0),
                                                    sum(dbeta, i == 0));
        });
    };
    g.add(std::move(node));
    return {dgamma, dbeta};
}

// Gradients of x, gamma, beta.
std::vector<Tensor> layer_norm_backward(Tensor x, Tensor gamma, Tensor mean, Tensor rstd, Tensor dy) {
    Graph& g = *x.graph;
    dy = on_grid(dy, x.grid());
    Tensor dx = g.value("layer_norm_backward", x.shape(), x.dtype(), x.grid());
    Node node;
    node.op = "layer_norm_backward", node.inputs = {x, gamma, mean, rstd, dy}, node.outputs = {dx};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "layer_norm_backward", [&]<class T>() {
            for (int64_t i = 0; i < x.grid().rows(); ++i)
                to.task<LayerNormBackward<T>>({}, to.tile(x, i, 0), to.tile(gamma, 0, 0), to.tile(mean, i, 0),
                                              to.tile(rstd, i, 0), to.tile(dy, i, 0), to.tile(dx, i, 0));
        });
    };
    g.add(std::move(node));
    const auto affine = affine_gradients(x, mean, rstd, dy);
    return {dx, affine[0], affine[1]};
}

}  // namespace

Tensor layer_norm(Tensor x, Tensor gamma, Tensor beta, double epsilon) {
    const Shape shape = x.shape(), affine{1, shape.cols};
    require(gamma.shape() == affine && beta.shape() == affine, "layer_norm",
            "gamma and beta must be [1 x columns of x]", {x, gamma, beta});
    require(x.dtype() == gamma.dtype() && x.dtype() == beta.dtype(), "layer_norm", "needs one type", {x, gamma, beta});
    require(epsilon >= 0, "layer_norm", "epsilon must not be negative", {x});
    require_type<float, double, bf16>(x.dtype(), "layer_norm");
    x = on_grid(x, {x.grid().row_extents, {shape.cols}});
    gamma = on_grid(gamma, Grid::whole(affine));
    beta = on_grid(beta, Grid::whole(affine));
    Graph& g = *x.graph;
    const DType computed = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
    const Grid per_row{x.grid().row_extents, {1}};
    Tensor y = g.value("layer_norm", shape, x.dtype(), x.grid());
    Tensor mean = g.value("mean", {shape.rows, 1}, computed, per_row);
    Tensor rstd = g.value("rstd", {shape.rows, 1}, computed, per_row);
    Node node;
    node.op = "layer_norm", node.inputs = {x, gamma, beta}, node.outputs = {y, mean, rstd};
    node.attributes = "epsilon=" + std::to_string(epsilon);
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "layer_norm", [&]<class T>() {
            for (int64_t i = 0; i < x.grid().rows(); ++i)
                to.task<LayerNorm<T>>({epsilon}, to.tile(x, i, 0), to.tile(gamma, 0, 0), to.tile(beta, 0, 0),
                                      to.tile(y, i, 0), to.tile(mean, i, 0), to.tile(rstd, i, 0));
        });
    };
    node.vjp = [=](const auto& d) { return layer_norm_backward(x, gamma, mean, rstd, d[0]); };
    g.add(std::move(node));
    return y;
}

}  // namespace tessera
