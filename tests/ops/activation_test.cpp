// relu, gelu, tanh, sigmoid, silu, and activation_backward, which gets by with the output.
#include <gtest/gtest.h>

#include "plain.h"

namespace tessera::test {
namespace {

OpCase activation(const std::string& name, Activation a, double away_from_zero = 0) {
    return {
        .name = name,
        .inputs = rectangles(1, -4, 4, away_from_zero),
        .build = [a](Graph&, const auto& x) { return std::vector{activate(x[0], a)}; },
        .reference = [a](const Matrices& x) { return Matrices{map(x[0], [a](double z) { return activated(a, z); })}; },
        .scale = 1};  // tanh' is 1 - y^2: near 0 its error is that of y, near 1
}
const Declare relu_case{activation("relu", Activation::relu, 0.01)};
const Declare gelu_case{activation("gelu", Activation::gelu)};
const Declare tanh_case{activation("tanh", Activation::tanh)};
const Declare sigmoid_case{activation("sigmoid", Activation::sigmoid)};
const Declare silu_case{activation("silu", Activation::silu)};

OpCase backward(const std::string& name, Activation a, std::function<double(double)> derivative) {
    return {.name = name,
            .inputs = rectangles(2),
            .build = [a](Graph&, const auto& x) { return std::vector{activation_backward(x[0], x[1], a)}; },
            .reference =
                [derivative](const Matrices& x) {
                    return Matrices{map(x[0], x[1], [&](double y, double dy) { return dy * derivative(y); })};
                },
            .gradient = false,
            .scale = 1};
}
const Declare relu_backward{backward("relu_backward", Activation::relu, [](double y) { return y > 0 ? 1.0 : 0.0; })};
const Declare tanh_backward{backward("tanh_backward", Activation::tanh, [](double y) { return 1 - y * y; })};
const Declare sigmoid_backward{backward("sigmoid_backward", Activation::sigmoid, [](double y) { return y - y * y; })};

// Far below 0 the result is tiny, and 1 + erf would have lost all of its digits.
TEST(Gelu, IsExactInTheTail) {
    for (DType type : {DType::f32, DType::f64}) {
        Graph g;
        Tensor x = g.value("x", {1, 2}, type), y = gelu(x);
        g.keep(y);
        Interpreter run(g);
        Matrix values(1, 2);
        values.v = {-5, -8};
        run.write(x, values);
        run.run();
        const Matrix actual = run.read(y);
        const double at_5 = -5 * 2.866515718791939e-07, at_8 = -8 * 6.220960574271785e-16;  // x Phi(x)
        EXPECT_NEAR(actual(0, 0) / at_5, 1, 64 * facts(type).epsilon);
        EXPECT_NEAR(actual(0, 1) / at_8, 1, 64 * facts(type).epsilon);
    }
}

}  // namespace
}  // namespace tessera::test
