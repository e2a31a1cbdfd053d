// batch_norm: y = act(gamma (x - mean) rstd + beta + residual) per channel, rstd = 1 / sqrt(var + epsilon), x [rows x
// C]. Training: mean and variance of all rows, which also move the running ones (the variance there unbiased);
// evaluation: the running ones. f32, f64, bf16. Ioffe, Szegedy 2015, arXiv:1502.03167.
#include "codelets/batch_norm.h"

#include <algorithm>
#include <utility>

#include "codelets/moments.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

// What training makes of all moments of a channel.
template <class C>
HD inline void finish(const BatchNormArgs& a, const Moments<C>& all, C& running_mean, C& running_var, C& mean,
                      C& rstd) {
    const C kept = C(1 - a.momentum), taken = C(a.momentum);
    running_mean = kept * running_mean + taken * all.mean;
    running_var = kept * running_var + taken * (all.m2 / (all.count - C(1)));
    mean = all.mean;
    rstd = C(1) / std::sqrt(all.m2 / all.count + C(a.epsilon));
}

// statistics: rows count, mean and m2.
template <class T>
struct BatchNormStatistics {
    static constexpr auto name = "batch_norm_statistics",
                          formula = "statistics(:, j) = count, mean and squared distances, merged with those before";
    static constexpr DType dtype = dtype_of<T>;
    using Args = BatchNormArgs;
    using C = Compute<T>;
    static Cost cost(Args, In<T> x, Acc<C> statistics) { return {4 * double(x.size()), bytes_of_views(x, statistics)}; }
    HD static void merge(const Args& a, const Acc<C>& s, int64_t j, const Moments<C>& more) {
        Moments<C> all{};
        if (!a.first) all = {s(0, j), s(1, j), s(2, j)};
        all.add(more);
        s(0, j) = all.count, s(1, j) = all.mean, s(2, j) = all.m2;
    }
    static void cpu(Args a, In<T> x, Acc<C> statistics) {
        C mean[columns_at_once], m2[columns_at_once];
        for (int64_t j0 = 0; j0 < x.cols; j0 += columns_at_once) {
            const int64_t n = std::min(columns_at_once, x.cols - j0);
            column_moments(x, j0, n, mean, m2);
            for (int64_t j = 0; j < n; ++j) merge(a, statistics, j0 + j, {C(x.rows), mean[j], m2[j]});
        }
    }
    static void cuda(Args a, In<T> x, Acc<C> statistics, Stream stream);
};

template <class C>
struct BatchNormFinish {
    static constexpr auto name = "batch_norm_finish", formula = "mean, rstd of the statistics; running ones moved";
    static constexpr DType dtype = dtype_of<C>;
    using Args = BatchNormArgs;
    static Cost cost(Args, In<C> s, InOut<C> running_mean, InOut<C> running_var, Out<C> mean, Out<C> rstd) {
        return {10 * double(mean.size()),
                bytes_of_views(s, mean, rstd) + 2 * bytes_of_views(running_mean, running_var)};
    }
    HD static void column(const Args& a, int64_t j, const Moments<C>& all, InOut<C> running_mean, InOut<C> running_var,
                          Out<C> mean, Out<C> rstd) {
        finish(a, all, running_mean(0, j), running_var(0, j), mean(0, j), rstd(0, j));
    }
    static void cpu(Args a, In<C> s, InOut<C> running_mean, InOut<C> running_var, Out<C> mean, Out<C> rstd) {
        for (int64_t j = 0; j < s.cols; ++j)
            column(a, j, {s(0, j), s(1, j), s(2, j)}, running_mean, running_var, mean, rstd);
    }
    static void cuda(Args a, In<C> s, InOut<C> running_mean, InOut<C> running_var, Out<C> mean, Out<C> rstd,
                     Stream stream);
};

// residual: one tile or none.
template <class T>
struct BatchNormApply {
    static constexpr auto name = "batch_norm", formula = "y = act(gamma (x - mean) rstd + beta + residual)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = BatchNormArgs;
    using C = Compute<T>;
    static uint32_t key(Args a) { return uint32_t(a.activation); }
    static Cost cost(Args, In<T> x, InList<T> residual, In<C>, In<C>, In<C>, In<C>, Out<T> y) {
        return {double(4 + residual.count) * double(x.size()),
                bytes_of_views(x, y) * (residual.count ? 1.5 : 1) + 4 * double(x.cols) * sizeof(C)};
    }
    HD static C f(C x, C mean, C scale, C beta) { return (x - mean) * scale + beta; }
    static void cpu(Args a, In<T> x, InList<T> residual, In<C> mean, In<C> rstd, In<C> gamma, In<C> beta, Out<T> y) {
        C scale[columns_at_once];
        for (int64_t j0 = 0; j0 < x.cols; j0 += columns_at_once) {
            const int64_t n = std::min(columns_at_once, x.cols - j0), at = a.offset + j0;
            for (int64_t j = 0; j < n; ++j) scale[j] = gamma.data[at + j] * rstd_of(a, rstd.data[at + j]);
            with_activation(a.activation, [&]<Activation A>() {
                for (int64_t i = 0; i < x.rows; ++i)
                    if (residual.count)
                        row<A>(n, x.row(i) + j0, residual[0].row(i) + j0, mean.data + at, scale, beta.data + at,
                               y.row(i) + j0);
                    else row<A>(n, x.row(i) + j0, mean.data + at, scale, beta.data + at, y.row(i) + j0);
            });
        }
    }
    static void cuda(Args a, In<T> x, InList<T> residual, In<C> mean, In<C> rstd, In<C> gamma, In<C> beta, Out<T> y,
                     Stream stream);

 private:
    template <Activation A>
    static void row(int64_t n, const T* __restrict x, const C* __restrict mean, const C* __restrict scale,
                    const C* __restrict beta, T* __restrict y) {
        for (int64_t j = 0; j < n; ++j) y[j] = T(apply(A, f(C(x[j]), mean[j], scale[j], beta[j])));
    }
    template <Activation A>
    static void row(int64_t n, const T* __restrict x, const T* __restrict residual, const C* __restrict mean,
                    const C* __restrict scale, const C* __restrict beta, T* __restrict y) {
        for (int64_t j = 0; j < n; ++j) y[j] = T(apply(A, f(C(x[j]), mean[j], scale[j], beta[j]) + C(residual[j])));
    }
};

// All of training where one tile holds all rows.
template <class T>
struct BatchNormTraining {
    static constexpr auto name = "batch_norm_training",
                          formula = "mean, rstd of x; y = act(gamma (x - mean) rstd + beta + residual)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = BatchNormArgs;
    using C = Compute<T>;
    static uint32_t key(Args a) { return uint32_t(a.activation); }
    static Cost cost(Args, In<T> x, InList<T> residual, In<C>, In<C>, InOut<C>, InOut<C>, Out<T> y, Out<C>, Out<C>) {
        return {double(8 + residual.count) * double(x.size()),
                bytes_of_views(x, y) * (residual.count ? 1.5 : 1) + 8 * double(x.cols) * sizeof(C)};
    }
    static void cpu(Args a, In<T> x, InList<T> residual, In<C> gamma, In<C> beta, InOut<C> running_mean,
                    InOut<C> running_var, Out<T> y, Out<C> mean, Out<C> rstd) {
        C m[columns_at_once], m2[columns_at_once];
        for (int64_t j0 = 0; j0 < x.cols; j0 += columns_at_once) {
            const int64_t n = std::min(columns_at_once, x.cols - j0);
            column_moments(x, j0, n, m, m2);
            for (int64_t j = 0; j < n; ++j)
                BatchNormFinish<C>::column(a, j0 + j, {C(x.rows), m[j], m2[j]}, running_mean, running_var, mean, rstd);
        }
        const auto part = [&](In<C> v) { return In<C>{v.data + a.offset, 1, x.cols, x.cols}; };
        gamma = part(gamma), beta = part(beta), a.offset = 0;
        BatchNormApply<T>::cpu(a, x, residual, {mean.data, 1, x.cols, x.cols}, {rstd.data, 1, x.cols, x.cols}, gamma,
                               beta, y);
    }
    static void cuda(Args a, In<T> x, InList<T> residual, In<C> gamma, In<C> beta, InOut<C> running_mean,
                     InOut<C> running_var, Out<T> y, Out<C> mean, Out<C> rstd, Stream stream);
};

#ifdef TESSERA_CUDA
template <class T, class C>
struct Merge {
    BatchNormArgs a;
    Acc<C> statistics;
    __device__ void operator()(int64_t j, const Moments<C>& all) const {
        BatchNormStatistics<T>::merge(a, statistics, j, all);
    }
};
template <class C>
struct Finish {
    BatchNormArgs a;
    InOut<C> running_mean, running_var;
    Out<C> mean, rstd;
    __device__ void operator()(int64_t j, const Moments<C>& all) const {
        BatchNormFinish<C>::column(a, j, all, running_mean, running_var, mean, rstd);
    }
};
template <class C>
__global__ void batch_norm_finish_kernel(In<C> s, Finish<C> finish) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t j = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; j < s.cols; j += stride)
        finish(j, Moments<C>{s(0, j), s(1, j), s(2, j)});
}
template <class T, class C>
__global__ void batch_norm_kernel(BatchNormArgs a, In<T> x, In<T> residual, In<C> mean, In<C> rstd, In<C> gamma,
                                  In<C> beta, Out<T> y) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < y.size(); k += stride) {
        const int64_t i = k / y.cols, j = k % y.cols, at = a.offset + j;
        const C scale = gamma.data[at] * rstd_of(a, rstd.data[at]);
        C z = BatchNormApply<T>::f(C(x(i, j)), mean.data[at], scale, beta.data[at]);
        if (residual.data) z += C(residual(i, j));
        y(i, j) = T(apply(a.activation, z));
    }
}
template <class T>
void BatchNormStatistics<T>::cuda(Args a, In<T> x, Acc<C> statistics, Stream stream) {
    sum_columns_on_cuda<Moments<C>>(x.rows, x.cols, OneValue<T, C>{x}, Merge<T, C>{a, statistics}, stream, name);
}
template <class C>
void BatchNormFinish<C>::cuda(Args a, In<C> s, InOut<C> running_mean, InOut<C> running_var, Out<C> mean, Out<C> rstd,
                              Stream stream) {
    launch(name, stream, blocks_for(s.cols), batch_norm_finish_kernel<C>, s,
           Finish<C>{a, running_mean, running_var, mean, rstd});
}
template <class T>
void BatchNormApply<T>::cuda(Args a, In<T> x, InList<T> residual, In<C> mean, In<C> rstd, In<C> gamma, In<C> beta,
                             Out<T> y, Stream stream) {
    launch(name, stream, blocks_for(y.size()), batch_norm_kernel<T, C>, a, x, residual.count ? residual[0] : In<T>{},
           mean, rstd, gamma, beta, y);
}
template <class T>
void BatchNormTraining<T>::cuda(Args a, In<T> x, InList<T> residual, In<C> gamma, In<C> beta, InOut<C> running_mean,
                                InOut<C> running_var, Out<T> y, Out<C> mean, Out<C> rstd, Stream stream) {
    sum_columns_on_cuda<Moments<C>>(x.rows, x.cols, OneValue<T, C>{x},
                                    Finish<C>{a, running_mean, running_var, mean, rstd}, stream, name);
    const auto part = [&](In<C> v) { return In<C>{v.data + a.offset, 1, x.cols, x.cols}; };
    gamma = part(gamma), beta = part(beta), a.offset = 0;
    BatchNormApply<T>::cuda(a, x, residual, {mean.data, 1, x.cols, x.cols}, {rstd.data, 1, x.cols, x.cols}, gamma, beta,
                            y, stream);
}
#endif
const Register<BatchNormStatistics<float>, BatchNormStatistics<double>, BatchNormStatistics<bf16>,
               BatchNormFinish<float>, BatchNormFinish<double>, BatchNormApply<float>, BatchNormApply<double>,
               BatchNormApply<bf16>, BatchNormTraining<float>, BatchNormTraining<double>, BatchNormTraining<bf16>>
    codelets;
// Rows are pixels: of some images of 32 x 32 with few channels, or of 8 x 8 with more.
constexpr Shape batch_norm_sizes[] = {{16384, 16}, {4096, 64}, {1024, 256}};
const Example example(codelets, batch_norm_sizes, [](ExampleGraph& e, Shape s) {
    const DType computed = e.type == DType::f64 ? DType::f64 : DType::f32;
    const auto vector = [&] { return e.input({1, s.cols}, computed); };
    for (int64_t row_tiles : {1, 2}) {
        const Maps x{e.input(s, {cut(s.rows, s.rows / row_tiles), {s.cols}})}, added{e.input(s, x.tensor.grid())};
        const BatchNorm p{vector(), vector(), vector(), vector()};
        e.keep_with_gradients(batch_norm(x, p, true, Activation::relu).tensor, {x.tensor, p.gamma});
        e.keep_with_gradients(batch_norm(x, p, true, Activation::relu, added).tensor, {x.tensor, added.tensor});
        e.keep_with_gradients(batch_norm(x, p, true).tensor, {x.tensor});
    }
});

struct Normalised {
    BatchNormArgs args;
    Tensor x, gamma, beta, residual;
};

// Adds the node that makes outputs[0], and returns that. Its gradient needs mean and rstd.
Tensor finished(const Normalised& n, const std::string& op, std::vector<Tensor> inputs, std::vector<Tensor> outputs,
                std::vector<Tensor> updates, Tensor mean, Tensor rstd, std::function<void(Lowering&)> lower) {
    const Tensor y = outputs[0];
    Node node;
    node.op = op, node.inputs = {n.x, n.gamma, n.beta}, node.outputs = std::move(outputs);
    if (n.residual) node.inputs.push_back(n.residual);
    node.inputs.insert(node.inputs.end(), inputs.begin(), inputs.end());
    node.updates = std::move(updates);
    node.attributes = "epsilon=" + std::to_string(n.args.epsilon) +
                      " activation=" + std::to_string(int(n.args.activation)) + (n.residual ? " residual" : "");
    node.lower = std::move(lower);
    node.vjp = [=](const auto& d) {
        return batch_norm_backward(n.args, n.x, y, n.gamma, mean, rstd, bool(n.residual), d[0]);
    };
    n.x.graph->add(std::move(node));
    return y;
}

std::vector<Lowering::Ref> optional_tile(Lowering& to, Tensor t, int64_t i, int64_t j) {
    return t ? std::vector{to.tile(t, i, j)} : std::vector<Lowering::Ref>{};
}

Tensor value_like(Tensor x) { return x.graph->value("batch_norm", x.shape(), x.dtype(), x.grid()); }

Tensor applied(const Normalised& n, Tensor mean, Tensor rstd) {
    const Tensor y = value_like(n.x);
    const PerChannel v(n.x, {mean, rstd, n.gamma, n.beta});
    return finished(n, "batch_norm", v.tensors, {y}, {}, mean, rstd, [=](Lowering& to) {
        dispatch<float, double, bf16>(y.dtype(), "batch_norm", [&]<class T>() {
            BatchNormArgs args = n.args;
            for (int64_t j = 0; j < y.grid().cols(); ++j) {
                args.offset = v.offset(j);
                for (int64_t i = 0; i < y.grid().rows(); ++i)
                    to.task<BatchNormApply<T>>(args, to.tile(n.x, i, j), optional_tile(to, n.residual, i, j),
                                               v.tile(to, 0, j), v.tile(to, 1, j), v.tile(to, 2, j), v.tile(to, 3, j),
                                               to.tile(y, i, j));
            }
        });
    });
}

// All in one task per column tile.
Tensor trained_at_once(const Normalised& n, Tensor running_mean, Tensor running_var) {
    const Tensor y = value_like(n.x);
    Graph& g = *n.x.graph;
    const Tensor mean = g.value("mean", running_mean.shape(), running_mean.dtype(), running_mean.grid());
    const Tensor rstd = g.value("rstd", running_mean.shape(), running_mean.dtype(), running_mean.grid());
    const PerChannel v(n.x, {n.gamma, n.beta});
    std::vector<Tensor> inputs = v.tensors;
    inputs.insert(inputs.end(), {running_mean, running_var});
    return finished(
        n, "batch_norm_training", inputs, {y, mean, rstd}, {running_mean, running_var}, mean, rstd, [=](Lowering& to) {
            dispatch<float, double, bf16>(y.dtype(), "batch_norm_training", [&]<class T>() {
                BatchNormArgs args = n.args;
                for (int64_t j = 0; j < y.grid().cols(); ++j) {
                    args.offset = v.offset(j);
                    to.task<BatchNormTraining<T>>(args, to.tile(n.x, 0, j), optional_tile(to, n.residual, 0, j),
                                                  v.tile(to, 0, j), v.tile(to, 1, j), to.tile(running_mean, 0, j),
                                                  to.tile(running_var, 0, j), to.tile(y, 0, j), to.tile(mean, 0, j),
                                                  to.tile(rstd, 0, j));
                }
            });
        });
}

// [3 x C]: each tile of x adds its part.
Tensor statistics_of(Tensor x, DType computed) {
    Graph& g = *x.graph;
    Tensor s = g.value("statistics", {3, x.shape().cols}, computed, {{3}, x.grid().col_extents});
    Node node;
    node.op = "batch_norm_statistics", node.inputs = {x}, node.outputs = {s};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "batch_norm_statistics", [&]<class T>() {
            for (int64_t j = 0; j < x.grid().cols(); ++j)
                for (int64_t i = 0; i < x.grid().rows(); ++i)
                    to.task<BatchNormStatistics<T>>({.first = i == 0}, to.tile(x, i, j),
                                                    i == 0 ? Lowering::first(to.tile(s, 0, j)) : to.tile(s, 0, j));
        });
    };
    g.add(std::move(node));
    return s;
}

Tensor trained(const Normalised& n, Tensor running_mean, Tensor running_var) {
    Graph& g = *n.x.graph;
    const Grid grid = running_mean.grid();
    const Tensor s = on_grid(statistics_of(n.x, running_mean.dtype()), {{3}, grid.col_extents});
    const Tensor mean = g.value("mean", running_mean.shape(), running_mean.dtype(), grid);
    const Tensor rstd = g.value("rstd", running_mean.shape(), running_mean.dtype(), grid);
    Node node;
    node.op = "batch_norm_finish", node.inputs = {s, running_mean, running_var}, node.outputs = {mean, rstd};
    node.updates = {running_mean, running_var};
    node.lower = [=, args = n.args](Lowering& to) {
        dispatch<float, double>(mean.dtype(), "batch_norm_finish", [&]<class C>() {
            for (int64_t j = 0; j < grid.cols(); ++j)
                to.task<BatchNormFinish<C>>(args, to.tile(s, 0, j), to.tile(running_mean, 0, j),
                                            to.tile(running_var, 0, j), to.tile(mean, 0, j), to.tile(rstd, 0, j));
        });
    };
    g.add(std::move(node));
    return applied(n, mean, rstd);
}

void check_parameters(Tensor x, const BatchNorm& p, DType computed) {
    const std::vector<Tensor> all{x, p.gamma, p.beta, p.running_mean, p.running_var};
    bool fits = true;
    for (size_t k = 1; k < all.size(); ++k) fits = fits && all[k] && all[k].shape() == Shape{1, x.shape().cols};
    require(fits, "batch_norm", "gamma, beta, running_mean and running_var must be [1 x channels of x]", all);
    require(p.running_mean.dtype() == computed && p.running_var.dtype() == computed, "batch_norm",
            "running_mean and running_var must be " + std::string(name_of(computed)), all);
    require(p.running_mean.grid() == p.running_var.grid(), "batch_norm",
            "running_mean and running_var must be cut alike", all);
    require(p.epsilon >= 0 && p.momentum >= 0 && p.momentum <= 1, "batch_norm",
            "epsilon must not be negative and momentum lie in [0, 1]", {x});
}

}  // namespace

PerChannel::PerChannel(Tensor x, std::vector<Tensor> all) : tensors(std::move(all)) {
    whole = std::all_of(tensors.begin(), tensors.end(), [](Tensor t) { return t.grid().cols() == 1; });
    if (!whole)
        for (Tensor& t : tensors) t = on_grid(t, {{1}, x.grid().col_extents});
    int64_t first = 0;
    for (int64_t cols : x.grid().col_extents) firsts.push_back(std::exchange(first, first + cols));
}

Maps batch_norm(Maps maps, const BatchNorm& p, bool training, Activation activation, Maps residual) {
    if (!has_derivative_from_output(activation)) {
        const Maps z = batch_norm(maps, p, training, Activation::none, residual);
        return {activate(z.tensor, activation), z.height, z.width};
    }
    const Tensor x = maps.tensor;
    require_type<float, double, bf16>(x.dtype(), "batch_norm");
    const DType computed = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
    check_parameters(x, p, computed);
    require(!training || x.shape().rows > 1, "batch_norm",
            "needs more than one value per channel in training: more images in a batch, or larger maps", {x});
    Normalised n{{.activation = activation, .variance = !training, .epsilon = p.epsilon, .momentum = p.momentum},
                 x,
                 cast(p.gamma, computed),
                 cast(p.beta, computed),
                 residual.tensor};
    if (n.residual) {
        require(n.residual.shape() == x.shape() && n.residual.dtype() == x.dtype() && residual.height == maps.height &&
                    residual.width == maps.width,
                "batch_norm", "what is added must have the maps' size and type", {x, n.residual});
        n.residual = on_grid(n.residual, x.grid());
    }
    if (training) n.args.share = 1 / double(x.shape().rows);
    const bool at_once = x.grid().rows() == 1 && p.running_mean.grid().col_extents == x.grid().col_extents;
    const Tensor y = !training ? applied(n, p.running_mean, p.running_var)
                     : at_once ? trained_at_once(n, p.running_mean, p.running_var)
                               : trained(n, p.running_mean, p.running_var);
    return {y, maps.height, maps.width};
}

}  // namespace tessera
