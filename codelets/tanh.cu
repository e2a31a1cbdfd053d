// tanh: y = tanh(x). f32, f64, bf16.
#include "codelets/activation.h"
#include "codelets/vector_math.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
struct Tanh : Unary<Tanh<T>, T> {
    static constexpr auto name = "tanh", formula = "y = tanh(x)";
    static constexpr double flops_per_element = 10;
    HD static Compute<T> f(NoArgs, Compute<T> x) { return apply(Activation::tanh, x); }
};
const Register<Tanh<float>, Tanh<double>, Tanh<bf16>> codelets;
const Example example(codelets, tanh);

}  // namespace

Tensor tanh(Tensor x) {
    Tensor y = map_tiles<Tanh, float, double, bf16>(NoArgs{}, {x}, {});
    return with_vjp(y, [y](const auto& d) { return std::vector{activation_backward(y, d[0], Activation::tanh)}; });
}

}  // namespace tessera
