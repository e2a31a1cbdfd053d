// sum_rows, sum_cols, sum_all.
#include "plain.h"

namespace tessera::test {
namespace {

OpCase sum_rows_case(const std::string& name, int64_t taller) {
    return {.name = name,
            .inputs =
                [=](Extents e) {
                    return std::vector<Input>{{.shape = {taller * e.m, e.n}}};
                },
            .build = [](Graph&, const auto& x) { return std::vector{sum_rows(x[0])}; },
            .reference =
                [](const Matrices& x) {
                    Matrix y(1, x[0].cols);
                    for (int64_t i = 0; i < x[0].rows; ++i)
                        for (int64_t j = 0; j < x[0].cols; ++j) y(0, j) += x[0](i, j);
                    return Matrices{y};
                },
            .taller_tiles = taller,  // as many stored sums as without: each is rounded to the type
            .gradient = taller == 1,
            .reduction = [=](Extents e) { return taller * e.m; },
            .scale = 1};
}
const Declare rows{sum_rows_case("sum_rows", 1)};
const Declare tall{sum_rows_case("sum_rows_tall", 29)};  // in several chunks on a device
const Declare cols{{.name = "sum_cols",
                    .inputs = rectangles(1),
                    .build = [](Graph&, const auto& x) { return std::vector{sum_cols(x[0])}; },
                    .reference =
                        [](const Matrices& x) {
                            Matrix y(x[0].rows, 1);
                            for (int64_t i = 0; i < x[0].rows; ++i)
                                for (int64_t j = 0; j < x[0].cols; ++j) y(i, 0) += x[0](i, j);
                            return Matrices{y};
                        },
                    .reduction = [](Extents e) { return e.n; },
                    .scale = 1}};
const Declare all{{.name = "sum_all",
                   .inputs = rectangles(1),
                   .build = [](Graph&, const auto& x) { return std::vector{sum_all(x[0])}; },
                   .reference =
                       [](const Matrices& x) {
                           Matrix y(1, 1);
                           for (double v : x[0].v) y(0, 0) += v;
                           return Matrices{y};
                       },
                   .reduction = [](Extents e) { return e.m * e.n; },
                   .scale = 1}};

}  // namespace
}  // namespace tessera::test
