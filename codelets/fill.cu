// fill: y = value everywhere. f32, f64, bf16.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct FillArgs {
    double value;
};

template <class T>
struct Fill : Elementwise<Fill<T>, T, FillArgs> {
    static constexpr auto name = "fill", formula = "y = value";
    static constexpr double flops_per_element = 0;
    HD static Compute<T> f(FillArgs a) { return Compute<T>(a.value); }
};
const Register<Fill<float>, Fill<double>, Fill<bf16>> codelets;
const Example example(codelets, activation_sizes,
                      [](ExampleGraph& e, Shape s) { e.keep(fill(e.graph, s, e.type, Grid::whole(s), 1)); });

}  // namespace

Tensor fill(Graph& g, Shape shape, DType type, Grid grid, double value) {
    require_type<float, double, bf16>(type, "fill");
    Tensor y = g.value("fill", shape, type, std::move(grid));
    Node node;
    node.op = "fill", node.outputs = {y}, node.attributes = "value=" + std::to_string(value);
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(y.dtype(), "fill", [&]<class T>() {
            for (int64_t i = 0; i < y.grid().rows(); ++i)
                for (int64_t j = 0; j < y.grid().cols(); ++j) to.task<Fill<T>>({value}, to.tile(y, i, j));
        });
    };
    g.add(std::move(node));
    return y;
}

}  // namespace tessera
