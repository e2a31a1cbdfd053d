// network_losses_test.cpp - ten training steps of whole networks, from graph to executor, against losses that PyTorch
// gave for the same weights and images (bench/pytorch_networks.py --record).
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <sstream>

#include "data/dataset.h"
#include "graphs/trainer.h"
#include "tests/recorded.h"
#include "tests/tiny_training.h"

namespace tessera {
namespace {

struct Table {
    std::map<std::string, std::string> flags;
    std::vector<double> f64;
};
Table table_of(const std::string& network) {
    const testing_tools::Recorded all = testing_tools::read_recorded("recorded_network_losses.csv");
    Table t;
    std::istringstream words(all.flags.at(network));
    for (std::string flag, value; words >> flag >> value;) t.flags[flag] = value;
    for (const auto& [f64, f32] : all.losses.at(network)) t.f64.push_back(f64);
    return t;
}

// Of the first `steps` steps; only so many batches are there.
std::vector<double> losses_of(const Runtime& runtime, const std::string& name, const Table& recorded, DType type,
                              int64_t tile, size_t steps) {
    const auto number = [&](const char* flag) { return std::stod(recorded.flags.at(flag)); };
    TrainOptions options;
    options.epochs = 1, options.batch = int64_t(number("--batch")), options.dtype = type, options.tile_batch = tile;
    Split data = shape_of_data("cifar10", 0, options.batch * int64_t(recorded.f64.size()));
    data.train = data.train.slice(0, options.batch * int64_t(recorded.f64.size()));
    NetworkOptions o;
    o.image = 32, o.channels = 3, o.classes = 10, o.dtype = type;
    if (recorded.flags.contains("--dropout")) o.dropout = number("--dropout");
    Params weights;
    const Network network = make_network(name, weights, o);
    const Optimizer optimizer({.kind = "sgd", .learning_rate = number("--lr"), .momentum = number("--momentum")},
                              weights);
    Executor executor(runtime, {});
    Trainer trainer(executor, network, optimizer, data.train, options);
    for (size_t s = 0; s < steps; ++s) trainer.step();
    trainer.wait();
    std::vector<double> losses;
    for (const StepResult& r : trainer.take_results()) losses.push_back(r.loss);
    return losses;
}

void expect_losses(const std::vector<double>& found, const std::vector<double>& expected, size_t steps, double relative,
                   const std::string& what) {
    ASSERT_EQ(found.size(), steps) << what;
    for (size_t s = 0; s < steps; ++s)
        EXPECT_TRUE(std::abs(found[s] - expected[s]) <= relative * expected[s])
            << what << ", step " << s << ": " << found[s] << " for " << expected[s];
}

struct Case {
    std::string network;
    size_t f32_steps;
};
class Losses : public testing::TestWithParam<Case> {};

TEST_P(Losses, AreThoseOfPyTorch) {
    const std::string& name = GetParam().network;
    const Table recorded = table_of(name);
    ASSERT_EQ(recorded.f64.size(), 10u) << name;
    const Runtime runtime(testing_tools::with_workers(2));
    const int64_t batch = std::stoll(recorded.flags.at("--batch"));
    const auto expect = [&](DType type, int64_t tile, size_t steps, double relative) {
        expect_losses(losses_of(runtime, name, recorded, type, tile, steps), recorded.f64, steps, relative,
                      name + ", tiles of " + std::to_string(tile) + ", " + std::string(name_of(type)));
    };
    // Rounding grows from step to step, so each network says how far it can be followed in f32.
    expect(DType::f64, batch, 10, 1e-7);
    expect(DType::f32, batch, GetParam().f32_steps, 1e-3);
    expect(DType::f64, batch / 2, 3, 1e-7);
    expect(DType::f32, batch / 2, 2, 1e-3);
}
INSTANTIATE_TEST_SUITE_P(Recorded, Losses,
                         testing::Values(Case{"resnet20", 10}, Case{"resnet18", 10}, Case{"googlenet", 2}),
                         [](const auto& info) { return info.param.network; });

}  // namespace
}  // namespace tessera
