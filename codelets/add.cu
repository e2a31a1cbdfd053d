// add: y = a + b;  of maps y = act(a + b), relu, tanh and sigmoid in the same pass. f32, f64, bf16.
#include "codelets/activation.h"
#include "codelets/maps_grid.h"

namespace tessera {
namespace {

template <class T>
struct Add : Binary<Add<T>, T> {
    static constexpr auto name = "add", formula = "y = a + b";
    static constexpr double flops_per_element = 1;
    HD static Compute<T> f(NoArgs, Compute<T> a, Compute<T> b) { return a + b; }
};

struct AddArgs {
    Activation activation;
};
// The activation as a constant, so that the host's loop is vectorized.
template <class T, Activation A>
struct AddThen : Binary<AddThen<T, A>, T> {
    static constexpr auto name = "add_activation";
    static constexpr double flops_per_element = 2;
    HD static Compute<T> f(NoArgs, Compute<T> a, Compute<T> b) { return apply(A, a + b); }
};
template <class T>
struct AddActivation : Binary<AddActivation<T>, T, AddArgs> {
    static constexpr auto name = "add_activation", formula = "y = act(a + b)";
    static constexpr double flops_per_element = 2;
    static uint32_t key(AddArgs x) { return uint32_t(x.activation); }
    HD static Compute<T> f(AddArgs x, Compute<T> a, Compute<T> b) { return apply(x.activation, a + b); }
    static void cpu(AddArgs x, In<T> a, In<T> b, Out<T> y) {
        switch (x.activation) {
            case Activation::relu:
                return AddThen<T, Activation::relu>::cpu({}, a, b, y);
            case Activation::tanh:
                return AddThen<T, Activation::tanh>::cpu({}, a, b, y);
            case Activation::sigmoid:
                return AddThen<T, Activation::sigmoid>::cpu({}, a, b, y);
            default:
                return Add<T>::cpu({}, a, b, y);
        }
    }
};
const Register<Add<float>, Add<double>, Add<bf16>, AddActivation<float>, AddActivation<double>, AddActivation<bf16>>
    codelets;
const Example example(codelets, add);
const Example of_maps(codelets, activation_sizes, [](ExampleGraph& e, Shape s) {
    const Tensor a = e.input(s), b = e.input(s);
    for (Activation f : {Activation::relu, Activation::tanh, Activation::sigmoid})
        e.keep(add(Maps{a}, Maps{b}, f).tensor);
});

}  // namespace

Tensor add(Tensor a, Tensor b) {
    return map_tiles<Add, float, double, bf16>(NoArgs{}, {a, b}, [](const auto& d) { return std::vector{d[0], d[0]}; });
}

Maps add(Maps a, Maps b, Activation activation) {
    require(a.height == b.height && a.width == b.width, "add",
            "needs maps of one size, not " + to_string(Extent2d(a.height, a.width)) + " and " +
                to_string(Extent2d(b.height, b.width)),
            {a.tensor, b.tensor});
    if (activation == Activation::none || !has_derivative_from_output(activation))
        return {activate(add(a.tensor, b.tensor), activation), a.height, a.width};
    Tensor y = map_tiles<AddActivation, float, double, bf16>(AddArgs{activation}, {a.tensor, b.tensor}, {},
                                                             "activation=" + std::to_string(int(activation)));
    with_vjp(y, [y, activation](const auto& d) {
        const Tensor dz = activation_backward(y, d[0], activation);
        return std::vector{dz, dz};
    });
    return {y, a.height, a.width};
}

}  // namespace tessera
