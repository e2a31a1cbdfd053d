// softmax, layer_norm, softmax_cross_entropy, mse.
#include <gtest/gtest.h>

#include "plain.h"

namespace tessera::test {
namespace {

int64_t row_length(Extents e) { return e.n; }

const Declare softmax_case{{.name = "softmax",
                            .inputs = rectangles(1, -3, 3),
                            .build = [](Graph&, const auto& x) { return std::vector{softmax(x[0])}; },
                            .reference =
                                [](const Matrices& x) {
                                    Matrix y = x[0];
                                    for (int64_t i = 0; i < y.rows; ++i)
                                        for (int64_t j = 0; j < y.cols; ++j)
                                            y(i, j) = std::exp(x[0](i, j) - log_sum_exp(x[0], i));
                                    return Matrices{y};
                                },
                            .tolerance_factor = 2,
                            .reduction = row_length,
                            .scale = 1e-3}};

const Declare layer_norm_case{
    {.name = "layer_norm",
     .inputs =
         [](Extents e) {
             return std::vector<Input>{{.shape = {e.m, e.n}}, {.shape = {1, e.n}}, {.shape = {1, e.n}}};
         },
     .build = [](Graph&, const auto& x) { return std::vector{layer_norm(x[0], x[1], x[2], 1e-2)}; },
     .reference =
         [](const Matrices& x) {
             Matrix y = x[0];
             for (int64_t i = 0; i < y.rows; ++i) {
                 double mean = 0, variance = 0;
                 for (int64_t j = 0; j < y.cols; ++j) mean += x[0](i, j) / double(y.cols);
                 for (int64_t j = 0; j < y.cols; ++j) variance += std::pow(x[0](i, j) - mean, 2) / double(y.cols);
                 for (int64_t j = 0; j < y.cols; ++j)
                     y(i, j) = (x[0](i, j) - mean) / std::sqrt(variance + 1e-2) * x[1](0, j) + x[2](0, j);
             }
             return Matrices{y};
         },
     .tolerance_factor = 10,  // 1 / sqrt(epsilon): how much a nearly constant row grows
     .reduction = [](Extents e) { return e.m + e.n; },
     .scale = 1}};

OpCase cross_entropy(const std::string& name, double smoothing, int64_t taller = 1, int64_t wider = 1) {
    return {.name = name,
            .inputs =
                [=](Extents e) {
                    const int64_t rows = taller * e.m, classes = wider * e.n;
                    return std::vector<Input>{
                        {.shape = {rows, classes}, .low = -3, .high = 3},
                        {.shape = {rows, 1}, .low = 0, .high = double(classes - 1), .type = DType::i32}};
                },
            .build = [=](Graph&, const auto& x) { return std::vector{softmax_cross_entropy(x[0], x[1], smoothing)}; },
            .reference =
                [=](const Matrices& x) {
                    Matrix loss(1, 1);
                    const auto [rows, cols] = x[0].shape();
                    for (int64_t i = 0; i < rows; ++i)
                        for (int64_t j = 0; j < cols; ++j) {
                            const double target =
                                (double(j) == x[1](i, 0) ? 1 - smoothing : 0) + smoothing / double(cols);
                            loss(0, 0) -= target * (x[0](i, j) - log_sum_exp(x[0], i)) / double(rows);
                        }
                    return Matrices{loss};
                },
            .gradient = taller == 1,
            .tolerance_factor = 2,
            .reduction = [=](Extents e) { return wider * row_length(e); },
            .scale = 1};
}
const Declare hard{cross_entropy("softmax_cross_entropy", 0)};
const Declare smooth{cross_entropy("softmax_cross_entropy_smooth", 0.1)};
const Declare tall{cross_entropy("softmax_cross_entropy_tall", 0, 13)};       // in several blocks on a device
const Declare wide{cross_entropy("softmax_cross_entropy_wide", 0.1, 1, 11)};  // a block for each row there

const Declare mse_case{{.name = "mse",
                        .inputs = rectangles(2),
                        .build = [](Graph&, const auto& x) { return std::vector{mse(x[0], x[1])}; },
                        .reference =
                            [](const Matrices& x) {
                                Matrix y(1, 1);
                                for (size_t i = 0; i < x[0].v.size(); ++i)
                                    y(0, 0) += std::pow(x[0].v[i] - x[1].v[i], 2);
                                y(0, 0) /= double(x[0].v.size());
                                return Matrices{y};
                            },
                        .reduction = [](Extents e) { return e.m * e.n; }}};

Matrix one_row(std::vector<double> v) {
    Matrix m(1, int64_t(v.size()));
    m.v = std::move(v);
    return m;
}

// Values of y = softmax(x) for logits that overflow exp in every type, and what NaN becomes.
TEST(Softmax, LargeLogitsAndNan) {
    for (DType type : {DType::f32, DType::f64, DType::bf16}) {
        Graph g;
        Tensor x = g.value("x", {1, 3}, type), y = softmax(x);
        g.keep(y);
        Interpreter run(g);
        run.write(x, one_row({16384, 16384, -16384}));
        run.run();
        EXPECT_EQ(difference(run.read(y), one_row({0.5, 0.5, 0}), 0), "");
        run.write(x, one_row({0, NAN, 1}));
        run.run();
        for (double v : run.read(y).v) EXPECT_TRUE(std::isnan(v));
    }
}

double loss_of(std::vector<double> logits, double label) {
    Graph g;
    Tensor x = g.value("x", {1, int64_t(logits.size())}, DType::f32), labels = g.value("labels", {1, 1}, DType::i32);
    Tensor loss = softmax_cross_entropy(x, labels);
    g.keep(loss);
    Interpreter run(g);
    run.write(x, one_row(std::move(logits)));
    run.write(labels, one_row({label}));
    run.run();
    return run.read(loss)(0, 0);
}
TEST(SoftmaxCrossEntropy, LargeLogitsNanAndBadLabels) {
    EXPECT_EQ(loss_of({1e30, 0, 0}, 0), 0);
    EXPECT_FLOAT_EQ(float(loss_of({1e30, 0, 0}, 1)), 1e30f);
    EXPECT_TRUE(std::isnan(loss_of({0, NAN, 0}, 0)));
    for (double label : {-1, 3}) try {
            const double loss = loss_of({0, 1, 2}, label);
            EXPECT_TRUE(interpreted() == Bodies::cuda && std::isnan(loss))  // a device throws nothing
                << "label " << label << " was taken";
        } catch (const std::exception& e) {
            EXPECT_NE(std::string(e.what()).find("label " + std::to_string(int(label)) + " is not in 0..2"),
                      std::string::npos)
                << e.what();
        }
}

}  // namespace
}  // namespace tessera::test
