// add of maps with an activation: every one of them, values and gradients; one task per tile where it can be fused.
#include <gtest/gtest.h>

#include "plain.h"

namespace tessera::test {
namespace {

void declare(const std::string& name, Activation activation) {
    Declare(
        {.name = "add_" + name,
         .inputs = rectangles(2),
         .build = [=](Graph&, const auto& x) { return std::vector{add(Maps{x[0]}, Maps{x[1]}, activation).tensor}; },
         .reference =
             [=](const Matrices& x) {
                 return Matrices{map(x[0], x[1], [=](double a, double b) { return activated(activation, a + b); })};
             },
         .suitable =
             [](const Matrices& x) {
                 for (size_t i = 0; i < x[0].v.size(); ++i)
                     if (std::abs(x[0].v[i] + x[1].v[i]) < 1e-3) return false;
                 return true;
             }});
}
const bool declared = [] {
    declare("maps", Activation::none);
    declare("relu", Activation::relu);
    declare("tanh", Activation::tanh);
    declare("sigmoid", Activation::sigmoid);
    declare("gelu", Activation::gelu);
    declare("silu", Activation::silu);
    return true;
}();

TEST(AddMaps, IsOneTaskPerTile) {
    Graph g;
    Tensor a = g.value("a", {8, 3}, DType::f32, {{4, 4}, {2, 1}}), b = g.value("b", {8, 3}, DType::f32, a.grid());
    g.keep(add({a, 2, 2}, {b, 2, 2}, Activation::relu).tensor);
    EXPECT_EQ(Plan(g).tasks.size(), 4u);
    try {
        add({a, 2, 2}, {b, 4, 1}, Activation::relu);
        ADD_FAILURE();
    } catch (const std::invalid_argument& e) {
        EXPECT_NE(std::string(e.what()).find("add: needs maps of one size, not 2 x 2 and 4 x 1"), std::string::npos);
    }
}

}  // namespace
}  // namespace tessera::test
