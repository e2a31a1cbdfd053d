// argmax, count_correct.
#include <gtest/gtest.h>

#include "plain.h"

namespace tessera::test {
namespace {

int64_t first_largest(const Matrix& x, int64_t i) {
    int64_t best = 0;
    for (int64_t j = 1; j < x.cols; ++j)
        if (x(i, j) > x(i, best)) best = j;
    return best;
}

const Declare argmax_case{{.name = "argmax",
                           .inputs = rectangles(1),
                           .build = [](Graph&, const auto& x) { return std::vector{argmax(x[0])}; },
                           .reference =
                               [](const Matrices& x) {
                                   Matrix y(x[0].rows, 1);
                                   for (int64_t i = 0; i < y.rows; ++i) y(i, 0) = double(first_largest(x[0], i));
                                   return Matrices{y};
                               },
                           .gradient = false}};
const Declare count{
    {.name = "count_correct",
     .inputs =
         [](Extents e) {
             return std::vector<Input>{
                 {.shape = {e.m, e.n}},
                 {.shape = {e.m, 1}, .low = 0, .high = double(std::min<int64_t>(e.n, 3) - 1), .type = DType::i32}};
         },
     .build = [](Graph&, const auto& x) { return std::vector{count_correct(x[0], x[1])}; },
     .reference =
         [](const Matrices& x) {
             Matrix y(1, 1);
             for (int64_t i = 0; i < x[0].rows; ++i) y(0, 0) += double(first_largest(x[0], i)) == x[1](i, 0);
             return Matrices{y};
         },
     .gradient = false,
     .tolerance_factor = 0}};

TEST(Argmax, TiesGoToTheFirstAndNanToNone) {
    Graph g;
    Tensor x = g.value("x", {4, 3}, DType::f64), y = argmax(x);
    g.keep(y);
    Interpreter run(g);
    Matrix values(4, 3);
    values.v = {1, 2, 2, 0, 0, 0, 1, NAN, 3, NAN, 2, 1};
    run.write(x, values);
    run.run();
    Matrix expected(4, 1);
    expected.v = {1, 0, -1, -1};
    EXPECT_EQ(difference(run.read(y), expected, 0), "");
}

}  // namespace
}  // namespace tessera::test
