// cast: y = x in another element type: f32, f64, bf16 into each other, i32 and u8 into f32. Rounds to nearest even;
// f64 to bf16 goes through f32.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class From, class To>
struct Cast : Elementwise<Cast<From, To>, To, NoArgs, From> {
    static constexpr auto name = "cast", formula = "y = x in another type";
    static constexpr DType dtype = dtype_of<From>;
    static constexpr auto suffix = dtype_of<To> == DType::f32   ? "_to_f32"
                                   : dtype_of<To> == DType::f64 ? "_to_f64"
                                                                : "_to_bf16";
    static constexpr double flops_per_element = 1;
    HD static Compute<To> f(NoArgs, Compute<From> x) { return Compute<To>(x); }
};
const Register<Cast<float, double>, Cast<float, bf16>, Cast<double, float>, Cast<double, bf16>, Cast<bf16, float>,
               Cast<bf16, double>, Cast<int32_t, float>, Cast<uint8_t, float>>
    codelets;
const Example example(codelets, activation_sizes, [](ExampleGraph& e, Shape s) {
    const bool real = facts(e.type).epsilon > 0;
    for (DType to : {DType::f32, DType::f64, DType::bf16})
        if (to != e.type && (real || to == DType::f32)) e.keep(cast(e.input(s), to));
});
// Weights stay f32 where all else is bf16.
const Example weights({DType::f32}, weight_sizes, [](ExampleGraph& e, Shape s) {
    const Tensor w = e.input(s);
    e.keep_with_gradients(cast(w, DType::bf16), {w});
});

// Calls f.operator()<From, To>() for the pair of types.
template <class F>
void dispatch_pair(DType from, DType to, F&& f) {
    dispatch<float, double, bf16, int32_t, uint8_t>(from, "cast", [&]<class From>() {
        if constexpr (std::is_integral_v<From>)
            dispatch<float>(to, "cast to", [&]<class To>() { f.template operator()<From, To>(); });
        else
            dispatch<float, double, bf16>(to, "cast to", [&]<class To>() {
                if constexpr (!std::is_same_v<From, To>) f.template operator()<From, To>();
            });
    });
}

}  // namespace

Tensor cast(Tensor x, DType type) {
    if (x.dtype() == type) return x;
    dispatch_pair(x.dtype(), type, [&]<class From, class To>() {});  // refuse an unknown pair now, not when lowered
    Graph& g = *x.graph;
    Tensor y = g.value("cast", x.shape(), type, x.grid());
    Node node;
    node.op = "cast", node.inputs = {x}, node.outputs = {y};
    node.attributes = "to=" + std::string(name_of(type));
    node.lower = [=](Lowering& to) {
        dispatch_pair(x.dtype(), type, [&]<class From, class To>() {
            for (int64_t i = 0; i < y.grid().rows(); ++i)
                for (int64_t j = 0; j < y.grid().cols(); ++j)
                    to.task<Cast<From, To>>({}, to.tile(x, i, j), to.tile(y, i, j));
        });
    };
    const bool real = facts(x.dtype()).epsilon > 0;  // integers have no gradient
    node.vjp = [=](const auto& d) { return std::vector{real ? cast(d[0], x.dtype()) : Tensor{}}; };
    g.add(std::move(node));
    return y;
}

}  // namespace tessera
