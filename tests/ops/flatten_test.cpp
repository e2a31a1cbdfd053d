// flatten and maps_of: in row-major order both are the same numbers in rows of another length.
#include <gtest/gtest.h>

#include "plain.h"

namespace tessera::test {
namespace {

Matrix reshaped(const Matrix& x, int64_t rows) {
    Matrix y(rows, x.rows * x.cols / rows);
    y.v = x.v;
    return y;
}
// Rows of six pixels each.
std::vector<Input> images(Extents e) { return {{.shape = {e.m, 6 * e.n}}}; }

const Declare to_maps{{.name = "maps_of",
                       .inputs = images,
                       .build = [](Graph&, const auto& x) { return std::vector{maps_of(x[0], 2, 3).tensor}; },
                       .reference = [](const Matrices& x) { return Matrices{reshaped(x[0], 6 * x[0].rows)}; },
                       .tolerance_factor = 0}};
// Between the two something that is not the identity; the maps' columns are cut.
const Declare there_and_back{
    {.name = "flatten",
     .inputs = images,
     .build =
         [](Graph&, const auto& x) {
             const Maps m = maps_of(x[0], 3, 2);
             return std::vector{flatten({tanh(m.tensor), 3, 2})};
         },
     .reference = [](const Matrices& x) { return Matrices{map(x[0], [](double v) { return std::tanh(v); })}; }}};
// From maps whose column tiles lie apart, and rows of one image per tile.
const Declare of_a_view{{.name = "flatten_view",
                         .inputs = images,
                         .build =
                             [](Graph&, const auto& x) {
                                 const Maps m = maps_of(x[0], 1, 6);
                                 return std::vector{flatten(concat({m, {sigmoid(m.tensor), 1, 6}}))};
                             },
                         .reference =
                             [](const Matrices& x) {
                                 const int64_t channels = x[0].cols / 6;
                                 Matrix y(x[0].rows, 2 * x[0].cols);
                                 for (int64_t n = 0; n < y.rows; ++n)
                                     for (int64_t p = 0; p < 6; ++p)
                                         for (int64_t c = 0; c < channels; ++c) {
                                             const double v = x[0](n, p * channels + c);
                                             y(n, (2 * p) * channels + c) = v;
                                             y(n, (2 * p + 1) * channels + c) = 1 / (1 + std::exp(-v));
                                         }
                                 return Matrices{y};
                             }}};

TEST(Flatten, OnePixelIsNothingToDo) {
    Graph g;
    Tensor x = g.value("x", {3, 5}, DType::f32, {{2, 1}, {4, 1}});
    EXPECT_EQ(flatten({x, 1, 1}), x);
    EXPECT_EQ(maps_of(x, 1, 1).tensor, x);
    EXPECT_TRUE(g.nodes().empty());
}

TEST(Flatten, RefusesWhatDoesNotFit) {
    Graph g;
    Tensor x = g.value("x", {8, 5}, DType::f32, {{6, 2}, {5}}), y = g.value("y", {3, 10}, DType::i32);
    const auto refusal = [](const auto& f) {
        try {
            f();
        } catch (const std::invalid_argument& e) { return std::string(e.what()); }
        return std::string();
    };
    const auto has = [](const std::string& text, const std::string& words) {
        EXPECT_NE(text.find(words), std::string::npos) << "'" << words << "' is not in: " << text;
    };
    has(refusal([&] { flatten({x, 2, 2}); }), "flatten: x must be cut between images of 2 x 2 pixels");
    has(refusal([&] { flatten({x, 3, 1}); }), "whole images of 3 x 1 pixels; got x [8 x 5] f32");
    has(refusal([&] { maps_of(x, 2, 2); }),
        "maps_of: needs a whole number of channels of 2 x 2 pixels; got x [8 x 5] f32");
    has(refusal([&] { maps_of(x, 0, 5); }), "0 x 5");
    has(refusal([&] { maps_of(y, 5, 1); }), "i32");
    EXPECT_TRUE(g.nodes().empty());
}

}  // namespace
}  // namespace tessera::test
