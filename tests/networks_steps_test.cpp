// networks_steps_test.cpp - plans of every network run: a few steps on one batch, without StarPU, lower the loss.
#include <gtest/gtest.h>

#include <cmath>

#include "graphs/optimizer.h"
#include "tests/draw.h"
#include "tests/interpreter.h"
#include "tests/tiny_networks.h"

namespace tessera {
namespace {

using namespace testing_tools;

class Steps : public testing::TestWithParam<std::string> {};

// Losses of some steps on one batch of random images.
std::vector<double> losses(const std::string& name, NetworkOptions o, int64_t steps, double rate) {
    Params weights;
    const Network n = make_network(name, weights, o);
    const Optimizer optimizer({.kind = "sgd", .momentum = 0}, weights);
    Graph g;
    const Maps x = input_of(g, n, 4, o.dtype);
    const Tensor labels = g.value("labels", {4, 1}, DType::i32);
    const Tensor loss = classification_loss(n.outputs(g, x, true), labels);
    g.keep(loss);
    optimizer.minimize(loss);
    test::Interpreter run(g);
    Draw draw{5};
    const auto fill_with = [&](Tensor t, const auto& f) {
        test::Matrix m(t.shape().rows, t.shape().cols);
        for (int64_t i = 0; i < m.rows; ++i)
            for (int64_t j = 0; j < m.cols; ++j) m(i, j) = f(i, j);
        run.write(t, m);
    };
    fill_with(x.tensor, [&](int64_t, int64_t) { return draw.real(-1, 1); });
    fill_with(labels, [&](int64_t i, int64_t) { return double(i * 3 % 10); });
    for (size_t v = 0; v < g.values().size(); ++v)
        if (const Param* p = g.values()[v].param) fill_with({&g, int(v)}, p->initial);
    std::vector<double> all;
    for (int64_t s = 0; s < steps; ++s) {
        run.run({.number = s, .learning_rate = rate, .seed = 3});
        all.push_back(run.read(loss)(0, 0));
    }
    return all;
}

TEST_P(Steps, LowerTheLoss) {
    const auto all = losses(GetParam(), tiny(GetParam()), 4, 0.01);
    for (double loss : all) EXPECT_TRUE(std::isfinite(loss));
    EXPECT_LT(all.back(), all.front());
}

std::vector<std::string> all_names() {
    std::vector<std::string> names;
    for (const Architecture* a : all_architectures()) names.push_back(a->name);
    return names;
}
INSTANTIATE_TEST_SUITE_P(All, Steps, testing::ValuesIn(all_names()), [](const auto& info) { return info.param; });

TEST(Networks, RunInOtherTypes) {
    for (const DType type : {DType::f64, DType::bf16}) {
        NetworkOptions o = tiny("googlenet");
        const auto expected = losses("googlenet", o, 2, 0.01);
        o.dtype = type;
        const auto found = losses("googlenet", o, 2, 0.01);
        for (size_t i = 0; i < found.size(); ++i)
            EXPECT_NEAR(found[i], expected[i], (type == DType::f64 ? 1e-3 : 0.1) * expected[i]);
    }
}

}  // namespace
}  // namespace tessera
