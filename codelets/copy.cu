// copy: y = x;  assign: the same into a Param. f32, f64, bf16, i32, u8.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
struct Copy : Unary<Copy<T>, T> {
    static constexpr auto name = "copy", formula = "y = x";
    static constexpr double flops_per_element = 0;
    HD static Compute<T> f(NoArgs, Compute<T> x) { return x; }
};
const Register<Copy<float>, Copy<double>, Copy<bf16>, Copy<int32_t>, Copy<uint8_t>> codelets;
const Example example(codelets, copy);

}  // namespace

Tensor copy(Tensor x) {
    return map_tiles<Copy, float, double, bf16, int32_t, uint8_t>(NoArgs{}, {x}, [](const auto& d) { return d; });
}

void assign(Tensor to, Tensor from) {
    require(to.shape() == from.shape() && to.dtype() == from.dtype(), "assign", "needs equal shapes and types",
            {to, from});
    from = on_grid(from, to.grid());
    Node node;
    node.op = "assign", node.inputs = {from}, node.updates = {to};
    node.lower = [=](Lowering& lower) {
        dispatch<float, double, bf16, int32_t, uint8_t>(to.dtype(), "assign", [&]<class T>() {
            for (int64_t i = 0; i < to.grid().rows(); ++i)
                for (int64_t j = 0; j < to.grid().cols(); ++j)
                    lower.task<Copy<T>>({}, lower.tile(from, i, j), lower.tile(to, i, j));
        });
    };
    to.graph->add(std::move(node));
}

}  // namespace tessera
