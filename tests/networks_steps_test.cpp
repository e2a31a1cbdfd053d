// networks_steps_test.cpp - plans of every network run without StarPU; a small step down the gradient lowers the loss
// by as much as the gradient says.
#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "graphs/optimizer.h"
#include "tests/draw.h"
#include "tests/interpreter.h"
#include "tests/tiny_networks.h"

namespace tessera {
namespace {

using namespace testing_tools;

class Steps : public testing::TestWithParam<std::string> {};

// One batch of random images, with the same draws of dropout in every step.
class Descent {
 public:
    Descent(const std::string& name, const NetworkOptions& o)
        : network_(make_network(name, weights_, o)), loss_(minimized(o.dtype)), run_(graph_) {
        Draw draw{5};
        for (size_t v = 0; v < graph_.values().size(); ++v)
            if (const Param* p = graph_.values()[v].param) fill({&graph_, int(v)}, p->initial);
        fill(images_, [&](int64_t, int64_t) { return draw.real(-1, 1); });
        fill(labels_, [&](int64_t i, int64_t) { return double(i * 3 % 10); });
    }
    // The loss before the step.
    double step(double rate) {
        run_.run({.learning_rate = rate, .seed = 3});
        return run_.read(loss_)(0, 0);
    }
    std::vector<double> weights() {
        std::vector<double> all;
        for (size_t v = 0; v < graph_.values().size(); ++v)
            if (const Param* p = graph_.values()[v].param; p && p->trainable) {
                const auto m = run_.read({&graph_, int(v)});
                all.insert(all.end(), m.v.begin(), m.v.end());
            }
        return all;
    }

 private:
    Tensor minimized(DType type) {
        const Maps x = input_of(graph_, network_, 4, type);
        images_ = x.tensor;
        labels_ = graph_.value("labels", {4, 1}, DType::i32);
        const Tensor loss = classification_loss(network_.outputs(graph_, x, true), labels_);
        graph_.keep(loss);
        optimizer_.emplace(OptimizerOptions{.kind = "sgd", .momentum = 0}, weights_);
        optimizer_->minimize(loss);
        return loss;
    }
    template <class F>
    void fill(Tensor t, const F& f) {
        test::Matrix m(t.shape().rows, t.shape().cols);
        for (int64_t i = 0; i < m.rows; ++i)
            for (int64_t j = 0; j < m.cols; ++j) m(i, j) = f(i, j);
        run_.write(t, m);
    }

    Params weights_;
    Network network_;
    Graph graph_;
    std::optional<Optimizer> optimizer_;
    Tensor images_, labels_, loss_;
    test::Interpreter run_;
};

double squared_distance(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

// A step of rate r moves the weights by -r g, which lowers the loss by r |g|^2 = |r g|^2 / r, but for terms of r^2.
// Deep networks with normalized batches of four are steep: the first, tiny step tells how small the second must be.
TEST_P(Steps, FollowTheGradient) {
    NetworkOptions o = tiny(GetParam());
    o.dtype = DType::f64;
    Descent d(GetParam(), o);
    std::vector<double> weights[3] = {d.weights()};
    const double probe = 1e-12;
    d.step(probe);
    weights[1] = d.weights();
    const double rate = 1e-6 * probe * probe / squared_distance(weights[0], weights[1]);
    const double before = d.step(rate);
    weights[2] = d.weights();
    const double fall = before - d.step(rate);
    const double expected = squared_distance(weights[1], weights[2]) / rate;
    EXPECT_GT(expected, 1e-7);
    EXPECT_NEAR(fall, expected, 0.01 * expected) << "rate " << rate << ", loss " << before;
}

TEST_P(Steps, AreFinite) {
    Descent d(GetParam(), tiny(GetParam()));
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(std::isfinite(d.step(0.01)));
}

std::vector<std::string> all_names() {
    std::vector<std::string> names;
    for (const Architecture* a : all_architectures()) names.push_back(a->name);
    return names;
}
INSTANTIATE_TEST_SUITE_P(All, Steps, testing::ValuesIn(all_names()), [](const auto& info) { return info.param; });

TEST(Networks, RunInOtherTypes) {
    NetworkOptions o = tiny("googlenet");
    Descent expected("googlenet", o);
    const double losses[] = {expected.step(0.01), expected.step(0.01)};
    for (const DType type : {DType::f64, DType::bf16}) {
        o.dtype = type;
        Descent found("googlenet", o);
        for (const double loss : losses) EXPECT_NEAR(found.step(0.01), loss, (type == DType::f64 ? 1e-3 : 0.1) * loss);
    }
}

}  // namespace
}  // namespace tessera
