// dropout: its mask is random, so there is no reference; what is checked is what a mask must be.
#include <gtest/gtest.h>

#include "plain.h"

namespace tessera::test {
namespace {

struct Result {
    Matrix y, dx;
};
// Of x = 1 and dy = 1: both are mask / (1 - p).
Result masks(DType type, Shape shape, double p, const Grid& grid, const Step& step) {
    Graph g;
    Tensor x = g.value("x", shape, type, grid), y = dropout(x, p), dy = g.value("dy", shape, type, grid);
    Tensor dx = g.backward(y, dy, {x}, [](Tensor a, Tensor b) { return add(a, b); })[0];
    g.keep(y), g.keep(dx);
    Interpreter run(g);
    run.write(x, Matrix(shape.rows, shape.cols, 1));
    run.write(dy, Matrix(shape.rows, shape.cols, 1));
    run.run(step);
    return {run.read(y), run.read(dx)};
}
Step numbered(int64_t step, uint64_t seed) { return {step, 0, seed, nullptr}; }

class Dropout : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, Dropout, testing::Values(DType::f32, DType::f64, DType::bf16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST_P(Dropout, KeepsTheRateAndScales) {
    const uint64_t seed = generator("dropout")();
    SCOPED_TRACE("--seed " + std::to_string(run_seed()));
    for (double p : {0.1, 0.3, 0.5, 0.9}) {
        const Shape shape{211, 307};
        const Matrix y = masks(GetParam(), shape, p, Grid::whole(shape), numbered(0, seed)).y;
        double kept = 0;
        for (double v : y.v) {
            kept += v != 0;
            if (v != 0) { ASSERT_NEAR(v, 1 / (1 - p), facts(GetParam()).epsilon / (1 - p)); }
        }
        const double n = double(shape.size());
        EXPECT_NEAR(kept / n, 1 - p, 6 * std::sqrt(p * (1 - p) / n));
    }
}

TEST_P(Dropout, BackwardUsesTheSameMask) {
    const Shape shape{17, 13};
    const Result r = masks(GetParam(), shape, 0.4, {cut(17, 4), cut(13, 5)}, numbered(3, generator("backward")()));
    EXPECT_EQ(difference(r.dx, r.y, 0), "");
}

TEST_P(Dropout, MaskDoesNotDependOnTiles) {
    const Shape shape{17, 13};
    const Step step = numbered(5, generator("tiles")());
    const Matrix whole = masks(GetParam(), shape, 0.4, Grid::whole(shape), step).y;
    for (const Grid& grid : {Grid{cut(17, 4), cut(13, 4)}, Grid{{1, 16}, {12, 1}}, Grid{cut(17, 1), {13}}})
        EXPECT_EQ(difference(masks(GetParam(), shape, 0.4, grid, step).y, whole, 0), "") << to_string(grid);
}

TEST_P(Dropout, MaskChangesWithStepAndSeedOnly) {
    const Shape shape{32, 32};
    const uint64_t seed = generator("steps")();
    const auto mask = [&](int64_t step, uint64_t s) {
        return masks(GetParam(), shape, 0.5, Grid::whole(shape), numbered(step, s)).y.v;
    };
    const auto first = mask(0, seed);
    EXPECT_EQ(mask(0, seed), first);
    const auto equal = [&](const std::vector<double>& other) {
        int64_t n = 0;
        for (size_t i = 0; i < first.size(); ++i) n += first[i] == other[i];
        return double(n) / double(first.size());
    };
    EXPECT_NEAR(equal(mask(1, seed)), 0.5, 0.1);  // independent masks agree by half
    EXPECT_NEAR(equal(mask(1000000, seed)), 0.5, 0.1);
    EXPECT_NEAR(equal(mask(0, seed + 1)), 0.5, 0.1);
}

TEST(DropoutGraph, NodesHaveTheirOwnMasks) {
    Graph g;
    Tensor x = g.value("x", {32, 32}, DType::f32), a = dropout(x, 0.5), b = dropout(x, 0.5);
    g.keep(a), g.keep(b);
    Interpreter run(g);
    run.write(x, Matrix(32, 32, 1));
    run.run();
    EXPECT_NE(run.read(a).v, run.read(b).v);
}

TEST(DropoutGraph, DropsInfinityAndNan) {
    Graph g;
    Tensor x = g.value("x", {64, 64}, DType::f32), y = dropout(x, 0.5);
    g.keep(y);
    Interpreter run(g);
    run.write(x, Matrix(64, 64, INFINITY));
    run.run();
    for (double v : run.read(y).v) ASSERT_TRUE(v == 0 || v == INFINITY);
}

TEST(DropoutGraph, ZeroIsNothing) {
    Graph g;
    Tensor x = g.value("x", {3, 5}, DType::f32);
    EXPECT_EQ(dropout(x, 0), x);
}

// Speed, guards, any order: the harness's part, with a probability that keeps all but one in 16 million.
const Declare rare{{.name = "dropout",
                    .inputs = rectangles(1),
                    .build = [](Graph&, const auto& x) { return std::vector{dropout(x[0], 0x1p-60)}; },
                    .reference = [](const Matrices& x) { return x; },
                    .step = [](int64_t step) { return numbered(step, 12345); }}};

}  // namespace
}  // namespace tessera::test
