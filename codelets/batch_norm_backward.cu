// batch_norm_backward: the gradient of batch_norm. With dz = dy act'(y), the gradient of what was added before the
// activation, and z = (x - mean) rstd, per channel: dgamma = sum of dz z, dbeta = sum of dz, and
// dx = gamma rstd (dz - dbeta / rows - z dgamma / rows); evaluation: dx = gamma rstd dz. f32, f64, bf16.
#include <algorithm>

#include "codelets/batch_norm.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
using MaybeIn = InList<T>;  // one tile or none: of y, which an activation needs

template <class C>
struct AffineSums {
    C dgamma, dbeta;
    HD void add(const AffineSums& o) { dgamma += o.dgamma, dbeta += o.dbeta; }
};

// dz of one element, and its parts of the sums but for rstd.
template <class T, Activation A>
inline Compute<T> dz_of(const T* y, const T* dy, int64_t at_y, int64_t at_dy) {
    using C = Compute<T>;
    if constexpr (A == Activation::none) return C(dy[at_dy]);
    else return C(dy[at_dy]) * derivative_from_output(A, C(y[at_y]));
}

// Sums of a tile, columns j0 ... j0 + cols; dz(rows i0 ... i0 + rows) is called before a chunk of rows is summed.
template <class T, Activation A, class Each>
void add_affine_sums(const BatchNormArgs& a, In<T> x, In<T> y, In<T> dy, In<Compute<T>> mean, In<Compute<T>> rstd,
                     Acc<Compute<T>> dgamma, Acc<Compute<T>> dbeta, Each each) {
    using C = Compute<T>;
    C gamma[columns_at_once], beta[columns_at_once], more_gamma[columns_at_once], more_beta[columns_at_once];
    for (int64_t j0 = 0; j0 < x.cols; j0 += columns_at_once) {
        const int64_t n = std::min(columns_at_once, x.cols - j0), most = rows_at_once<T>(n);
        const C* m = mean.data + a.offset + j0;
        std::fill_n(gamma, n, C(0));
        std::fill_n(beta, n, C(0));
        for (int64_t i0 = 0; i0 < x.rows; i0 += most) {
            const int64_t rows = std::min(most, x.rows - i0), ldx = x.ld, ldy = y.ld, ldd = dy.ld;
            const T *from = x.row(i0) + j0, *d = dy.row(i0) + j0;
            const T* out = A == Activation::none ? nullptr : y.row(i0) + j0;
            each(i0, rows, j0, n);
            std::fill_n(more_gamma, n, C(0));
            std::fill_n(more_beta, n, C(0));
            sum_columns(rows, n, more_beta,
                        [=](int64_t i, int64_t j) { return dz_of<T, A>(out, d, i * ldy + j, i * ldd + j); });
            sum_columns(rows, n, more_gamma, [=](int64_t i, int64_t j) {
                return dz_of<T, A>(out, d, i * ldy + j, i * ldd + j) * (C(from[i * ldx + j]) - m[j]);
            });
            for (int64_t j = 0; j < n; ++j) gamma[j] += more_gamma[j], beta[j] += more_beta[j];
        }
        for (int64_t j = 0; j < n; ++j) {
            const C g = gamma[j] * rstd_of(a, rstd.data[a.offset + j0 + j]);
            dgamma(0, j0 + j) = a.first ? g : dgamma(0, j0 + j) + g;
            dbeta(0, j0 + j) = a.first ? beta[j] : dbeta(0, j0 + j) + beta[j];
        }
    }
}

template <class T>
struct BatchNormSums {
    static constexpr auto name = "batch_norm_sums",
                          formula = "dgamma += sum of dz z, dbeta += sum of dz, dz = dy act'(y)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = BatchNormArgs;
    using C = Compute<T>;
    static uint32_t key(Args a) { return uint32_t(a.activation); }
    static Cost cost(Args, In<T> x, MaybeIn<T> y, In<T> dy, In<C>, In<C>, Acc<C> dgamma, Acc<C> dbeta) {
        return {double(4 + 2 * y.count) * double(x.size()),
                bytes_of_views(x, dy) * (y.count ? 1.5 : 1) + 2 * bytes_of_views(dgamma, dbeta)};
    }
    static void cpu(Args a, In<T> x, MaybeIn<T> y, In<T> dy, In<C> mean, In<C> rstd, Acc<C> dgamma, Acc<C> dbeta) {
        with_activation(a.activation, [&]<Activation A>() {
            add_affine_sums<T, A>(a, x, y.count ? y[0] : In<T>{}, dy, mean, rstd, dgamma, dbeta,
                                  [](int64_t, int64_t, int64_t, int64_t) {});
        });
    }
    static void cuda(Args a, In<T> x, MaybeIn<T> y, In<T> dy, In<C> mean, In<C> rstd, Acc<C> dgamma, Acc<C> dbeta,
                     Stream stream);
};

// The same where something was added before the activation: its gradient dz, which dx is then made of.
template <class T>
struct BatchNormAddedSums {
    static constexpr auto name = "batch_norm_added_sums",
                          formula = "dz = dy act'(y), dgamma += sum of dz z, dbeta += sum of dz";
    static constexpr DType dtype = dtype_of<T>;
    using Args = BatchNormArgs;
    using C = Compute<T>;
    static uint32_t key(Args a) { return uint32_t(a.activation); }
    static Cost cost(Args, In<T> x, In<T> y, In<T> dy, In<C>, In<C>, Acc<C> dgamma, Acc<C> dbeta, Out<T> dz) {
        return {6 * double(x.size()), bytes_of_views(x, y, dy, dz) + 2 * bytes_of_views(dgamma, dbeta)};
    }
    static void cpu(Args a, In<T> x, In<T> y, In<T> dy, In<C> mean, In<C> rstd, Acc<C> dgamma, Acc<C> dbeta,
                    Out<T> dz) {
        with_activation(a.activation, [&]<Activation A>() {
            const auto write = [&](int64_t i0, int64_t rows, int64_t j0, int64_t n) {
                for (int64_t i = i0; i < i0 + rows; ++i) row<A>(n, y.row(i) + j0, dy.row(i) + j0, dz.row(i) + j0);
            };
            add_affine_sums<T, A>(a, x, y, dy, mean, rstd, dgamma, dbeta, write);
        });
    }
    static void cuda(Args a, In<T> x, In<T> y, In<T> dy, In<C> mean, In<C> rstd, Acc<C> dgamma, Acc<C> dbeta, Out<T> dz,
                     Stream stream);

 private:
    template <Activation A>
    static void row(int64_t n, const T* __restrict y, const T* __restrict dy, T* __restrict dz) {
        for (int64_t j = 0; j < n; ++j) dz[j] = T(dz_of<T, A>(y, dy, j, j));
    }
};

// What f needs of one channel.
template <class C>
struct Slopes {
    C mean, scale, constant, linear;
};
template <class T>
struct BatchNormBackward {
    static constexpr auto name = "batch_norm_backward",
                          formula = "dx = gamma rstd (dz - dbeta / rows - z dgamma / rows), dz = dy act'(y)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = BatchNormArgs;
    using C = Compute<T>;
    static uint32_t key(Args a) { return uint32_t(a.activation); }
    static Cost cost(Args, In<T> x, MaybeIn<T> y, In<T> dy, In<C>, In<C>, In<C>, In<C>, In<C>, Out<T> dx) {
        return {double(6 + 2 * y.count) * double(x.size()),
                bytes_of_views(x, dy, dx) * (y.count ? 4.0 / 3 : 1) + 5 * double(x.cols) * sizeof(C)};
    }
    HD static Slopes<C> slopes(const Args& a, int64_t j, In<C> mean, In<C> rstd, In<C> gamma, In<C> dgamma,
                               In<C> dbeta) {
        const C r = rstd_of(a, rstd.data[a.offset + j]), share = C(a.share);
        return {mean.data[a.offset + j], gamma.data[a.offset + j] * r, dbeta.data[j] * share,
                dgamma.data[j] * share * r};
    }
    HD static C f(const Slopes<C>& s, C x, C dz) { return s.scale * (dz - s.constant - (x - s.mean) * s.linear); }
    static void cpu(Args a, In<T> x, MaybeIn<T> y, In<T> dy, In<C> mean, In<C> rstd, In<C> gamma, In<C> dgamma,
                    In<C> dbeta, Out<T> dx) {
        C m[columns_at_once], scale[columns_at_once], constant[columns_at_once], linear[columns_at_once];
        for (int64_t j0 = 0; j0 < x.cols; j0 += columns_at_once) {
            const int64_t n = std::min(columns_at_once, x.cols - j0);
            for (int64_t j = 0; j < n; ++j) {
                const Slopes<C> s = slopes(a, j0 + j, mean, rstd, gamma, dgamma, dbeta);
                m[j] = s.mean, scale[j] = s.scale, constant[j] = s.constant, linear[j] = s.linear;
            }
            with_activation(a.activation, [&]<Activation A>() {
                for (int64_t i = 0; i < x.rows; ++i)
                    row<A>(n, x.row(i) + j0, A == Activation::none ? nullptr : y[0].row(i) + j0, dy.row(i) + j0, m,
                           scale, constant, linear, dx.row(i) + j0);
            });
        }
    }
    static void cuda(Args a, In<T> x, MaybeIn<T> y, In<T> dy, In<C> mean, In<C> rstd, In<C> gamma, In<C> dgamma,
                     In<C> dbeta, Out<T> dx, Stream stream);

 private:
    template <Activation A>
    static void row(int64_t n, const T* __restrict x, const T* __restrict y, const T* __restrict dy,
                    const C* __restrict m, const C* __restrict scale, const C* __restrict constant,
                    const C* __restrict linear, T* __restrict dx) {
        for (int64_t j = 0; j < n; ++j)
            dx[j] = T(f({m[j], scale[j], constant[j], linear[j]}, C(x[j]), dz_of<T, A>(y, dy, j, j)));
    }
};

#ifdef TESSERA_CUDA
template <class T, class C = Compute<T>>
__device__ C dz_at(const BatchNormArgs& a, In<T> y, In<T> dy, int64_t i, int64_t j) {
    return y.data ? C(dy(i, j)) * derivative_from_output(a.activation, C(y(i, j))) : C(dy(i, j));
}
template <class T, class C>
struct AffineTerm {
    BatchNormArgs a;
    In<T> x, y, dy;
    In<C> mean;
    Out<T> dz;  // written if there is one
    __device__ AffineSums<C> operator()(int64_t i, int64_t j) const {
        const C d = dz_at(a, y, dy, i, j);
        if (dz.data) dz(i, j) = T(d);
        return {d * (C(x(i, j)) - mean.data[a.offset + j]), d};
    }
};
template <class C>
struct AddSums {
    BatchNormArgs a;
    In<C> rstd;
    Acc<C> dgamma, dbeta;
    __device__ void operator()(int64_t j, const AffineSums<C>& all) const {
        const C g = all.dgamma * rstd_of(a, rstd.data[a.offset + j]);
        dgamma(0, j) = a.first ? g : dgamma(0, j) + g;
        dbeta(0, j) = a.first ? all.dbeta : dbeta(0, j) + all.dbeta;
    }
};
template <class T, class C>
__global__ void batch_norm_backward_kernel(BatchNormArgs a, In<T> x, In<T> y, In<T> dy, In<C> mean, In<C> rstd,
                                           In<C> gamma, In<C> dgamma, In<C> dbeta, Out<T> dx) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < x.size(); k += stride) {
        const int64_t i = k / x.cols, j = k % x.cols;
        const auto s = BatchNormBackward<T>::slopes(a, j, mean, rstd, gamma, dgamma, dbeta);
        dx(i, j) = T(BatchNormBackward<T>::f(s, C(x(i, j)), dz_at(a, y, dy, i, j)));
    }
}
template <class T>
void BatchNormSums<T>::cuda(Args a, In<T> x, MaybeIn<T> y, In<T> dy, In<C> mean, In<C> rstd, Acc<C> dgamma,
                            Acc<C> dbeta, Stream stream) {
    const In<T> out = y.count ? y[0] : In<T>{};
    sum_columns_on_cuda<AffineSums<C>>(x.rows, x.cols, AffineTerm<T, C>{a, x, out, dy, mean, {}},
                                       AddSums<C>{a, rstd, dgamma, dbeta}, stream, name);
}
template <class T>
void BatchNormAddedSums<T>::cuda(Args a, In<T> x, In<T> y, In<T> dy, In<C> mean, In<C> rstd, Acc<C> dgamma,
                                 Acc<C> dbeta, Out<T> dz, Stream stream) {
    sum_columns_on_cuda<AffineSums<C>>(x.rows, x.cols, AffineTerm<T, C>{a, x, y, dy, mean, dz},
                                       AddSums<C>{a, rstd, dgamma, dbeta}, stream, name);
}
template <class T>
void BatchNormBackward<T>::cuda(Args a, In<T> x, MaybeIn<T> y, In<T> dy, In<C> mean, In<C> rstd, In<C> gamma,
                                In<C> dgamma, In<C> dbeta, Out<T> dx, Stream stream) {
    launch(name, stream, blocks_for(x.size()), batch_norm_backward_kernel<T, C>, a, x, y.count ? y[0] : In<T>{}, dy,
           mean, rstd, gamma, dgamma, dbeta, dx);
}
#endif
const Register<BatchNormSums<float>, BatchNormSums<double>, BatchNormSums<bf16>, BatchNormAddedSums<float>,
               BatchNormAddedSums<double>, BatchNormAddedSums<bf16>, BatchNormBackward<float>,
               BatchNormBackward<double>, BatchNormBackward<bf16>>
    codelets;
// Measured with batch_norm, whose example keeps its gradients; without an activation here.
const Example example(codelets, std::array<Shape, 1>{{{4096, 64}}}, [](ExampleGraph& e, Shape s) {
    const DType computed = e.type == DType::f64 ? DType::f64 : DType::f32;
    const auto vector = [&] { return e.input({1, s.cols}, computed); };
    const Tensor x = e.input(s), dy = e.input(s), mean = vector(), rstd = vector(), gamma = vector();
    for (Tensor t : batch_norm_backward({.share = 1 / double(s.rows)}, x, x, gamma, mean, rstd, false, dy)) e.keep(t);
});

// The tensors of the node of sums; dz is dy where there is no activation.
struct Affine {
    Tensor dgamma, dbeta, dz;
    bool from_y;  // dz has yet to be made of dy and y
};

Affine affine_gradients(BatchNormArgs a, Tensor x, Tensor y, const PerChannel& v, bool residual, Tensor dy) {
    Graph& g = *x.graph;
    const bool active = a.activation != Activation::none, writes = active && residual;
    const Tensor mean = v.tensors[0];
    const Shape shape{1, x.shape().cols};
    const Grid grid{{1}, x.grid().col_extents};
    const Affine s{g.value("dgamma", shape, mean.dtype(), grid), g.value("dbeta", shape, mean.dtype(), grid),
                   writes ? g.value("dz", x.shape(), x.dtype(), x.grid()) : dy, active && !writes};
    Node node;
    node.op = writes ? "batch_norm_added_sums" : "batch_norm_sums";
    node.inputs = {x, dy}, node.outputs = {s.dgamma, s.dbeta};
    node.inputs.insert(node.inputs.end(), v.tensors.begin(), v.tensors.end());
    if (active) node.inputs.push_back(y);
    if (writes) node.outputs.push_back(s.dz);
    node.lower = [=](Lowering& to) mutable {
        dispatch<float, double, bf16>(x.dtype(), "batch_norm_sums", [&]<class T>() {
            for (int64_t j = 0; j < x.grid().cols(); ++j)
                for (int64_t i = 0; i < x.grid().rows(); ++i) {
                    a.first = i == 0, a.offset = v.offset(j);
                    const auto sum = [&](Tensor t) {
                        return i == 0 ? Lowering::first(to.tile(t, 0, j)) : to.tile(t, 0, j);
                    };
                    const auto x_ij = to.tile(x, i, j), dy_ij = to.tile(dy, i, j), mean_j = v.tile(to, 0, j),
                               rstd_j = v.tile(to, 1, j);
                    if (writes)
                        to.task<BatchNormAddedSums<T>>(a, x_ij, to.tile(y, i, j), dy_ij, mean_j, rstd_j, sum(s.dgamma),
                                                       sum(s.dbeta), to.tile(s.dz, i, j));
                    else
                        to.task<BatchNormSums<T>>(a, x_ij,
                                                  active ? std::vector{to.tile(y, i, j)} : std::vector<Lowering::Ref>{},
                                                  dy_ij, mean_j, rstd_j, sum(s.dgamma), sum(s.dbeta));
                }
        });
    };
    g.add(std::move(node));
    return s;
}

}  // namespace

std::vector<Tensor> batch_norm_backward(BatchNormArgs a, Tensor x, Tensor y, Tensor gamma, Tensor mean, Tensor rstd,
                                        bool residual, Tensor dy) {
    Graph& g = *x.graph;
    dy = on_grid(dy, x.grid());
    const PerChannel v(x, {mean, rstd, gamma});
    const Affine s = affine_gradients(a, x, y, v, residual, dy);
    if (!s.from_y) a.activation = Activation::none;
    const Tensor dx = g.value("batch_norm_backward", x.shape(), x.dtype(), x.grid());
    Node node;
    node.op = "batch_norm_backward", node.outputs = {dx};
    node.inputs = {x, s.dz, s.dgamma, s.dbeta};
    node.inputs.insert(node.inputs.end(), v.tensors.begin(), v.tensors.end());
    if (s.from_y) node.inputs.push_back(y);
    node.lower = [=](Lowering& to) mutable {
        dispatch<float, double, bf16>(x.dtype(), "batch_norm_backward", [&]<class T>() {
            for (int64_t i = 0; i < x.grid().rows(); ++i)
                for (int64_t j = 0; j < x.grid().cols(); ++j) {
                    a.offset = v.offset(j);
                    to.task<BatchNormBackward<T>>(
                        a, to.tile(x, i, j), s.from_y ? std::vector{to.tile(y, i, j)} : std::vector<Lowering::Ref>{},
                        to.tile(s.dz, i, j), v.tile(to, 0, j), v.tile(to, 1, j), v.tile(to, 2, j),
                        to.tile(s.dgamma, 0, j), to.tile(s.dbeta, 0, j), to.tile(dx, i, j));
                }
        });
    };
    g.add(std::move(node));
    std::vector<Tensor> all{dx, s.dgamma, s.dbeta};
    if (residual) all.push_back(s.dz);
    return all;
}

}  // namespace tessera
