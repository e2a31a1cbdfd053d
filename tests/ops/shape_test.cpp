// transpose, retile.
#include <gtest/gtest.h>

#include "plain.h"

namespace tessera::test {
namespace {

const Declare transpose_case{{.name = "transpose",
                              .inputs = rectangles(1),
                              .build = [](Graph&, const auto& x) { return std::vector{transpose(x[0])}; },
                              .reference = [](const Matrices& x) { return Matrices{transposed(x[0])}; }}};

// Into one tile, and into rows and columns cut in two at other places than before.
OpCase retile_case(const std::string& name, std::vector<DType> types, bool gradient) {
    return {.name = name,
            .inputs = rectangles(1, 0, 100),
            .build =
                [](Graph&, const auto& x) {
                    const auto halves = [](int64_t n) {
                        return n > 1 ? std::vector<int64_t>{(n + 2) / 3, n - (n + 2) / 3} : std::vector<int64_t>{n};
                    };
                    const Shape s = x[0].shape();
                    return std::vector{retile(x[0], Grid::whole(s)), retile(x[0], {halves(s.rows), halves(s.cols)}),
                                       retile(retile(x[0], {cut(s.rows, 1), {s.cols}}), {{s.rows}, cut(s.cols, 1)})};
                },
            .reference =
                [](const Matrices& x) {
                    return Matrices{x[0], x[0], x[0]};
                },
            .types = std::move(types),
            .gradient = gradient};
}
const Declare retile_real{retile_case("retile", {DType::f32, DType::f64, DType::bf16}, true)};
const Declare retile_whole{retile_case("retile_whole", {DType::i32, DType::u8}, false)};

// More sources than StarPU has fixed buffers.
TEST(Retile, ManySources) {
    Graph g;
    Tensor x = g.value("x", {13, 11}, DType::f32, {cut(13, 1), cut(11, 1)}), y = retile(x, Grid::whole({13, 11}));
    g.keep(y);
    Interpreter run(g);
    ASSERT_EQ(run.plan().tasks.size(), 1u);
    EXPECT_EQ(run.plan().tasks[0].tiles.size(), 144u);
    Matrix values(13, 11);
    for (size_t i = 0; i < values.v.size(); ++i) values.v[i] = double(i);
    run.write(x, values);
    run.run();
    EXPECT_EQ(difference(run.read(y), values, 0), "");
}

}  // namespace
}  // namespace tessera::test
