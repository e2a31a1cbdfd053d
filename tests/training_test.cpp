// training_test.cpp - the first losses of a training against the plain reference trainer, for every optimizer,
// activation and schedule, tiled or not; what goes wrong in a training says so.
#include <starpu.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <numeric>
#include <sstream>

#include "data/idx.h"
#include "tests/child.h"
#include "tests/recorded.h"
#include "tests/reference/mlp.h"
#include "tests/tiny_training.h"

namespace tessera {
namespace {

using namespace testing_tools;

// Relative to a loss of 1 or more. f32: ten steps amplify the rounding of products of 784 terms.
constexpr double f64_tolerance = 1e-10, f32_tolerance = 1e-4;

struct Case {
    std::string name;
    std::function<void(TinyTraining&, reference::Config&)> change;
    int64_t samples = 640;
};

// The options that both trainers have, said once.
struct Both {
    TinyTraining ours;
    reference::Config theirs;
};
Both both(const Case& c, int64_t features) {
    Both b;
    b.ours.optimizer.learning_rate = 0.1;
    c.change(b.ours, b.theirs);
    auto& [t, r] = b;
    r.widths = {features, t.network.hidden[0], t.network.hidden[1], 10};
    for (const auto& name : activation_names())
        if (parse_activation(name) == t.network.activation) r.activation = name;
    const auto& o = t.optimizer;
    r.optimizer = o.kind, r.lr = o.learning_rate, r.momentum = o.kind == "sgd" ? o.momentum : 0;
    r.weight_decay = o.weight_decay, r.nesterov = o.nesterov, r.clip = o.clip;
    r.label_smoothing = t.train.label_smoothing, r.warmup = t.train.schedule.warmup_steps;
    r.schedule = t.train.schedule.kind == Schedule::Kind::step     ? "step"
                 : t.train.schedule.kind == Schedule::Kind::cosine ? "cosine"
                                                                   : "constant";
    r.batch = t.train.batch, r.epochs = t.train.epochs;
    r.seed = t.network.seed = t.train.seed = 3;
    return b;
}

std::vector<float> features_of(const Dataset& d) {
    std::vector<float> x;
    for (uint8_t byte : d.bytes) x.push_back(float(byte) / 255.0f);
    return x;
}
std::vector<double> reference_losses(const reference::Config& config, const Dataset& data, int64_t steps) {
    const auto x = features_of(data);
    reference::Trainer<double> trainer(config, x.data(), data.labels.data(), data.count);
    std::vector<double> losses;
    for (int64_t s = 0; s < steps; ++s) losses.push_back(trainer.step());
    return losses;
}

void expect_losses(const std::vector<double>& got, const std::vector<double>& expected, double tolerance,
                   const std::string& what) {
    ASSERT_EQ(got.size(), expected.size()) << what;
    for (size_t s = 0; s < got.size(); ++s) {
        const double error = std::abs(got[s] - expected[s]) / std::max(1.0, std::abs(expected[s]));
        EXPECT_TRUE(error <= tolerance) << what << ", step " << s << ": " << got[s] << " for " << expected[s]
                                        << ", error " << error;
    }
}

Case activation_case(const std::string& name) {
    return {name, [name](TinyTraining& t, reference::Config&) {
                t.network.activation = parse_activation(name);
                if (name == "sigmoid") t.optimizer = {"adam", 0.01};
            }};
}

const std::vector<Case>& cases() {
    static const std::vector<Case> all = {
        {"sgd", [](auto& t, auto&) { t.optimizer.momentum = 0; }},
        {"momentum", [](auto&, auto&) {}},
        {"nesterov_decay", [](auto& t, auto&) { t.optimizer.nesterov = true, t.optimizer.weight_decay = 5e-4; }},
        {"adam",
         [](auto& t, auto&) {
             t.optimizer = {"adam", 1e-3};
         }},
        {"adam_decay",
         [](auto& t, auto&) {
             t.optimizer = {"adam", 1e-3, 0, 0.01};
         }},
        {"adamw",
         [](auto& t, auto&) {
             t.optimizer = {"adamw", 1e-3, 0, 1.0};
         }},
        {"clip_hard", [](auto& t, auto&) { t.optimizer.clip = 0.1; }},
        {"label_smoothing", [](auto& t, auto&) { t.train.label_smoothing = 0.1; }},
        activation_case("gelu"),
        activation_case("tanh"),
        activation_case("sigmoid"),
        activation_case("silu"),
        {"cosine_warmup", [](auto& t, auto&) { t.train.epochs = 1, t.train.schedule = parse_schedule("cosine:5"); }},
        // 4 steps an epoch, the last of 50 samples; drops at epochs 1 and 2
        {"step_short_batch",
         [](auto& t, auto&) { t.train.epochs = 3, t.train.batch = 100, t.train.schedule = parse_schedule("step"); },
         350},
        {"one_batch_an_epoch", [](auto& t, auto&) { t.train.epochs = 10, t.train.batch = 64; }, 64},
        {"one_sample_left", [](auto& t, auto&) { t.train.batch = 64; }, 129},
    };
    return all;
}

class Losses : public testing::TestWithParam<size_t> {};

TEST_P(Losses, AreTheReferences) {
    const Case& c = cases()[GetParam()];
    const Dataset data = make_digits(c.samples, 1);
    const Both b = both(c, data.features());
    const auto expected = reference_losses(b.theirs, data, b.ours.steps);
    EXPECT_NE(expected.front(), expected.back());
    const Runtime runtime(with_workers(2));
    for (DType type : {DType::f64, DType::f32})
        for (int64_t tile : {0, 32, 50})
            for (bool deterministic : {false, true}) {
                if (tile != 32 && deterministic) continue;
                TinyTraining t = b.ours;
                t.train.dtype = type, t.train.tile_batch = t.network.tile_features = tile;
                if (tile == 32) t.network.tile_features = 12;  // several tiles in the small layers, too
                t.executor.deterministic = deterministic;
                const auto got = losses_of(runtime, t, data);
                expect_losses(got, expected, type == DType::f64 ? f64_tolerance : f32_tolerance,
                              std::string(name_of(type)) + " tile " + std::to_string(tile) +
                                  (deterministic ? " deterministic" : ""));
            }
}
INSTANTIATE_TEST_SUITE_P(Every, Losses, testing::Range<size_t>(0, cases().size()),
                         [](const auto& info) { return cases()[info.param].name; });

TEST(Training, DeterministicRunsHaveTheSameBits) {
    const Runtime runtime(with_workers(2));
    const Dataset data = make_digits(640, 1);
    for (DType type : {DType::f32, DType::f64, DType::bf16}) {
        TinyTraining t;
        t.train.dtype = type, t.train.tile_batch = 16, t.network.tile_features = 12, t.network.dropout = 0.2;
        t.executor.deterministic = true;
        t.optimizer.clip = 0.5;
        const auto first = losses_of(runtime, t, data);
        for (int repeat = 0; repeat < 2; ++repeat) EXPECT_EQ(losses_of(runtime, t, data), first) << name_of(type);
    }
}

TEST(Training, SerialAndFewOrManyStepsInFlightChangeNothing) {
    const Runtime runtime(with_workers(2));
    const Dataset data = make_digits(300, 1);
    TinyTraining t;
    t.train.tile_batch = 16, t.executor.deterministic = true;
    const auto expected = losses_of(runtime, t, data);
    for (int64_t limit : {1, 2, 8}) {
        t.executor.steps_in_flight = limit;
        EXPECT_EQ(losses_of(runtime, t, data), expected) << limit;
    }
    t.executor.serial = true;
    EXPECT_EQ(losses_of(runtime, t, data), expected);
}

TEST(Training, Bf16Learns) {
    const Runtime runtime(with_workers(2));
    const Dataset data = make_digits(640, 1);
    TinyTraining t;
    t.train.dtype = DType::bf16, t.steps = 40;
    const auto losses = losses_of(runtime, t, data);
    for (double loss : losses) EXPECT_TRUE(std::isfinite(loss));
    const auto mean = [&](size_t from, size_t to) {
        return std::accumulate(losses.begin() + long(from), losses.begin() + long(to), 0.0) / double(to - from);
    };
    EXPECT_LT(mean(30, 40), 0.8 * mean(0, 10));
    t.train.dtype = DType::f32;
    EXPECT_NEAR(losses_of(runtime, t, data)[0], losses[0], 0.02) << "the first loss differs by rounding only";
}

TEST(Training, DropoutTrainsAndMatters) {
    const Runtime runtime(with_workers(2));
    const Dataset data = make_digits(640, 1);
    TinyTraining t;
    t.steps = 40, t.executor.deterministic = true;
    const auto without = losses_of(runtime, t, data);
    t.network.dropout = 0.3;
    const auto with = losses_of(runtime, t, data);
    EXPECT_NE(with, without);
    for (double loss : with) EXPECT_TRUE(std::isfinite(loss));
    EXPECT_LT(with.back(), with.front());
    t.train.tile_batch = 16, t.network.tile_features = 12;  // the mask belongs to elements, not to tiles
    const auto tiled = losses_of(runtime, t, data);
    for (size_t s = 0; s < 10; ++s) EXPECT_NEAR(tiled[s], with[s], 1e-3) << s;
}

TEST(Training, EvaluationSharesTheWeightsAndLeavesThemAlone) {
    const Runtime runtime(with_workers(2));
    const Dataset data = make_digits(640, 1), held_out = make_digits(300, 1, 1000);
    TinyTraining t;
    t.network.dropout = 0.5;  // not in evaluation
    Params weights;
    const Network network = make_network("mlp", weights, t.network);
    const Optimizer optimizer(t.optimizer, weights);
    Executor executor(runtime, t.executor);
    Trainer trainer(executor, network, optimizer, data, t.train);
    const auto before = trainer.evaluate(held_out);
    EXPECT_NEAR(before.loss, std::log(10.0), 0.15);
    std::vector<std::vector<double>> values;
    for (auto& p : weights) values.push_back(executor.read(*p));
    const auto again = trainer.evaluate(held_out);
    EXPECT_NEAR(again.loss, before.loss, 1e-6);
    EXPECT_EQ(again.accuracy, before.accuracy);
    size_t next = 0;
    for (auto& p : weights) EXPECT_EQ(executor.read(*p), values[next++]) << p->name;
    for (int s = 0; s < 40; ++s) trainer.step();
    const auto after = trainer.evaluate(held_out);
    EXPECT_LT(after.loss, before.loss);
    EXPECT_GE(after.accuracy, 0);
    EXPECT_LE(after.accuracy, 1);
}

// --- what goes wrong ---------------------------------------------------------------------------------------------

template <class F>
std::string error_of(F&& f) {
    try {
        f();
    } catch (const Error& e) { return e.what(); }
    ADD_FAILURE() << "no Error";
    return "";
}

// What must be there: weights, gradients, two moments; the outputs of the layers, those of the whole batch at once; the
// inputs of the steps in flight. Evaluation in between takes its tiles from the same pool.
TEST(Training, LiveTilesAreAtMost1_3OfWhatMustBeThere) {
    const Runtime runtime(with_workers(2));
    const Dataset data = make_digits(1280, 1), held_out = make_digits(256, 2);
    TinyTraining t;
    t.network.hidden = {512, 512}, t.optimizer.kind = "adamw", t.train.batch = 128;
    t.train.tile_batch = 64;
    Params weights;
    const Network network = make_network("mlp", weights, t.network);
    const Optimizer optimizer(t.optimizer, weights);
    Executor executor(runtime, t.executor);
    Trainer trainer(executor, network, optimizer, data, t.train);
    int64_t peak = 0;
    const auto sample = [&] {
        const auto bytes = executor.live_bytes();
        peak = std::max(peak, std::accumulate(bytes.begin(), bytes.end(), int64_t(0)));
    };
    for (int step = 0; step < 30; ++step) {
        trainer.step(), sample();
        if (step % 10 == 9) trainer.evaluate(held_out), sample();
    }
    trainer.wait(), sample();
    const int64_t parameters = weights.elements(), outputs = t.train.batch * (512 + 512 + 10);
    const int64_t inputs = t.train.batch * 784 * t.executor.steps_in_flight;
    const int64_t needed = 4 * (4 * parameters + outputs + inputs);
    EXPECT_LE(double(peak), 1.3 * double(needed)) << peak << " bytes, " << needed << " needed";
    EXPECT_GE(peak, needed) << "not all was counted";
}

TEST(TrainingErrors, ALabelOutOfRangeIsNamed) {
    const Runtime runtime(with_workers(2));
    for (int32_t wrong : {10, -1, 1 << 30}) {
        Dataset data = make_digits(128, 1);
        data.labels[77] = wrong;
        TinyTraining t;
        const std::string text = error_of([&] { losses_of(runtime, t, data); });
        EXPECT_NE(text.find("label " + std::to_string(wrong) + " is not in 0..9"), std::string::npos) << text;
        EXPECT_NE(text.find("softmax_cross_entropy_f32 in loss.softmax_cross_entropy"), std::string::npos) << text;
    }
}

TEST(TrainingErrors, ANanInTheDataStopsAtItsStep) {
    const Runtime runtime(with_workers(2));
    Dataset data = make_digits(320, 1);
    data.values = features_of(data), data.bytes.clear();
    TinyTraining t;
    t.train.batch = 32;
    const auto order = epoch_order(data.count, t.train.seed, 0);
    for (int64_t at : {0, 6}) {
        Dataset poisoned = data;
        poisoned.values[size_t(order[size_t(at * t.train.batch + 5)] * data.features() + 3)] = NAN;
        std::string text = error_of([&] { losses_of(runtime, t, poisoned); });
        EXPECT_NE(text.find("the loss is NaN at step " + std::to_string(at + 1) + " (epoch 1)"), std::string::npos)
            << text;
        TinyTraining checking = t;
        checking.executor.check_nan = true;
        text = error_of([&] { losses_of(runtime, checking, poisoned); });
        EXPECT_NE(text.find("load_features_f32"), std::string::npos) << text;
        EXPECT_NE(text.find("NaN"), std::string::npos) << text;
    }
    EXPECT_EQ(losses_of(runtime, t, data).size(), 10u) << "and the data without it trains";
}

TEST(TrainingErrors, ABatchLargerThanTheDataIsRefused) {
    const Runtime runtime(with_workers(2));
    TinyTraining t;
    const std::string text = error_of([&] { losses_of(runtime, t, make_digits(63, 1)); });
    EXPECT_NE(text.find("a batch of 64 is larger than the training data (63 samples)"), std::string::npos) << text;
}

// --- MNIST, against what the reference and PyTorch gave ------------------------------------------------------------

// TESSERA_DATA's MNIST as the table was recorded: the test images, the first 90 % of them. Nothing without it.
std::optional<Dataset> recorded_data() {
    const char* folder = std::getenv("TESSERA_DATA");
    if (!folder) return {};
    const auto mnist = std::filesystem::path(folder) / "mnist";
    if (!std::filesystem::is_directory(mnist)) return {};
    const Split split = load_mnist(mnist);
    const Dataset& images = split.separate_test ? split.test : split.train;
    return images.count == 10000 ? std::optional(images.slice(0, 9000)) : std::nullopt;
}

TinyTraining parse_flags(const std::string& flags) {
    TinyTraining t;
    t.train.epochs = 1, t.optimizer = {"sgd", 0.1, 0};
    std::istringstream words(flags);
    for (std::string flag, value; words >> flag;) {
        if (flag == "--nesterov") {
            t.optimizer.nesterov = true;
            continue;
        }
        words >> value;
        const auto number = [&] { return std::stod(value); };
        if (flag == "--hidden") {
            const size_t comma = value.find(',');
            t.network.hidden = {std::stoll(value.substr(0, comma)), std::stoll(value.substr(comma + 1))};
        } else if (flag == "--batch") t.train.batch = std::stoll(value);
        else if (flag == "--epochs") t.train.epochs = std::stoll(value);
        else if (flag == "--optimizer") t.optimizer.kind = value;
        else if (flag == "--lr") t.optimizer.learning_rate = number();
        else if (flag == "--momentum") t.optimizer.momentum = number();
        else if (flag == "--weight-decay") t.optimizer.weight_decay = number();
        else if (flag == "--clip") t.optimizer.clip = number();
        else if (flag == "--label-smoothing") t.train.label_smoothing = number();
        else if (flag == "--activation") t.network.activation = parse_activation(value);
        else if (flag == "--schedule") t.train.schedule = parse_schedule(value);
        else throw std::invalid_argument("the table has the unknown flag " + flag);
    }
    return t;
}

TEST(Recorded, MnistLossesAreTheTables) {
    const auto data = recorded_data();
    if (!data) GTEST_SKIP() << "skipped: TESSERA_DATA names no folder with mnist/ and its 10,000 test images";
    const Recorded recorded = read_recorded("recorded_losses.csv");
    ASSERT_GE(recorded.flags.size(), 15u);
    const Runtime runtime(with_workers(2));
    for (auto& [name, flags] : recorded.flags) {
        if (name == "every configuration") continue;
        ASSERT_TRUE(recorded.losses.contains(name)) << name;
        std::vector<double> reference, pytorch;
        for (auto& [r, p] : recorded.losses.at(name)) reference.push_back(r), pytorch.push_back(p);
        TinyTraining t = parse_flags(flags);
        expect_losses(losses_of(runtime, t, *data), reference, f32_tolerance, name + " f32");
        expect_losses(losses_of(runtime, t, *data), pytorch, f32_tolerance, name + " f32 against PyTorch");
        if (name == "mlp512") continue;  // recorded in f32 only where it matters: size
        t.train.dtype = DType::f64;
        expect_losses(losses_of(runtime, t, *data), reference, f64_tolerance, name + " f64");
    }
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
    const int code = tessera::testing_tools::engine_main(argc, argv, {});
    return code;
}
