// batch_norm in training and evaluation, with every activation and with something added; its gradients; what it does to
// the running statistics; tasks; what it refuses.
#include <gtest/gtest.h>

#include <map>

#include "plain.h"

namespace tessera::test {
namespace {

struct Kind {
    std::string name;
    bool training = true;
    Activation activation = Activation::none;
    bool added = false;
    double epsilon = 0.1;
};
// x, gamma, beta, running mean, running variance, and what is added.
struct Column {
    double mean = 0, variance = 0;  // of all rows; the variance biased
};
Column statistics(const Matrix& x, int64_t j) {
    Column c;
    for (int64_t i = 0; i < x.rows; ++i) c.mean += x(i, j) / double(x.rows);
    for (int64_t i = 0; i < x.rows; ++i) c.variance += (x(i, j) - c.mean) * (x(i, j) - c.mean) / double(x.rows);
    return c;
}
Matrix before_activation(const Kind& k, const Matrices& x) {
    Matrix z = x[0];
    for (int64_t j = 0; j < z.cols; ++j) {
        const Column c = k.training ? statistics(x[0], j) : Column{x[3](0, j), x[4](0, j)};
        for (int64_t i = 0; i < z.rows; ++i)
            z(i, j) = x[1](0, j) * (x[0](i, j) - c.mean) / std::sqrt(c.variance + k.epsilon) + x[2](0, j) +
                      (k.added ? x[5](i, j) : 0);
    }
    return z;
}
// Enough rows that their variance is not next to nothing.
std::vector<Input> inputs(const Kind& k, Extents e, DType statistics) {
    const Shape shape{e.m + 8, e.n}, vector{1, e.n};
    std::vector<Input> all{{.shape = shape},
                           {.shape = vector, .low = 0.5, .high = 1.5},
                           {.shape = vector},
                           {.shape = vector, .differentiable = false, .type = statistics, .param = true},
                           {.shape = vector,
                            .low = 0.5,
                            .high = 1.5,
                            .differentiable = false,
                            .type = statistics,
                            .cut_as = 3,
                            .param = true}};
    if (k.added) all.push_back({.shape = shape});
    return all;
}
Tensor normalised(const Kind& k, const std::vector<Tensor>& x, double momentum = 0.1) {
    return batch_norm({x[0]}, {x[1], x[2], x[3], x[4], k.epsilon, momentum}, k.training, k.activation,
                      k.added ? Maps{x[5]} : Maps{})
        .tensor;
}

// Statistics are f64 with f64 maps, else f32.
void declare(const Kind& k) {
    for (DType statistics : {DType::f32, DType::f64}) {
        const bool is_f64 = statistics == DType::f64;
        Declare({.name = "batch_norm_" + k.name + (is_f64 ? "_f64" : ""),
                 .inputs = [=](Extents e) { return inputs(k, e, statistics); },
                 .build = [=](Graph&, const auto& x) { return std::vector{normalised(k, x)}; },
                 .reference =
                     [=](const Matrices& x) {
                         return Matrices{
                             map(before_activation(k, x), [&](double z) { return activated(k.activation, z); })};
                     },
                 .types = is_f64 ? std::vector{DType::f64} : std::vector{DType::f32, DType::bf16},
                 .tolerance_factor = 2,
                 .reduction = [](Extents e) { return e.m + 8; },
                 .scale = 0.3,
                 .suitable =
                     [=](const Matrices& x) {
                         for (double z : before_activation(k, x).v)
                             if (std::abs(z) < 1e-3) return false;
                         return true;
                     },
                 .perf = {65536, 64, 1}});
    }
}
// Running statistics after three steps.
void declare_running(DType statistics) {
    const Kind k{"running"};
    Declare({.name = std::string("batch_norm_running_") + std::string(name_of(statistics)),
             .inputs = [=](Extents e) { return inputs(k, e, statistics); },
             .build =
                 [=](Graph&, const auto& x) {
                     return std::vector{normalised(k, x, 0.3), x[3], x[4]};
                 },
             .reference =
                 [=](const Matrices& x) {
                     Matrix mean = x[3], variance = x[4];
                     for (int64_t j = 0; j < mean.cols; ++j)
                         for (int step = 0; step < 3; ++step) {
                             const Column c = test::statistics(x[0], j);
                             const double n = double(x[0].rows);
                             mean(0, j) = 0.7 * mean(0, j) + 0.3 * c.mean;
                             variance(0, j) = 0.7 * variance(0, j) + 0.3 * c.variance * n / (n - 1);
                         }
                     return Matrices{before_activation(k, x), mean, variance};
                 },
             .types = statistics == DType::f64 ? std::vector{DType::f64} : std::vector{DType::f32, DType::bf16},
             .gradient = false,
             .tolerance_factor = 2,
             .reduction = [](Extents e) { return e.m + 8; },
             .steps = 3});
}
const bool declared = [] {
    declare({"training"});
    declare({"small_epsilon", true, Activation::none, false, 1e-5});
    declare({"relu", true, Activation::relu});
    declare({"tanh", true, Activation::tanh});
    declare({"sigmoid", true, Activation::sigmoid});
    declare({"gelu", true, Activation::gelu});
    declare({"added", true, Activation::none, true});
    declare({"added_relu", true, Activation::relu, true});
    declare({"added_tanh", true, Activation::tanh, true});
    declare({"added_silu", true, Activation::silu, true});
    declare({"evaluation", false});
    declare({"evaluation_relu", false, Activation::relu});
    declare({"evaluation_added_sigmoid", false, Activation::sigmoid, true});
    declare_running(DType::f32);
    declare_running(DType::f64);
    return true;
}();

// --- tiles and tasks -----------------------------------------------------------------------------------------------

struct Net {
    Params params;
    Graph g;
    Tensor x;
    BatchNorm p;
    Net(Shape s, Grid grid, std::vector<int64_t> cols, DType type = DType::f32, DType affine = DType::f32) {
        const DType computed = type == DType::f64 ? DType::f64 : DType::f32;
        x = g.value("x", s, type, grid);
        const auto vector = [&](const char* name, DType t) {
            return g.param(params.add({name, {1, s.cols}, t, {{1}, cols}, {}, true}));
        };
        p = {vector("gamma", affine), vector("beta", affine), vector("mean", computed), vector("var", computed)};
    }
    std::map<std::string, int> tasks() const {
        std::map<std::string, int> count;
        for (const TaskSpec& t : Plan(g).tasks) ++count[t.codelet->op];
        return count;
    }
};
using Count = std::map<std::string, int>;

TEST(BatchNormTasks, OneWhereOneTileHoldsAllRows) {
    Net n({12, 5}, {{12}, {2, 3}}, {2, 3});
    n.g.keep(batch_norm({n.x}, n.p, true, Activation::relu).tensor);
    EXPECT_EQ(n.tasks(), (Count{{"batch_norm_training", 2}}));
}
TEST(BatchNormTasks, StatisticsPerTileElse) {
    Net n({12, 5}, {{4, 8}, {5}}, {5});
    const Tensor y = batch_norm({n.x}, n.p, true, Activation::relu).tensor;
    n.g.keep(y);
    EXPECT_EQ(n.tasks(), (Count{{"batch_norm_statistics", 2}, {"batch_norm_finish", 1}, {"batch_norm", 2}}));
    const Tensor dy = n.g.value("dy", y.shape(), DType::f32, y.grid());
    n.g.keep(n.g.backward(y, dy, {n.x}, [](Tensor a, Tensor b) { return add(a, b); })[0]);
    EXPECT_EQ(n.tasks(), (Count{{"batch_norm_statistics", 2},
                                {"batch_norm_finish", 1},
                                {"batch_norm", 2},
                                {"batch_norm_sums", 2},
                                {"batch_norm_backward", 2}}));
}
// Parameters that are not cut are read where they lie, at an offset.
TEST(BatchNormTasks, UncutParametersAreNotRetiled) {
    for (bool training : {false, true}) {
        Net n({12, 7}, {{4, 8}, {2, 1, 4}}, {7});
        const Tensor y = batch_norm({n.x}, n.p, training, Activation::relu).tensor;
        n.g.keep(y);
        const Tensor dy = n.g.value("dy", y.shape(), DType::f32, y.grid());
        const auto d = n.g.backward(y, dy, {n.x, n.p.gamma, n.p.beta}, [](Tensor a, Tensor b) { return add(a, b); });
        for (Tensor t : d) n.g.keep(t);
        Count expected{{"batch_norm", 6}, {"batch_norm_sums", 6}, {"batch_norm_backward", 6}};
        if (training) expected.insert({{"batch_norm_statistics", 6}, {"retile", 1}, {"batch_norm_finish", 1}});
        EXPECT_EQ(n.tasks(), expected);

        std::mt19937_64 random = generator("uncut");
        SCOPED_TRACE("--seed " + std::to_string(run_seed()));
        std::uniform_real_distribution<double> real(0.5, 1.5);
        Matrices values{Matrix(12, 7), Matrix(1, 7), Matrix(1, 7), Matrix(1, 7), Matrix(1, 7)};
        for (Matrix& m : values)
            for (double& v : m.v) v = rounded(real(random), DType::f32);
        Interpreter run(n.g, {.shuffle = &random});
        run.write(n.x, values[0]), run.write(n.p.gamma, values[1]), run.write(n.p.beta, values[2]);
        run.write(n.p.running_mean, values[3]), run.write(n.p.running_var, values[4]), run.write(dy, Matrix(12, 7, 1));
        run.run();
        const Kind k{"", training, Activation::relu, false, 1e-5};
        const Matrix z = before_activation(k, values);
        EXPECT_EQ(difference(run.read(y), map(z, [](double v) { return std::max(v, 0.0); }), 2e-5), "");
        Matrix dbeta(1, 7);
        for (int64_t i = 0; i < 12; ++i)
            for (int64_t j = 0; j < 7; ++j) dbeta(0, j) += z(i, j) > 0;
        EXPECT_EQ(difference(run.read(d[2]), dbeta, 0), "");
    }
}
TEST(BatchNormTasks, TheGradientOfWhatIsAddedComesWithTheSums) {
    Net n({12, 5}, {{4, 8}, {5}}, {5});
    const Tensor added = n.g.value("added", {12, 5}, DType::f32, n.x.grid());
    const Tensor y = batch_norm({n.x}, n.p, true, Activation::relu, {added}).tensor;
    const Tensor dy = n.g.value("dy", y.shape(), DType::f32, y.grid());
    const auto sum = [](Tensor a, Tensor b) { return add(a, b); };
    const auto d = n.g.backward(y, dy, {n.x, added}, sum);
    n.g.keep(d[0]), n.g.keep(d[1]);
    EXPECT_EQ(n.tasks()["batch_norm_added_sums"], 2);
    EXPECT_EQ(n.tasks()["batch_norm_sums"], 0);
    Net plain({12, 5}, {{12}, {5}}, {5});
    const Tensor other = plain.g.value("added", {12, 5}, DType::f32);
    const Tensor z = batch_norm({plain.x}, plain.p, true, Activation::none, {other}).tensor;
    const Tensor dz = plain.g.value("dz", z.shape(), DType::f32, z.grid());
    EXPECT_EQ(plain.g.backward(z, dz, {other}, sum)[0], dz);  // nothing to compute
}

// --- values that are hard -------------------------------------------------------------------------------------------

struct Statistics {
    Matrix y, mean, variance;
};
Statistics of(const Matrix& x, std::vector<int64_t> rows) {
    Net n(x.shape(), {std::move(rows), {x.cols}}, {x.cols});
    n.p.momentum = 1;
    const Tensor y = batch_norm({n.x}, n.p, true).tensor;
    n.g.keep(y);
    Interpreter run(n.g);
    run.write(n.x, x), run.write(n.p.gamma, Matrix(1, x.cols, 1)), run.write(n.p.beta, Matrix(1, x.cols, 0.5));
    run.write(n.p.running_mean, Matrix(1, x.cols)), run.write(n.p.running_var, Matrix(1, x.cols));
    run.run();
    return {run.read(y), run.read(n.p.running_mean), run.read(n.p.running_var)};
}

// A mean of 1000 standard deviations: a sum of squares less the square of the sum has no digit left in f32.
TEST(BatchNormValues, VarianceFarFromZero) {
    std::mt19937_64 random = generator("far");
    SCOPED_TRACE("--seed " + std::to_string(run_seed()));
    std::normal_distribution<double> normal(1000, 1);
    Matrix x(20011, 3);
    for (double& v : x.v) v = rounded(normal(random), DType::f32);
    for (const std::vector<int64_t>& rows : {std::vector<int64_t>{20011}, {11, 15000, 5000}}) {
        const Statistics s = of(x, rows);
        for (int64_t j = 0; j < 3; ++j) {
            const Column c = statistics(x, j);
            EXPECT_NEAR(s.mean(0, j), c.mean, 1.5e-4);  // 2.5 units in the last place
            EXPECT_NEAR(s.variance(0, j), c.variance * 20011 / 20010, 2e-5);
        }
    }
}
TEST(BatchNormValues, AConstantChannelBecomesBeta) {
    const Statistics s = of(Matrix(40, 2, 3.25), {17, 23});
    EXPECT_EQ(difference(s.y, Matrix(40, 2, 0.5), 0), "");
    EXPECT_EQ(difference(s.variance, Matrix(1, 2), 0), "");
}
TEST(BatchNormValues, TwoRows) {
    Matrix x(2, 1);
    x(0, 0) = 1, x(1, 0) = 5;
    for (const std::vector<int64_t>& rows : {std::vector<int64_t>{2}, {1, 1}}) {
        const Statistics s = of(x, rows);
        EXPECT_NEAR(s.mean(0, 0), 3, 1e-6);
        EXPECT_NEAR(s.variance(0, 0), 8, 1e-5);
        EXPECT_NEAR(s.y(1, 0), 1.5, 1e-5);
    }
}
// Weights of a bf16 network may be f32 or already cast.
TEST(BatchNormValues, AffineParametersOfEitherType) {
    for (DType affine : {DType::f32, DType::bf16}) {
        Net n({9, 2}, {{9}, {2}}, {2}, DType::bf16, affine);
        const Tensor y = batch_norm({n.x}, n.p, true).tensor;
        const Tensor dy = n.g.value("dy", y.shape(), DType::bf16, y.grid());
        const auto d = n.g.backward(y, dy, {n.p.gamma}, [](Tensor a, Tensor b) { return add(a, b); });
        EXPECT_EQ(d[0].dtype(), affine);
    }
}

// --- what does not fit ----------------------------------------------------------------------------------------------

TEST(BatchNorm, RefusesOneValuePerChannelInTraining) {
    Net n({1, 3}, {{1}, {3}}, {3});
    {
        Graph::Layer layer(n.g, "stem");
        try {
            batch_norm({n.x}, n.p, true);
            ADD_FAILURE();
        } catch (const std::invalid_argument& e) {
            const std::string text = e.what();
            EXPECT_TRUE(
                text.starts_with("stem.batch_norm: needs more than one value per channel in training: more images in a "
                                 "batch, or larger maps; got x [1 x 3]"))
                << text;
        }
        EXPECT_TRUE(n.g.nodes().empty());
    }
    EXPECT_NO_THROW(batch_norm({n.x}, n.p, false)) << "evaluation needs no statistics";
}
TEST(BatchNorm, RefusesParametersThatDoNotFit) {
    Net n({8, 3}, {{8}, {3}}, {3}), wide({8, 4}, {{8}, {4}}, {4}), f64({8, 3}, {{8}, {3}}, {3}, DType::f64);
    const auto refusal = [](Net& net, const BatchNorm& p, Maps added = {}) {
        try {
            batch_norm({net.x, 2, 2}, p, true, Activation::relu, added);
        } catch (const std::invalid_argument& e) { return std::string(e.what()); }
        return std::string();
    };
    const auto has = [](const std::string& text, const std::string& words) {
        EXPECT_NE(text.find(words), std::string::npos) << "'" << words << "' is not in: " << text;
    };
    BatchNorm p = n.p;
    p.gamma = n.g.value("gamma4", {1, 4}, DType::f32);
    has(refusal(n, p), "gamma4 [1 x 4] f32");
    p = n.p, p.beta = {};
    has(refusal(n, p), "batch_norm: gamma, beta, running_mean and running_var must be [1 x channels of x]");
    p = n.p, p.running_var = n.g.value("var", {1, 3}, DType::f64);
    has(refusal(n, p), "must be f32");
    p = n.p, p.running_var = n.g.value("var", {1, 3}, DType::f32, {{1}, {1, 2}});
    has(refusal(n, p), "cut alike");
    p = n.p, p.momentum = 1.5;
    has(refusal(n, p), "momentum");
    p = n.p, p.epsilon = -1;
    has(refusal(n, p), "epsilon");
    has(refusal(n, n.p, {n.g.value("added", {8, 2}, DType::f32), 2, 2}), "added [8 x 2] f32");
    has(refusal(n, n.p, {n.g.value("added", {8, 3}, DType::f32), 1, 1}), "size");
    has(refusal(n, n.p, {n.g.value("added", {8, 3}, DType::f64), 2, 2}), "f64");
    p = n.p, p.running_mean = concat({Maps{n.p.running_mean}, Maps{n.g.value("v", {1, 1}, DType::f32)}}).tensor;
    const auto part = split({p.running_mean}, {3, 1});
    p.running_mean = part[0].tensor;
    has(refusal(n, p), "cannot update a view");
    n.x = n.g.value("labels", {8, 3}, DType::i32);
    has(refusal(n, n.p), "i32");
}

}  // namespace
}  // namespace tessera::test
