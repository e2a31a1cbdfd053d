// upsample2d, dropout2d, local_response_norm.
#include "plain_maps.h"

namespace tessera::test {
namespace {

OpCase upsample(const std::string& name, int64_t height, int64_t width, int64_t factor) {
    return {.name = name,
            .inputs = images(height, width),
            .build =
                [=](Graph&, const auto& x) {
                    return std::vector{upsample2d(maps_between_images(x[0], height, width), factor).tensor};
                },
            .reference =
                [=](const Matrices& in) {
                    const PlainMaps x(in[0], height, width);
                    PlainMaps y(x.batch, height * factor, width * factor, x.channels);
                    y.fill([&](int64_t n, int64_t h, int64_t w, int64_t c) { return x(n, h / factor, w / factor, c); });
                    return Matrices{y.m};
                },
            .tolerance_factor = 0,
            .reduction = [=](Extents) { return factor * factor; },
            .perf = {64, 256, 1}};
}
const Declare twice{upsample("upsample2d", 3, 2, 2)};
const Declare thrice{upsample("upsample2d_3", 2, 5, 3)};
const Declare once{upsample("upsample2d_1", 2, 3, 1)};

struct Response {
    int64_t size;
    double alpha, beta, k;
};
OpCase response_norm(const std::string& name, Response r) {
    return {.name = name,
            .inputs = images(2, 3, -2, 2),
            .build =
                [=](Graph&, const auto& x) {
                    const Maps maps = maps_between_images(x[0], 2, 3);
                    return std::vector{local_response_norm(maps, r.size, r.alpha, r.beta, r.k).tensor};
                },
            .reference =
                [=](const Matrices& x) {
                    Matrix y = x[0];
                    for (int64_t i = 0; i < y.rows; ++i)
                        for (int64_t c = 0; c < y.cols; ++c) {
                            double sum = 0;  // an even size reaches one channel further back
                            for (int64_t d = 0; d < y.cols; ++d)
                                if (2 * (d - c) >= -r.size && 2 * (d - c) < r.size) sum += x[0](i, d) * x[0](i, d);
                            y(i, c) = x[0](i, c) / std::pow(r.k + r.alpha * sum / double(r.size), r.beta);
                        }
                    return Matrices{y};
                },
            .tolerance_factor = 4,  // of base, power and product
            .reduction = [=](Extents) { return r.size; },
            .scale = 1,
            .perf = {256, 192, 1}};
}
const Declare as_alexnet{response_norm("local_response_norm", {5, 1e-4, 0.75, 2})};
const Declare strong{response_norm("local_response_norm_strong", {3, 2, 0.75, 0.5})};
const Declare even{response_norm("local_response_norm_even", {4, 1, 0.6, 1})};
const Declare alone{response_norm("local_response_norm_alone", {1, 1.5, 1, 1})};
const Declare wide{response_norm("local_response_norm_wide", {301, 100, 0.75, 1})};

TEST(LocalResponseNorm, RefusesBadArguments) {
    const auto text = [](int64_t size, double alpha, double beta, double k) {
        return refusal(12, 2, 3, [=](Maps x) { local_response_norm(x, size, alpha, beta, k); });
    };
    expect_refusal(text(0, 1, 1, 1), {"local_response_norm: the size", "not 0", "x [12 x 3] f32"});
    expect_refusal(text(-3, 1, 1, 1), {"not -3"});
    for (const auto& wrong : {text(5, -1, 1, 1), text(5, 1, 1, 0), text(5, 1, NAN, 1), text(5, INFINITY, 1, 1)})
        expect_refusal(wrong, {"local_response_norm: needs alpha >= 0, k > 0 and a finite beta"});
    expect_refusal(refusal(13, 2, 3, [](Maps x) { local_response_norm(x, 5, 1, 1, 1); }), {"whole images of 2 x 3"});
    EXPECT_EQ(text(5, 0, 0, 1), "");
}

TEST(Upsample2d, RefusesBadFactors) {
    const auto text = [](int64_t factor) { return refusal(12, 2, 3, [=](Maps x) { upsample2d(x, factor); }); };
    expect_refusal(text(0), {"upsample2d: the factor 0 must be at least 1", "x [12 x 3] f32"});
    expect_refusal(text(-2), {"the factor -2"});
    expect_refusal(text(int64_t(1) << 40), {"too many pixels"});
    expect_refusal(refusal(13, 2, 3, [](Maps x) { upsample2d(x, 2); }), {"upsample2d", "whole images of 2 x 3"});
}

// --- dropout2d: its mask is random; what is checked is what a mask must be ---

constexpr int64_t height = 3, width = 2, pixels = height * width;
struct Result {
    Matrix y, dx;
};
// Of x = 1 and dy = 1: both are mask / (1 - p).
Result masks(DType type, int64_t batch, int64_t channels, double p, const Grid& grid, const Step& step) {
    Graph g;
    Tensor x = g.value("x", {batch * pixels, channels}, type, grid);
    Tensor y = dropout2d({x, height, width}, p).tensor;
    Tensor dy = g.value("dy", x.shape(), type, Grid::whole(x.shape()));
    Tensor dx = g.backward(y, dy, {x}, [](Tensor a, Tensor b) { return add(a, b); })[0];
    g.keep(y), g.keep(dx);
    Interpreter run(g);
    run.write(x, Matrix(batch * pixels, channels, 1));
    run.write(dy, Matrix(batch * pixels, channels, 1));
    run.run(step);
    return {run.read(y), run.read(dx)};
}
Grid whole(int64_t batch, int64_t channels) { return Grid::whole({batch * pixels, channels}); }
Step numbered(int64_t step, uint64_t seed) { return {step, 0, seed, nullptr}; }

class Dropout2d : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, Dropout2d, testing::Values(DType::f32, DType::f64, DType::bf16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST_P(Dropout2d, DropsWholeMapsAtTheRateAndScales) {
    const uint64_t seed = generator("dropout2d")();
    SCOPED_TRACE("--seed " + std::to_string(run_seed()));
    for (double p : {0.1, 0.5, 0.9}) {
        const int64_t batch = 61, channels = 97;
        const Matrix y = masks(GetParam(), batch, channels, p, whole(batch, channels), numbered(0, seed)).y;
        double kept = 0;
        for (int64_t n = 0; n < batch; ++n)
            for (int64_t c = 0; c < channels; ++c) {
                const double first = y(n * pixels, c);
                kept += first != 0;
                if (first != 0) { ASSERT_NEAR(first, 1 / (1 - p), facts(GetParam()).epsilon / (1 - p)); }
                for (int64_t i = 1; i < pixels; ++i) ASSERT_EQ(y(n * pixels + i, c), first);
            }
        const double maps = double(batch * channels);
        EXPECT_NEAR(kept / maps, 1 - p, 6 * std::sqrt(p * (1 - p) / maps));
    }
}

TEST_P(Dropout2d, BackwardUsesTheSameMask) {
    const Grid grid{{2 * pixels, 3 * pixels}, cut(13, 5)};
    const Result r = masks(GetParam(), 5, 13, 0.4, grid, numbered(3, generator("backward2d")()));
    EXPECT_EQ(difference(r.dx, r.y, 0), "");
}

TEST_P(Dropout2d, MaskDoesNotDependOnTiles) {
    const Step step = numbered(5, generator("tiles2d")());
    const Matrix y = masks(GetParam(), 7, 13, 0.4, whole(7, 13), step).y;
    for (const Grid& grid : {Grid{{4 * pixels, 3 * pixels}, cut(13, 4)}, Grid{{pixels, 6 * pixels}, {12, 1}},
                             Grid{cut(7 * pixels, pixels), {13}}})
        EXPECT_EQ(difference(masks(GetParam(), 7, 13, 0.4, grid, step).y, y, 0), "") << to_string(grid);
}

TEST_P(Dropout2d, MaskChangesWithStepAndSeed) {
    const uint64_t seed = generator("steps2d")();
    const auto mask = [&](int64_t step, uint64_t s) {
        return masks(GetParam(), 32, 32, 0.5, whole(32, 32), numbered(step, s)).y.v;
    };
    const auto first = mask(0, seed);
    EXPECT_EQ(mask(0, seed), first);
    const auto equal = [&](const std::vector<double>& other) {
        int64_t n = 0;
        for (size_t i = 0; i < first.size(); ++i) n += first[i] == other[i];
        return double(n) / double(first.size());
    };
    EXPECT_NEAR(equal(mask(1, seed)), 0.5, 0.1);  // independent masks agree by half
    EXPECT_NEAR(equal(mask(0, seed + 1)), 0.5, 0.1);
}

TEST(Dropout2dGraph, NodesHaveTheirOwnMasksAndDropInfinity) {
    Graph g;
    const Maps x{g.value("x", {16 * pixels, 16}, DType::f32), height, width};
    Tensor a = dropout2d(x, 0.5).tensor, b = dropout2d(x, 0.5).tensor;
    g.keep(a), g.keep(b);
    Interpreter run(g);
    run.write(x.tensor, Matrix(16 * pixels, 16, INFINITY));
    run.run();
    EXPECT_NE(run.read(a).v, run.read(b).v);
    for (double v : run.read(a).v) ASSERT_TRUE(v == 0 || v == INFINITY);
}

TEST(Dropout2dGraph, ZeroIsNothingAndBadProbabilitiesAreRefused) {
    Graph g;
    const Maps x{g.value("x", {12, 5}, DType::f32), 2, 3};
    EXPECT_EQ(dropout2d(x, 0).tensor, x.tensor);
    for (double p : {-0.1, 1.0, 1.5, double(NAN)})
        expect_refusal(refusal(12, 2, 3, [=](Maps m) { dropout2d(m, p); }),
                       {"dropout2d: needs a probability in [0, 1)", "x [12 x 3] f32"});
    expect_refusal(refusal(13, 2, 3, [](Maps m) { dropout2d(m, 0.5); }), {"dropout2d", "whole images of 2 x 3"});
}

// Speed, guards, any order: the harness's part, with a probability that keeps all but one in 16 million.
const Declare rare{{.name = "dropout2d",
                    .inputs = images(height, width),
                    .build =
                        [](Graph&, const auto& x) {
                            return std::vector{dropout2d(maps_between_images(x[0], height, width), 0x1p-60).tensor};
                        },
                    .reference = [](const Matrices& x) { return x; },
                    .step = [](int64_t step) { return numbered(step, 12345); },
                    .perf = {256, 256, 1}}};

}  // namespace
}  // namespace tessera::test
