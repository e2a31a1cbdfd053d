// activation_backward: dx = dy act'(x), from the output y = act(x), of relu, tanh and sigmoid. f32, f64, bf16.
#include "codelets/activation.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct ActivationArgs {
    Activation activation;
};

// The activation as a constant, so that the host's loop is vectorized: signs of y are random, and branches on them
// mispredicted.
template <class T, Activation A>
struct BackwardOf : Binary<BackwardOf<T, A>, T> {
    static constexpr auto name = "activation_backward";
    static constexpr double flops_per_element = 3;
    HD static Compute<T> f(NoArgs, Compute<T> y, Compute<T> dy) { return dy * derivative_from_output(A, y); }
};
template <class T>
struct ActivationBackward : Binary<ActivationBackward<T>, T, ActivationArgs> {
    static constexpr auto name = "activation_backward", formula = "dx = dy act'(x), from y = act(x)";
    static constexpr double flops_per_element = 3;
    static uint32_t key(ActivationArgs a) { return uint32_t(a.activation); }
    HD static Compute<T> f(ActivationArgs a, Compute<T> y, Compute<T> dy) {
        return dy * derivative_from_output(a.activation, y);
    }
    static void cpu(ActivationArgs a, In<T> y, In<T> dy, Out<T> dx) {
        switch (a.activation) {
            case Activation::relu:
                return BackwardOf<T, Activation::relu>::cpu({}, y, dy, dx);
            case Activation::tanh:
                return BackwardOf<T, Activation::tanh>::cpu({}, y, dy, dx);
            default:
                return BackwardOf<T, Activation::sigmoid>::cpu({}, y, dy, dx);
        }
    }
};
const Register<ActivationBackward<float>, ActivationBackward<double>, ActivationBackward<bf16>> codelets;
const Example example(codelets, activation_sizes, [](ExampleGraph& e, Shape s) {
    for (Activation a : {Activation::relu, Activation::tanh, Activation::sigmoid})
        e.keep(activation_backward(e.input(s), e.input(s), a));
});

}  // namespace

Tensor activation_backward(Tensor y, Tensor dy, Activation a) {
    if (a == Activation::none) return dy;
    require(has_derivative_from_output(a), "activation_backward", "needs relu, tanh or sigmoid", {y, dy});
    return map_tiles<ActivationBackward, float, double, bf16>(ActivationArgs{a}, {y, dy}, {});
}

Tensor activate(Tensor x, Activation a) {
    switch (a) {
        case Activation::none:
            return x;
        case Activation::relu:
            return relu(x);
        case Activation::gelu:
            return gelu(x);
        case Activation::tanh:
            return tanh(x);
        case Activation::sigmoid:
            return sigmoid(x);
        case Activation::silu:
            return silu(x);
    }
    return x;
}

}  // namespace tessera
