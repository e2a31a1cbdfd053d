// add, mul, scale, scale_by, copy, assign, fill, cast.
#include <gtest/gtest.h>

#include "plain.h"

namespace tessera::test {
namespace {

const Declare add_case{{.name = "add",
                        .inputs = rectangles(2),
                        .build = [](Graph&, const auto& x) { return std::vector{add(x[0], x[1])}; },
                        .reference = [](const Matrices& x) { return Matrices{map(x[0], x[1], std::plus<>())}; }}};
const Declare add_self{
    {.name = "add_self",  // one tile twice among the inputs; two gradients meet
     .inputs = rectangles(1),
     .build = [](Graph&, const auto& x) { return std::vector{add(x[0], x[0])}; },
     .reference = [](const Matrices& x) { return Matrices{map(x[0], [](double v) { return v + v; })}; }}};
const Declare mul_case{{.name = "mul",
                        .inputs = rectangles(2),
                        .build = [](Graph&, const auto& x) { return std::vector{mul(x[0], x[1])}; },
                        .reference = [](const Matrices& x) { return Matrices{map(x[0], x[1], std::multiplies<>())}; }}};
const Declare mul_self{
    {.name = "mul_self",
     .inputs = rectangles(1),
     .build = [](Graph&, const auto& x) { return std::vector{mul(x[0], x[0])}; },
     .reference = [](const Matrices& x) { return Matrices{map(x[0], [](double v) { return v * v; })}; }}};
const Declare scale_case{
    {.name = "scale",
     .inputs = rectangles(1),
     .build = [](Graph&, const auto& x) { return std::vector{scale(x[0], -2.5)}; },
     .reference = [](const Matrices& x) { return Matrices{map(x[0], [](double v) { return -2.5 * v; })}; }}};
const Declare scale_by_case{{.name = "scale_by",
                             .inputs =
                                 [](Extents e) {
                                     return std::vector<Input>{{.shape = {e.m, e.n}}, {.shape = {1, 1}}};
                                 },
                             .build = [](Graph&, const auto& x) { return std::vector{scale_by(x[0], x[1])}; },
                             .reference =
                                 [](const Matrices& x) {
                                     const double factor = x[1](0, 0);
                                     return Matrices{map(x[0], [&](double v) { return factor * v; })};
                                 },
                             .reduction = [](Extents e) { return e.m * e.n; }}};  // of the factor's gradient
const Declare fill_case{
    {.name = "fill",
     .inputs = rectangles(1),
     .build =
         [](Graph& g, const auto& x) {
             Tensor f = fill(g, x[0].shape(), x[0].dtype(), x[0].grid(), 0.75);
             return std::vector{f, mul(x[0], f)};
         },
     .reference =
         [](const Matrices& x) {
             return Matrices{map(x[0], [](double) { return 0.75; }), map(x[0], [](double v) { return 0.75 * v; })};
         },
     .gradient = false}};

OpCase copy_of(const std::string& name, double low, double high, std::vector<DType> types, bool gradient) {
    return {.name = name,
            .inputs = rectangles(1, low, high),
            .build = [](Graph&, const auto& x) { return std::vector{copy(x[0])}; },
            .reference = [](const Matrices& x) { return x; },
            .types = std::move(types),
            .gradient = gradient,
            .tolerance_factor = 0};
}
const Declare copy_real{copy_of("copy", -1, 1, {DType::f32, DType::f64, DType::bf16}, true)};
const Declare copy_whole{copy_of("copy_whole", 0, 200, {DType::i32, DType::u8}, false)};
const Declare assign_case{
    {.name = "assign",
     .inputs =
         [](Extents e) {
             return std::vector<Input>{{.shape = {e.m, e.n}, .param = true}, {.shape = {e.m, e.n}}};
         },
     .build =
         [](Graph&, const auto& x) {
             assign(x[0], x[1]);
             return std::vector{x[0]};
         },
     .reference = [](const Matrices& x) { return Matrices{x[1]}; },
     .types = {DType::f32, DType::f64, DType::bf16, DType::i32},
     .gradient = false,
     .tolerance_factor = 0}};

OpCase cast_to(DType to, std::vector<DType> from, bool gradient = true) {
    return {.name = "cast_to_" + std::string(name_of(to)) + (gradient ? "" : "_whole"),
            .inputs = rectangles(1, gradient ? -3 : 0, gradient ? 3 : 200),
            .build = [to](Graph&, const auto& x) { return std::vector{cast(x[0], to)}; },
            .reference = [](const Matrices& x) { return x; },
            .types = std::move(from),
            .gradient = gradient};
}
const Declare cast_to_f32{cast_to(DType::f32, {DType::f32, DType::f64, DType::bf16})};
const Declare cast_to_f64{cast_to(DType::f64, {DType::f32, DType::bf16})};
const Declare cast_to_bf16{cast_to(DType::bf16, {DType::f32, DType::f64})};
const Declare cast_whole{cast_to(DType::f32, {DType::i32, DType::u8}, false)};

// To nearest, ties to even; NaN stays NaN; what is too large becomes infinite.
TEST(Cast, RoundsToNearestEven) {
    const double tie = 0x1p-8, above = 0x1p-23;
    const std::vector<double> from = {
        1 + tie,  1 + 3 * tie, 1 + tie + above, 1 + tie - above, -1 - tie, 0x1.fffffep127, INFINITY, NAN,
        0x1p-133, -0.0};
    const std::vector<double> to = {1, 1 + 4 * tie, 1 + 2 * tie, 1, -1, INFINITY, INFINITY, NAN, 0x1p-133, -0.0};
    for (DType type : {DType::f32, DType::f64}) {
        Graph g;
        Tensor x = g.value("x", {1, int64_t(from.size())}, type), y = cast(x, DType::bf16);
        g.keep(y);
        Interpreter run(g);
        Matrix values(1, int64_t(from.size()));
        values.v = from;
        run.write(x, values);
        run.run();
        const Matrix actual = run.read(y);
        for (size_t i = 0; i < to.size(); ++i)
            EXPECT_TRUE(actual.v[i] == to[i] || (std::isnan(actual.v[i]) && std::isnan(to[i])))
                << from[i] << " became " << actual.v[i] << ", not " << to[i];
        EXPECT_TRUE(std::signbit(actual.v.back()));
    }
}

}  // namespace
}  // namespace tessera::test
