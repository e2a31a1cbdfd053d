// relu: y = max(x, 0); NaN stays NaN. f32, f64, bf16.
#include "codelets/activation.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
struct Relu : Unary<Relu<T>, T> {
    static constexpr auto name = "relu", formula = "y = max(x, 0)";
    static constexpr double flops_per_element = 1;
    HD static Compute<T> f(NoArgs, Compute<T> x) { return apply(Activation::relu, x); }
};
const Register<Relu<float>, Relu<double>, Relu<bf16>> codelets;
const Example example(codelets, relu);

}  // namespace

Tensor relu(Tensor x) {
    // From the output: y > 0 exactly where x > 0.
    Tensor y = map_tiles<Relu, float, double, bf16>(NoArgs{}, {x}, {});
    return with_vjp(y, [y](const auto& d) { return std::vector{activation_backward(y, d[0], Activation::relu)}; });
}

}  // namespace tessera
