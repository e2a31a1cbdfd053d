// sigmoid: y = 1 / (1 + exp(-x)). f32, f64, bf16.
#include "codelets/activation.h"
#include "codelets/vector_math.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
struct Sigmoid : Unary<Sigmoid<T>, T> {
    static constexpr auto name = "sigmoid", formula = "y = 1 / (1 + exp(-x))";
    static constexpr double flops_per_element = 10;
    HD static Compute<T> f(NoArgs, Compute<T> x) { return apply(Activation::sigmoid, x); }
};
const Register<Sigmoid<float>, Sigmoid<double>, Sigmoid<bf16>> codelets;
const Example example(codelets, sigmoid);

}  // namespace

Tensor sigmoid(Tensor x) {
    Tensor y = map_tiles<Sigmoid, float, double, bf16>(NoArgs{}, {x}, {});
    return with_vjp(y, [y](const auto& d) { return std::vector{activation_backward(y, d[0], Activation::sigmoid)}; });
}

}  // namespace tessera
