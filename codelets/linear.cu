// linear: Y = act(X W^T + b), X [N x I], W [O x I] as PyTorch stores it, b [1 x O]. f32, f64, bf16 (sums in f32).
// One task per tile of Y and tile of I; the last one adds the bias and applies the activation while the tile is in
// cache.
#include "codelets/activation.h"
#include "codelets/cublaslt.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct LinearArgs {
    Activation activation;
    bool first, last;  // of the tiles along I
};

template <class T>
struct Linear {
    static constexpr auto name = "linear", formula = "Y = act(X W^T + b)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = LinearArgs;
    static uint32_t key(Args x) { return uint32_t(x.activation) | x.first << 8 | x.last << 9; }
    static Cost cost(Args, In<T> x, In<T> w, In<T> b, InOut<T> y) {
        return {2 * double(x.cols) * double(y.size()), bytes_of_views(x, w, b, y)};
    }
    using Product = void (*)(const blas::Product<T>&);
    static void with(Product multiply, Args a, In<T> x, In<T> w, In<T> b, InOut<T> y) {
        multiply(product(false, true, 1, x, w, a.first ? 0 : 1, Acc<T>{y.data, y.rows, y.cols, y.ld}));
        if (!a.last) return;
        switch (a.activation) {  // a constant in each loop, so that it is vectorized
            case Activation::relu:
                return finish<Activation::relu>(b, y);
            case Activation::tanh:
                return finish<Activation::tanh>(b, y);
            case Activation::sigmoid:
                return finish<Activation::sigmoid>(b, y);
            default:
                return finish<Activation::none>(b, y);
        }
    }
    template <Activation A>
    static void finish(In<T> b, InOut<T> y) {
        for (int64_t i = 0; i < y.rows; ++i) {
            T* __restrict row = y.row(i);
            const T* __restrict bias = b.data;
            for (int64_t j = 0; j < y.cols; ++j) row[j] = T(apply(A, Compute<T>(row[j]) + Compute<T>(bias[j])));
        }
    }
    HD static Compute<T> f(Args a, Compute<T> y, Compute<T> b) { return apply(a.activation, y + b); }
    static constexpr auto cpu_label = dtype_of<T> == DType::f32   ? "oneDNN"
                                      : dtype_of<T> == DType::f64 ? "OpenBLAS"
                                                                  : "oneDNN, widened";
    static void cpu(Args a, In<T> x, In<T> w, In<T> b, InOut<T> y) {
        if constexpr (dtype_of<T> == DType::f32) with(blas::onednn, a, x, w, b, y);
        else if constexpr (dtype_of<T> == DType::f64) with(blas::openblas, a, x, w, b, y);
        else with(blas::widened, a, x, w, b, y);
    }
    static constexpr auto cuda_label = "cuBLAS";
    static void cuda(Args a, In<T> x, In<T> w, In<T> b, InOut<T> y, Stream stream);
    static void cuda_lt(Args a, In<T> x, In<T> w, In<T> b, InOut<T> y, Stream stream);
};
#ifdef TESSERA_CUDA
template <class T>
__global__ void bias_activation_kernel(LinearArgs a, In<T> b, InOut<T> y) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < y.size(); k += stride) {
        T& value = y(k / y.cols, k % y.cols);
        value = T(Linear<T>::f(a, value, b.data[k % y.cols]));
    }
}
template <class T>
void Linear<T>::cuda(Args a, In<T> x, In<T> w, In<T> b, InOut<T> y, Stream stream) {
    cublas_product(product(false, true, 1, x, w, a.first ? 0 : 1, Acc<T>{y.data, y.rows, y.cols, y.ld}), false, stream);
    if (!a.last) return;
    launch(name, stream, blocks_for(y.size()), bias_activation_kernel<T>, a, b, y);
}
struct Activated {
    template <class C>
    HD static C f(Activation a, C x) {
        return apply(a, x);
    }
};
// The bias within the product; the activation by a kernel after it: cuBLASLt's relu may make 0 of NaN.
template <class T>
void Linear<T>::cuda_lt(Args a, In<T> x, In<T> w, In<T> b, InOut<T> y, Stream stream) {
    const auto p = product(false, true, 1, x, w, a.first ? 0 : 1, Acc<T>{y.data, y.rows, y.cols, y.ld});
    if (!cublaslt_linear(p, a.last ? b.data : nullptr, stream)) return cuda(a, x, w, b, y, stream);
    if (!a.last || a.activation == Activation::none) return;
    launch(name, stream, blocks_for(y.size()), elementwise_kernel<Activated, Activation, InOut<T>, InOut<T>>,
           a.activation, y, y);
}
#endif
struct LinearBf16 : Linear<bf16> {
#ifdef TESSERA_CUDA
    static constexpr std::tuple cuda_alternatives{Named{"cuBLASLt", &Linear<bf16>::cuda_lt}};
#endif
};
struct LinearF32 : Linear<float> {
    static void cpu_openblas(Args a, In<float> x, In<float> w, In<float> b, InOut<float> y) {
        with(blas::openblas, a, x, w, b, y);
    }
    static constexpr std::tuple cpu_alternatives{Named{"OpenBLAS", &cpu_openblas}};
#ifdef TESSERA_CUDA
    static constexpr std::tuple cuda_alternatives{Named{"cuBLASLt", &Linear<float>::cuda_lt}};
#endif
};
template <class T>
using LinearOf = std::conditional_t<std::is_same_v<T, float>, LinearF32,
                                    std::conditional_t<std::is_same_v<T, bf16>, LinearBf16, Linear<T>>>;
const Register<LinearF32, Linear<double>, LinearBf16> codelets;
const Example example(codelets, layer_sizes, [](ExampleGraph& e, LayerSize s) {
    const Tensor x = e.input({s.rows, s.inputs}), w = e.input({s.outputs, s.inputs}), b = e.input({1, s.outputs});
    for (Activation a : {Activation::none, Activation::relu, Activation::tanh, Activation::sigmoid})
        e.keep_with_gradients(linear(x, w, b, a), {x, w, b});
});
// Inputs that are cut: the first tile, those between and the last one are tasks of different kinds.
const Example three_tiles(codelets, layer_sizes, [](ExampleGraph& e, LayerSize s) {
    const std::vector<int64_t> inner(3, s.inputs);
    const Tensor x = e.input({s.rows, 3 * s.inputs}, {{s.rows}, inner});
    const Tensor w = e.input({s.outputs, 3 * s.inputs}, {{s.outputs}, inner});
    e.keep(linear(x, w, e.input({1, s.outputs}), Activation::relu));
});

}  // namespace

Tensor linear(Tensor x, Tensor w, Tensor b, Activation activation) {
    require(x.shape().cols == w.shape().cols && b.shape() == Shape{1, w.shape().rows}, "linear",
            "x [N x I], w [O x I] and b [1 x O] must fit", {x, w, b});
    require(x.dtype() == w.dtype() && x.dtype() == b.dtype(), "linear", "needs one type", {x, w, b});
    if (!has_derivative_from_output(activation)) return activate(linear(x, w, b), activation);
    const auto inner = x.grid().col_extents;
    w = on_grid(w, {w.grid().row_extents, inner});
    b = on_grid(b, {{1}, w.grid().row_extents});
    Graph& g = *x.graph;
    Tensor y = g.value("y", {x.shape().rows, w.shape().rows}, x.dtype(), {x.grid().row_extents, w.grid().row_extents});
    Node node;
    node.op = "linear", node.inputs = {x, w, b}, node.outputs = {y};
    node.attributes = "activation=" + std::to_string(int(activation));
    const auto lower = [=]<class T>(Lowering& to) {
        const int64_t last = int64_t(inner.size()) - 1;
        for (int64_t i = 0; i < y.grid().rows(); ++i)
            for (int64_t j = 0; j < y.grid().cols(); ++j)
                for (int64_t l = 0; l <= last; ++l) {
                    const auto out = l == 0 ? Lowering::first(to.tile(y, i, j)) : to.tile(y, i, j);
                    to.task<LinearOf<T>>({activation, l == 0, l == last}, to.tile(x, i, l), to.tile(w, j, l),
                                         to.tile(b, 0, j), out);
                }
    };
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(y.dtype(), "linear", [&]<class T>() { lower.template operator()<T>(to); });
    };
    node.vjp = [=](const std::vector<Tensor>& d) {
        Tensor dz = activation_backward(y, d[0], activation);
        return std::vector{gemm(dz, w), gemm(dz, x, {.ta = true}), sum_rows(dz)};
    };
    require_type<float, double, bf16>(y.dtype(), "linear");
    g.add(std::move(node));
    return y;
}

}  // namespace tessera
