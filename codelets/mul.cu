// mul: y = a * b, element by element; shapes equal. f32, f64, bf16.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
struct Mul : Binary<Mul<T>, T> {
    static constexpr auto name = "mul", formula = "y = a * b";
    static constexpr double flops_per_element = 1;
    HD static Compute<T> f(NoArgs, Compute<T> a, Compute<T> b) { return a * b; }
};
const Register<Mul<float>, Mul<double>, Mul<bf16>> codelets;
const Example example(codelets, mul);

}  // namespace

Tensor mul(Tensor a, Tensor b) {
    return map_tiles<Mul, float, double, bf16>(NoArgs{}, {a, b}, [a, b](const auto& d) {
        return std::vector{mul(d[0], b), mul(d[0], a)};
    });
}

}  // namespace tessera
