// add: y = a + b. f32, f64, bf16.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
struct Add : Binary<Add<T>, T> {
    static constexpr auto name = "add", formula = "y = a + b";
    static constexpr double flops_per_element = 1;
    HD static Compute<T> f(NoArgs, Compute<T> a, Compute<T> b) { return a + b; }
};
const Register<Add<float>, Add<double>, Add<bf16>> codelets;
const Example example(codelets, add);

}  // namespace

Tensor add(Tensor a, Tensor b) {
    return map_tiles<Add, float, double, bf16>(NoArgs{}, {a, b}, [](const auto& d) { return std::vector{d[0], d[0]}; });
}

}  // namespace tessera
