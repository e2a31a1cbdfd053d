// reference_test.cpp - the yardstick is verified itself: the generator against published values, the gradient against
// central differences in double, cross-entropy, optimizers, clipping and schedules against values worked out by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "reference/mlp.h"
#include "reference/random.h"

namespace tessera::reference {
namespace {

struct Samples {
    std::vector<float> x;
    std::vector<int32_t> y;
};

Samples samples(int64_t n, int64_t features, int64_t classes) {
    Samples s;
    for (int64_t k = 0; k < n * features; ++k) s.x.push_back(2 * uniform(7, 100, uint64_t(k)) - 1);
    for (int64_t k = 0; k < n; ++k) s.y.push_back(int32_t(bits(7, 101, uint64_t(k)) % uint64_t(classes)));
    return s;
}

TEST(Random, IsSplitmix64) {  // the first outputs of that generator from state 0
    EXPECT_EQ(mix(0), 0xE220A8397B1DCDAFu);
    EXPECT_EQ(mix(0x9E3779B97F4A7C15u), 0x6E789E6AA1B965F4u);
    EXPECT_EQ(mix(2 * 0x9E3779B97F4A7C15u), 0x06C45D188009454Fu);
}

TEST(Random, UniformFillsTheUnitInterval) {
    double sum = 0, low = 1, high = 0;
    for (uint64_t k = 0; k < 100000; ++k) {
        const double u = uniform(1, 2, k);
        EXPECT_EQ(u * 0x1p24, std::floor(u * 0x1p24));
        sum += u;
        low = std::min(low, u);
        high = std::max(high, u);
    }
    EXPECT_NEAR(sum / 100000, 0.5, 4 * std::sqrt(1.0 / 12 / 100000));
    EXPECT_GE(low, 0);
    EXPECT_LT(low, 1e-3);
    EXPECT_GT(high, 1 - 1e-3);
    EXPECT_LT(high, 1);
}

TEST(Random, PermutationHoldsEverySampleOnceAndDiffersByEpoch) {
    std::vector<int64_t> first = permutation(1, 0, 101);
    EXPECT_NE(first, permutation(1, 1, 101));
    EXPECT_NE(first, permutation(2, 0, 101));
    EXPECT_EQ(first, permutation(1, 0, 101));
    std::sort(first.begin(), first.end());
    for (int64_t k = 0; k < 101; ++k) EXPECT_EQ(first[size_t(k)], k);
    EXPECT_EQ(permutation(1, 0, 1), std::vector<int64_t>{0});
}

TEST(Activation, KnownValues) {
    const auto value = [](const char* name, double z) { return activate(name, z).first; };
    EXPECT_EQ(value("relu", -2), 0);
    EXPECT_EQ(value("relu", 2), 2);
    EXPECT_NEAR(value("tanh", 1), 0.76159415595576489, 1e-15);
    EXPECT_NEAR(value("sigmoid", 1), 0.73105857863000488, 1e-15);
    EXPECT_NEAR(value("silu", 1), 0.73105857863000488, 1e-15);
    EXPECT_NEAR(value("gelu", 1), 0.84134474606854293, 1e-15);
    EXPECT_NEAR(value("gelu", -1), -0.15865525393145707, 1e-15);
    EXPECT_THROW(value("rely", 1), std::invalid_argument);
}

TEST(CrossEntropy, KnownValues) {
    const int32_t y[] = {2, 0};
    std::vector<double> dz;
    EXPECT_NEAR(cross_entropy<double>(std::vector<double>(8, 3.0), y, 2, 4, 0, &dz), std::log(4.0), 1e-15);
    const double even[] = {.125, .125, -.375, .125, -.375, .125, .125, .125};
    for (size_t k = 0; k < 8; ++k) EXPECT_NEAR(dz[k], even[k], 1e-15);
    // softmax of (0, ln 3) is (1/4, 3/4); smoothing 0.2 makes label 1 the target (0.1, 0.9)
    const int32_t one[] = {1};
    const std::vector<double> z = {0, std::log(3.0)};
    EXPECT_NEAR(cross_entropy<double>(z, one, 1, 2, 0, nullptr), std::log(4.0 / 3), 1e-15);
    EXPECT_NEAR(cross_entropy<double>(z, one, 1, 2, 0.2, &dz), 0.1 * std::log(4.0) + 0.9 * std::log(4.0 / 3), 1e-15);
    EXPECT_NEAR(dz[0], 0.15, 1e-15);
    EXPECT_NEAR(dz[1], -0.15, 1e-15);
    // large values neither overflow nor vanish
    EXPECT_NEAR(cross_entropy<float>({1000, 0}, one, 1, 2, 0, nullptr), 1000, 1e-3);
    const int32_t wrong[] = {2};
    EXPECT_THROW(cross_entropy<double>(z, wrong, 1, 2, 0, nullptr), std::invalid_argument);
}

class Gradient : public testing::TestWithParam<const char*> {};

TEST_P(Gradient, AgreesWithCentralDifferences) {
    for (double smoothing : {0.0, 0.1}) {
        Config config{.widths = {5, 7, 6, 3}, .activation = GetParam(), .label_smoothing = smoothing};
        const Samples s = samples(11, 5, 3);
        Trainer<double> trainer(config, s.x.data(), s.y.data(), 11);
        const double loss = trainer.loss_and_gradient(s.x.data(), s.y.data(), 11), h = 1e-5;
        EXPECT_EQ(loss, trainer.loss(s.x.data(), s.y.data(), 11));
        double largest = 0;
        for (Parameter<double>* p : trainer.parameters())
            for (size_t k = 0; k < p->value.size(); ++k) {
                const double w = p->value[k];
                p->value[k] = w + h;
                const double above = trainer.loss(s.x.data(), s.y.data(), 11);
                p->value[k] = w - h;
                const double below = trainer.loss(s.x.data(), s.y.data(), 11);
                p->value[k] = w;
                EXPECT_NEAR(p->gradient[k], (above - below) / (2 * h), 1e-9) << GetParam() << " parameter " << k;
                largest = std::max(largest, std::abs(p->gradient[k]));
            }
        EXPECT_GT(largest, 0.01);
    }
}
INSTANTIATE_TEST_SUITE_P(Activations, Gradient, testing::Values("relu", "tanh", "sigmoid", "gelu", "silu"));

// One weight, w = 1; two updates with gradients 0.5 and -0.25.
double two_updates(const Config& c) {
    Parameter<double> p{{1.0}, {0.5}, {0.0}, {0.0}};
    update(c, c.lr, 1, p);
    p.gradient = {-0.25};
    update(c, c.lr, 2, p);
    return p.value[0];
}

TEST(Optimizer, SgdByHand) {
    EXPECT_NEAR(two_updates({.lr = 0.1}), 1 - 0.05 + 0.025, 1e-15);
    // m: 0.5, then 0.45 - 0.25 = 0.2
    EXPECT_NEAR(two_updates({.lr = 0.1, .momentum = 0.9}), 1 - 0.05 - 0.02, 1e-15);
    // nesterov steps: 0.5 + 0.45 = 0.95, then -0.25 + 0.18 = -0.07
    EXPECT_NEAR(two_updates({.lr = 0.1, .momentum = 0.9, .nesterov = true}), 1 - 0.095 + 0.007, 1e-15);
    // decay 0.5: g = 1, w = 0.9; g = -0.25 + 0.45 = 0.2
    EXPECT_NEAR(two_updates({.lr = 0.1, .weight_decay = 0.5}), 0.88, 1e-15);
}

TEST(Optimizer, AdamByHand) {
    // first step: m/(1 - b1) = g, v/(1 - b2) = g^2, so w falls by lr g / (|g| + eps).
    // second: m = 0.045 - 0.025 = 0.02, v = 0.999 * 0.00025 + 0.0000625 = 0.00031225, both over 0.19 and 0.001999
    const auto second = [](double m, double v) { return 0.1 * (m / 0.19) / (std::sqrt(v / 0.001999) + 1e-8); };
    const double first = 0.1 * 0.5 / (0.5 + 1e-8);
    EXPECT_NEAR(two_updates({.optimizer = "adam", .lr = 0.1}), 1 - first - second(0.02, 0.00031225), 1e-12);
    // decoupled decay shrinks w by 1 - lr wd = 0.95 before each step
    const double decoupled = (1 * 0.95 - first) * 0.95 - second(0.02, 0.00031225);
    EXPECT_NEAR(two_updates({.optimizer = "adamw", .lr = 0.1, .weight_decay = 0.5}), decoupled, 1e-12);
    // L2: g = 1, w = 1 - 0.1 / (1 + eps); then g = -0.25 + w / 2
    const double w = 1 - 0.1 / (1 + 1e-8), g = -0.25 + w / 2;
    EXPECT_NEAR(two_updates({.optimizer = "adam", .lr = 0.1, .weight_decay = 0.5}),
                w - second(0.09 + 0.1 * g, 0.000999 + 0.001 * g * g), 1e-12);
    EXPECT_THROW(two_updates({.optimizer = "adem"}), std::invalid_argument);
}

TEST(Optimizer, ClipsByTheNormOfAllGradients) {
    const Samples s = samples(1, 1, 2);
    Trainer<double> trainer({.widths = {1, 2}, .clip = 1}, s.x.data(), s.y.data(), 1);
    Layer<double>& layer = trainer.layers()[0];
    layer.weight.gradient = {3, 0};
    layer.bias.gradient = {0, 4};
    trainer.clip();
    EXPECT_NEAR(layer.weight.gradient[0], 3 / (5 + 1e-6), 1e-15);
    EXPECT_NEAR(layer.bias.gradient[1], 4 / (5 + 1e-6), 1e-15);
    layer.weight.gradient = {0.3, 0};
    layer.bias.gradient = {0, 0.4};
    trainer.clip();
    EXPECT_EQ(layer.weight.gradient[0], 0.3);
    EXPECT_EQ(layer.bias.gradient[1], 0.4);
}

TEST(Schedule, ByHand) {
    EXPECT_EQ(learning_rate({.lr = 2, .schedule = "constant"}, 1000, 10), 2);
    const Config warm{.lr = 2, .schedule = "constant", .warmup = 4};
    EXPECT_EQ(learning_rate(warm, 0, 10), 0.5);
    EXPECT_EQ(learning_rate(warm, 3, 10), 2);
    EXPECT_EQ(learning_rate(warm, 4, 10), 2);
    const Config step{.lr = 2, .schedule = "step", .epochs = 7};  // drops at epochs 2 and 4
    EXPECT_EQ(learning_rate(step, 19, 10), 2);
    EXPECT_NEAR(learning_rate(step, 20, 10), 0.2, 1e-15);
    EXPECT_NEAR(learning_rate(step, 39, 10), 0.2, 1e-15);
    EXPECT_NEAR(learning_rate(step, 40, 10), 0.02, 1e-15);
    EXPECT_EQ(learning_rate({.lr = 2, .schedule = "step", .epochs = 1}, 0, 10), 2);
    const Config cosine{.lr = 2, .schedule = "cosine", .warmup = 2, .epochs = 1};
    EXPECT_EQ(learning_rate(cosine, 0, 10), 1);
    EXPECT_EQ(learning_rate(cosine, 2, 10), 2);
    EXPECT_NEAR(learning_rate(cosine, 6, 10), 1, 1e-15);
    EXPECT_NEAR(learning_rate(cosine, 4, 10), 1 + std::sqrt(0.5), 1e-15);
    EXPECT_EQ(learning_rate(cosine, 10, 10), 0);
    EXPECT_THROW(learning_rate({.schedule = "cosines"}, 0, 10), std::invalid_argument);
}

TEST(Trainer, StartsFromTheFormula) {
    const Samples s = samples(1, 3, 2);
    Trainer<float> trainer({.widths = {3, 4, 2}, .seed = 5}, s.x.data(), s.y.data(), 1);
    ASSERT_EQ(trainer.layers().size(), 2u);
    const float w = float((2.0 * uniform(5, 2, 1 * 4 + 3) - 1) * 0.5);  // layer 1, W[1][3]: I = 4
    EXPECT_EQ(trainer.layers()[1].weight.value[7], w);
    EXPECT_EQ(trainer.layers()[1].bias.value[1], float((2.0 * uniform(5, 3, 1) - 1) * 0.5));
    EXPECT_EQ(trainer.layers()[0].weight.value.size(), 12u);
}

TEST(Trainer, TakesEverySampleOnceAnEpochAndAShortLastBatch) {
    // with lr 0 the mean of the batch losses, weighted by their rows, is the loss of all samples in every epoch
    const Samples s = samples(10, 3, 2);
    Trainer<double> trainer({.widths = {3, 2}, .lr = 0, .batch = 4}, s.x.data(), s.y.data(), 10);
    EXPECT_EQ(trainer.steps_per_epoch(), 3);
    const double all = trainer.loss(s.x.data(), s.y.data(), 10);
    for (int epoch = 0; epoch < 2; ++epoch) {
        double sum = 0;
        for (int rows : {4, 4, 2}) sum += rows * trainer.step();
        EXPECT_NEAR(sum / 10, all, 1e-14);
    }
}

// A separable task is learnt by every optimizer, and float follows double.
class Learns : public testing::TestWithParam<Config> {};

TEST_P(Learns, ASeparableTask) {
    Samples s = samples(200, 2, 2);
    for (size_t k = 0; k < 200; ++k) s.y[k] = s.x[2 * k] + 2 * s.x[2 * k + 1] > 0.1f;
    Trainer<double> trainer(GetParam(), s.x.data(), s.y.data(), 200);
    Trainer<float> single(GetParam(), s.x.data(), s.y.data(), 200);
    for (int k = 0; k < 10; ++k) {
        const double loss = trainer.step();
        EXPECT_NEAR(single.step(), loss, 2e-6);
    }
    for (int k = 10; k < 400; ++k) trainer.step();
    EXPECT_GE(trainer.accuracy(s.x.data(), s.y.data(), 200), 0.97);
}
INSTANTIATE_TEST_SUITE_P(
    Optimizers, Learns,
    testing::Values(Config{.widths = {2, 8, 2}, .optimizer = "sgd", .lr = 0.1, .momentum = 0.9, .batch = 32},
                    Config{.widths = {2, 8, 2}, .optimizer = "adam", .lr = 0.01, .batch = 32},
                    Config{.widths = {2, 8, 2}, .optimizer = "adamw", .lr = 0.01, .weight_decay = 0.01, .batch = 32}),
    [](const auto& info) { return info.param.optimizer; });

}  // namespace
}  // namespace tessera::reference
