// gelu: y = x Phi(x), Phi the normal distribution function, exact; dx = dy (Phi(x) + x phi(x)). f32, f64, bf16.
// Hendrycks, Gimpel 2016, arXiv:1606.08415, section 2.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "codelets/vector_math.h"
#include "core/examples.h"

namespace tessera {
namespace {

// erfc and not 1 + erf: exact to the last digits where x is far below 0.
template <class C>
HD C normal_distribution(C x) {
    return C(0.5) * std::erfc(x * C(-0.70710678118654752440));  // 1 / sqrt(2)
}
template <class C>
HD C normal_density(C x) {
    return C(0.39894228040143267794) * std::exp(C(-0.5) * x * x);  // 1 / sqrt(2 pi)
}

template <class T>
struct Gelu : Unary<Gelu<T>, T> {
    static constexpr auto name = "gelu", formula = "y = x Phi(x)";
    static constexpr double flops_per_element = 20;
    HD static Compute<T> f(NoArgs, Compute<T> x) { return x * normal_distribution(x); }
};

template <class T>
struct GeluBackward : Binary<GeluBackward<T>, T> {
    static constexpr auto name = "gelu_backward", formula = "dx = dy (Phi(x) + x phi(x))";
    static constexpr double flops_per_element = 30;
    HD static Compute<T> f(NoArgs, Compute<T> x, Compute<T> dy) {
        return dy * (normal_distribution(x) + x * normal_density(x));
    }
};
const Register<Gelu<float>, Gelu<double>, Gelu<bf16>, GeluBackward<float>, GeluBackward<double>, GeluBackward<bf16>>
    codelets;
const Example example(codelets, gelu);

}  // namespace

Tensor gelu(Tensor x) {
    return map_tiles<Gelu, float, double, bf16>(NoArgs{}, {x}, [x](const auto& d) {
        return std::vector{map_tiles<GeluBackward, float, double, bf16>(NoArgs{}, {x, d[0]}, {})};
    });
}

}  // namespace tessera
