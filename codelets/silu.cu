// silu: y = x s(x), s(x) = 1 / (1 + exp(-x)); dx = dy s (1 + x (1 - s)). f32, f64, bf16.
// Elfwing, Uchibe, Doya 2018, arXiv:1702.03118.
#include "codelets/activation.h"
#include "codelets/vector_math.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
struct Silu : Unary<Silu<T>, T> {
    static constexpr auto name = "silu", formula = "y = x / (1 + exp(-x))";
    static constexpr double flops_per_element = 10;
    HD static Compute<T> f(NoArgs, Compute<T> x) { return x / (Compute<T>(1) + std::exp(-x)); }
};

template <class T>
struct SiluBackward : Binary<SiluBackward<T>, T> {
    static constexpr auto name = "silu_backward", formula = "dx = dy s (1 + x (1 - s)), s = 1 / (1 + exp(-x))";
    static constexpr double flops_per_element = 15;
    HD static Compute<T> f(NoArgs, Compute<T> x, Compute<T> dy) {
        const Compute<T> one = 1, s = apply(Activation::sigmoid, x);
        return dy * s * (one + x * (one - s));
    }
};
const Register<Silu<float>, Silu<double>, Silu<bf16>, SiluBackward<float>, SiluBackward<double>, SiluBackward<bf16>>
    codelets;
const Example example(codelets, silu);

}  // namespace

Tensor silu(Tensor x) {
    return map_tiles<Silu, float, double, bf16>(NoArgs{}, {x}, [x](const auto& d) {
        return std::vector{map_tiles<SiluBackward, float, double, bf16>(NoArgs{}, {x, d[0]}, {})};
    });
}

}  // namespace tessera
