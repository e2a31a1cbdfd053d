// sgd: g = dw + weight_decay w; m = momentum m + g; w -= lr (nesterov ? g + momentum m : m), as torch.optim.SGD with
// dampening 0; without momentum w -= lr g. One pass over w, dw, m. f32, f64.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct SgdArgs {
    double momentum, weight_decay, learning_rate;
    bool nesterov;
};

template <class C>
HD inline void sgd_update(SgdArgs a, C& w, C dw, C& m) {
    const C g = dw + C(a.weight_decay) * w;
    m = C(a.momentum) * m + g;
    w -= C(a.learning_rate) * (a.nesterov ? g + C(a.momentum) * m : m);
}
template <class C>
HD inline void sgd_update(SgdArgs a, C& w, C dw) {
    w -= C(a.learning_rate) * (dw + C(a.weight_decay) * w);
}

template <class T>
struct SgdMomentum {
    static constexpr auto name = "sgd_momentum", formula = "m = mu m + dw + wd w; w -= lr m (or nesterov)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = SgdArgs;
    static uint32_t key(Args a) { return a.nesterov; }
    static void at_step(Args& a, const Step& s) { a.learning_rate = s.learning_rate; }
    static Cost cost(Args, InOut<T> w, In<T> dw, InOut<T> m) {
        return {6 * double(w.size()), 2 * bytes_of_views(w, m) + bytes_of_views(dw)};
    }
    static void cpu(Args a, InOut<T> w, In<T> dw, InOut<T> m) {
        for (int64_t i = 0; i < w.rows; ++i)
            a.nesterov ? row<true>(a, w.cols, w.row(i), dw.row(i), m.row(i))
                       : row<false>(a, w.cols, w.row(i), dw.row(i), m.row(i));
    }
    template <bool Nesterov>
    static void row(Args a, int64_t n, T* __restrict w, const T* __restrict dw, T* __restrict m) {
        a.nesterov = Nesterov;
        for (int64_t j = 0; j < n; ++j) sgd_update(a, w[j], dw[j], m[j]);
    }
    static void cuda(Args a, InOut<T> w, In<T> dw, InOut<T> m, Stream stream);
};

template <class T>
struct Sgd {
    static constexpr auto name = "sgd", formula = "w -= lr (dw + wd w)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = SgdArgs;
    static void at_step(Args& a, const Step& s) { a.learning_rate = s.learning_rate; }
    static Cost cost(Args, InOut<T> w, In<T> dw) {
        return {4 * double(w.size()), 2 * bytes_of_views(w) + bytes_of_views(dw)};
    }
    static void cpu(Args a, InOut<T> w, In<T> dw) {
        for (int64_t i = 0; i < w.rows; ++i) {
            T* __restrict to = w.row(i);
            const T* __restrict from = dw.row(i);
            for (int64_t j = 0; j < w.cols; ++j) sgd_update(a, to[j], from[j]);
        }
    }
    static void cuda(Args a, InOut<T> w, In<T> dw, Stream stream);
};
#ifdef TESSERA_CUDA
template <class T>
__global__ void sgd_momentum_kernel(SgdArgs a, InOut<T> w, In<T> dw, InOut<T> m) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < w.size(); k += stride) {
        const int64_t i = k / w.cols, j = k % w.cols;
        sgd_update(a, w(i, j), dw(i, j), m(i, j));
    }
}
template <class T>
__global__ void sgd_kernel(SgdArgs a, InOut<T> w, In<T> dw) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < w.size(); k += stride)
        sgd_update(a, w(k / w.cols, k % w.cols), dw(k / w.cols, k % w.cols));
}
template <class T>
void SgdMomentum<T>::cuda(Args a, InOut<T> w, In<T> dw, InOut<T> m, Stream stream) {
    launch(name, stream, blocks_for(w.size()), sgd_momentum_kernel<T>, a, w, dw, m);
}
template <class T>
void Sgd<T>::cuda(Args a, InOut<T> w, In<T> dw, Stream stream) {
    launch(name, stream, blocks_for(w.size()), sgd_kernel<T>, a, w, dw);
}
#endif
const Register<SgdMomentum<float>, SgdMomentum<double>, Sgd<float>, Sgd<double>> codelets;
const Example example(codelets, weight_sizes, [](ExampleGraph& e, Shape s) {
    const Tensor w = e.input(s), dw = e.input(s);
    sgd(w, dw, 0);
    for (bool nesterov : {false, true}) sgd(w, dw, e.input(s), 0.9, nesterov, 0);
});

}  // namespace

void sgd(Tensor w, Tensor dw, Tensor m, double momentum, bool nesterov, double weight_decay) {
    require(w.shape() == dw.shape() && w.shape() == m.shape() && w.dtype() == dw.dtype() && w.dtype() == m.dtype(),
            "sgd", "needs equal shapes and types", {w, dw, m});
    require_type<float, double>(w.dtype(), "sgd");
    require(m.grid() == w.grid(), "sgd", "the momentum buffer must be cut as the weight", {w, m});
    dw = on_grid(dw, w.grid());
    Node node;
    node.op = "sgd_momentum", node.inputs = {w, dw, m}, node.updates = {w, m};
    node.lower = [=](Lowering& to) {
        dispatch<float, double>(w.dtype(), "sgd", [&]<class T>() {
            for (int64_t i = 0; i < w.grid().rows(); ++i)
                for (int64_t j = 0; j < w.grid().cols(); ++j)
                    to.task<SgdMomentum<T>>({momentum, weight_decay, 0, nesterov}, to.tile(w, i, j), to.tile(dw, i, j),
                                            to.tile(m, i, j));
        });
    };
    w.graph->add(std::move(node));
}

void sgd(Tensor w, Tensor dw, double weight_decay) {
    require(w.shape() == dw.shape() && w.dtype() == dw.dtype(), "sgd", "needs equal shapes and types", {w, dw});
    require_type<float, double>(w.dtype(), "sgd");
    dw = on_grid(dw, w.grid());
    Node node;
    node.op = "sgd", node.inputs = {w, dw}, node.updates = {w};
    node.lower = [=](Lowering& to) {
        dispatch<float, double>(w.dtype(), "sgd", [&]<class T>() {
            for (int64_t i = 0; i < w.grid().rows(); ++i)
                for (int64_t j = 0; j < w.grid().cols(); ++j)
                    to.task<Sgd<T>>({0, weight_decay, 0, false}, to.tile(w, i, j), to.tile(dw, i, j));
        });
    };
    w.graph->add(std::move(node));
}

}  // namespace tessera
