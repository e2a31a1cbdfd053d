// adam, adamw: with g = dw (adam: + weight_decay w), m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2,
// w = w (adamw: (1 - lr weight_decay)) - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + epsilon), in place. f32, f64.
// Kingma, Ba 2015, arXiv:1412.6980, algorithm 1; Loshchilov, Hutter 2019, arXiv:1711.05101, algorithm 2.
#include <cmath>

#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class C>
struct AdamFactors {  // the same for all elements; rounded to C only here: 1 - beta2 in f32 would lose half its digits
    C shrink, l2, rest1, beta2, rest2, step_size, root, epsilon;
};

struct AdamArgs {
    static constexpr double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    double weight_decay;
    bool decoupled;
    double learning_rate = 0;
    int64_t t = 1;  // counts from 1

    template <class C>
    AdamFactors<C> factors() const {
        return {.shrink = C(decoupled ? 1 - learning_rate * weight_decay : 1),
                .l2 = C(decoupled ? 0 : weight_decay),
                .rest1 = C(1 - beta1),
                .beta2 = C(beta2),
                .rest2 = C(1 - beta2),
                .step_size = C(learning_rate / (1 - std::pow(beta1, double(t)))),
                .root = C(std::sqrt(1 - std::pow(beta2, double(t)))),
                .epsilon = C(epsilon)};
    }
};

template <class T>
struct Adam {
    static constexpr auto name = "adam", formula = "w -= lr m' / (sqrt(v') + epsilon)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = AdamArgs;
    static Cost cost(Args, InOut<T> w, In<T> dw, InOut<T> m, InOut<T> v) {
        return {14 * double(w.size()), bytes_of_views(w, dw, m, v) + bytes_of_views(w, m, v)};
    }
    static void at_step(Args& a, const Step& step) { a.learning_rate = step.learning_rate, a.t = step.number + 1; }
    HD static void f(const AdamFactors<T>& c, T& w, T dw, T& m, T& v) {
        const T g = dw + c.l2 * w;
        m += c.rest1 * (g - m);
        v = c.beta2 * v + c.rest2 * g * g;
        w = c.shrink * w - c.step_size * m / (std::sqrt(v) / c.root + c.epsilon);
    }
    static void cpu(Args a, InOut<T> w, In<T> dw, InOut<T> m, InOut<T> v) {
        const auto c = a.factors<T>();
        for (int64_t i = 0; i < w.rows; ++i) row(c, w.cols, w.row(i), dw.row(i), m.row(i), v.row(i));
    }
    static void cuda(Args a, InOut<T> w, In<T> dw, InOut<T> m, InOut<T> v, Stream stream);

 private:
    static void row(AdamFactors<T> c, int64_t n, T* __restrict w, const T* __restrict dw, T* __restrict m,
                    T* __restrict v) {
        for (int64_t j = 0; j < n; ++j) f(c, w[j], dw[j], m[j], v[j]);
    }
};
#ifdef TESSERA_CUDA
template <class T>
__global__ void adam_kernel(AdamFactors<T> c, InOut<T> w, In<T> dw, InOut<T> m, InOut<T> v) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < w.size(); k += stride) {
        const int64_t i = k / w.cols, j = k % w.cols;
        Adam<T>::f(c, w(i, j), dw(i, j), m(i, j), v(i, j));
    }
}
template <class T>
void Adam<T>::cuda(Args a, InOut<T> w, In<T> dw, InOut<T> m, InOut<T> v, Stream stream) {
    launch(name, stream, blocks_for(w.size()), adam_kernel<T>, a.factors<T>(), w, dw, m, v);
}
#endif
const Register<Adam<float>, Adam<double>> codelets;
const Example example(codelets, weight_sizes, [](ExampleGraph& e, Shape s) {
    for (const auto optimizer : {adam, adamw}) optimizer(e.input(s), e.input(s), e.input(s), e.input(s), 0.01);
});

void update(const std::string& op, bool decoupled, Tensor w, Tensor dw, Tensor m, Tensor v, double weight_decay) {
    for (Tensor t : {dw, m, v})
        require(t.shape() == w.shape() && t.dtype() == w.dtype(), op, "needs equal shapes and types", {w, dw, m, v});
    require(m.grid() == w.grid() && v.grid() == w.grid(), op, "m and v are updated in place: they need w's tiles",
            {w, m, v});
    require_type<float, double>(w.dtype(), op);
    dw = on_grid(dw, w.grid());
    Node node;
    node.op = op, node.inputs = {w, dw, m, v}, node.updates = {w, m, v};
    node.attributes = "weight_decay=" + std::to_string(weight_decay);
    node.lower = [=](Lowering& to) {
        dispatch<float, double>(w.dtype(), op, [&]<class T>() {
            for (int64_t i = 0; i < w.grid().rows(); ++i)
                for (int64_t j = 0; j < w.grid().cols(); ++j)
                    to.task<Adam<T>>({weight_decay, decoupled}, to.tile(w, i, j), to.tile(dw, i, j), to.tile(m, i, j),
                                     to.tile(v, i, j));
        });
    };
    w.graph->add(std::move(node));
}

}  // namespace

void adam(Tensor w, Tensor dw, Tensor m, Tensor v, double weight_decay) {
    update("adam", false, w, dw, m, v, weight_decay);
}

void adamw(Tensor w, Tensor dw, Tensor m, Tensor v, double weight_decay) {
    update("adamw", true, w, dw, m, v, weight_decay);
}

}  // namespace tessera
