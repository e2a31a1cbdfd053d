// networks_test.cpp - every network: published parameter counts and work, structure, first values, what it refuses.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "core/random.h"
#include "graphs/network.h"
#include "graphs/networks/random_wiring.h"
#include "graphs/optimizer.h"
#include "graphs/trainer.h"
#include "tests/interpreter.h"
#include "tests/tiny_networks.h"

namespace tessera {
namespace {

using namespace testing_tools;

int64_t parameters_of(const std::string& name, const NetworkOptions& o = {}) {
    Params weights;
    make_network(name, weights, o);
    return weights.elements();
}

template <class E, class F>
std::string message_of(F body) {
    try {
        body();
    } catch (const E& e) { return e.what(); }
    return "";
}

void expect_words(const std::string& text, const std::vector<std::string>& words) {
    for (const std::string& w : words)
        EXPECT_NE(text.find(w), std::string::npos) << "'" << w << "' is not in: " << text;
}

std::vector<std::string> names_of(const Params& weights) {
    std::vector<std::string> names;
    for (const auto& p : weights) names.push_back(p->name);
    return names;
}

// --- counts ---

TEST(Networks, HaveThePublishedNumbersOfParameters) {
    const std::vector<std::pair<std::string, int64_t>> published = {
        {"lenet5", 61'706},          {"alexnet", 61'100'840},      {"vgg11", 132'863'336},
        {"vgg16", 138'357'544},      {"resnet18", 11'689'512},     {"resnet34", 21'797'672},
        {"resnet50", 25'557'032},    {"resnet101", 44'549'160},    {"resnet152", 60'192'808},
        {"googlenet", 6'624'904},    {"inception_v3", 23'834'568}, {"squeezenet1_0", 1'248'424},
        {"mobilenet_v2", 3'504'872}, {"densenet121", 7'978'856}};
    for (const auto& [name, count] : published) EXPECT_EQ(parameters_of(name), count) << name;
    NetworkOptions heads;
    heads.auxiliary = true;
    EXPECT_EQ(parameters_of("googlenet", heads), 13'004'888);
    EXPECT_EQ(parameters_of("inception_v3", heads), 27'161'264);
}

TEST(Networks, HavePublishedNumbersForCifar) {
    NetworkOptions cifar;
    cifar.image = 32, cifar.classes = 10;
    EXPECT_EQ(parameters_of("resnet18", cifar), 11'173'962);
    // He et al. give 0.27 M, 1.7 M, and 10.2 M without batch norm, which adds 149,216.
    EXPECT_EQ(parameters_of("resnet20"), 269'722);
    EXPECT_EQ(parameters_of("resnet110"), 1'727'962);
    EXPECT_EQ(parameters_of("resnet1001"), 10'327'706);
    // The stem of googlenet: 3 x 3 x 3 x 192 and batch norm, where 64 7 x 7, 64 1 x 1 and 192 3 x 3 were.
    const int64_t stem = 192 * 27 + 2 * 192, published = 64 * 147 + 64 * 64 + 192 * 64 * 9 + 2 * (64 + 64 + 192);
    EXPECT_EQ(parameters_of("googlenet", cifar), 6'624'904 - published + stem - 990 * 1025);
}

// Multiplications of convolutions and linear layers: strides, paddings and roundings show here. torchvision's figures;
// for resnet20 and randwire (583 M) those of the papers, which count other operations, too.
TEST(Networks, HaveThePublishedWork) {
    const std::vector<std::pair<std::string, double>> published = {
        {"alexnet", 0.71},       {"vgg11", 7.61},        {"vgg16", 15.47},      {"resnet18", 1.81},
        {"resnet34", 3.66},      {"resnet50", 4.09},     {"resnet101", 7.80},   {"resnet152", 11.51},
        {"googlenet", 1.50},     {"inception_v3", 5.71}, {"densenet121", 2.83}, {"mobilenet_v2", 0.30},
        {"squeezenet1_0", 0.82}, {"resnet20", 0.041},    {"randwire", 0.58}};
    for (const auto& [name, giga] : published) {
        Params weights;
        const Network n = make_network(name, weights, {});
        Graph g;
        n.outputs(g, input_of(g, n, 1), false);
        double multiplications = 0;
        for (const Node& node : g.nodes())
            if (node.op == "conv2d" || node.op == "linear")
                multiplications += double(node.outputs[0].shape().rows) * double(node.inputs[1].shape().size());
        EXPECT_NEAR(multiplications * 1e-9, giga, name == "randwire" ? 0.015 : 0.0051) << name;
    }
}

TEST(Networks, LenetPadsSmallImages) {
    NetworkOptions mnist;
    mnist.image = 28;
    EXPECT_EQ(parameters_of("lenet5", mnist), 61'706);
}

TEST(Networks, WidthScalesChannels) {
    NetworkOptions o;
    o.width = 2;
    EXPECT_EQ(parameters_of("resnet20", o), 2 * 2 * 269'722 - 2 * 1376 - 16 * 2 * 27 - 10 * 64 * 2 - 30);
    o.width = 1e-6;
    for (const Architecture* a : all_architectures()) {
        Params weights;
        const Network n = make_network(a->name, weights, o);
        for (const auto& p : weights) EXPECT_TRUE(p->shape.rows <= 8 || p->shape.rows == a->classes) << p->name;
        if (a->name == "mobilenet_v2") { EXPECT_EQ(weights.find("features.0.0.weight")->shape.rows, 8); }
    }
}

// --- structure ---

// Built twice, the weights are the same; evaluation has no heads; nothing that is built is without use.
TEST(Networks, AddTheirWeightsOnce) {
    for (const Architecture* a : all_architectures()) {
        SCOPED_TRACE(a->name);
        Params weights;
        const NetworkOptions o = tiny(a->name);
        const Network n = make_network(a->name, weights, o);
        const auto names = names_of(weights);
        std::set<std::string> used[2];
        for (const bool training : {false, true}) {
            Graph g;
            const Outputs out = n.outputs(g, input_of(g, n, 4), training);
            EXPECT_EQ(out.logits.shape(), (Shape{4, 10}));
            EXPECT_EQ(out.auxiliary.size(), training && o.auxiliary ? 2u : 0u);
            g.keep(out.logits);
            for (const auto& head : out.auxiliary) g.keep(head.logits);
            for (const Value& v : g.values())
                if (v.param) used[training].insert(v.name);
            for (const bool needed : g.needed_nodes()) EXPECT_TRUE(needed);
        }
        EXPECT_EQ(names_of(weights), names);
        EXPECT_EQ(used[1], std::set<std::string>(names.begin(), names.end()));
        if (!o.auxiliary) { EXPECT_EQ(used[0], used[1]); }
    }
}

TEST(Networks, LossAddsAuxiliaryHeads) {
    Graph g;
    const auto logits = [&](double value) { return fill(g, {2, 3}, DType::f64, Grid::whole({2, 3}), value); };
    const Tensor x = g.value("x", {2, 3}, DType::f64), labels = g.value("labels", {2, 1}, DType::i32);
    const Tensor alone = classification_loss({x}, labels);
    const Tensor all = classification_loss({x, {{logits(0), 0.3}, {logits(7), 0.4}}}, labels);
    g.keep(alone), g.keep(all);
    test::Interpreter run(g);
    test::Matrix values(2, 3);
    values.v = {1, 2, 3, -1, 0.5, 0};
    run.write(x, values);
    run.write(labels, test::Matrix(2, 1, 1));
    run.run();
    EXPECT_NEAR(run.read(all)(0, 0) - run.read(alone)(0, 0), 0.7 * std::log(3.0), 1e-12);
}

TEST(Networks, LogitsOfFlatSamples) {
    Params weights;
    const Network n = make_network("lenet5", weights, {});
    Graph g;
    EXPECT_EQ(n.logits(g, g.value("x", {3, 1024}, DType::f32), false).shape(), (Shape{3, 10}));
    EXPECT_TRUE(n.takes_images());
    EXPECT_EQ(n.features(), 1024);
}

TEST(Networks, BatchesInTilesGiveTheSameShapes) {
    for (const Architecture* a : all_architectures()) {
        SCOPED_TRACE(a->name);
        Params weights;
        const Network n = make_network(a->name, weights, tiny(a->name));
        const int64_t pixels = n.image.height * n.image.width;
        Graph g;
        const Tensor x = g.value("x", {5 * pixels, n.channels}, DType::f32, {{2 * pixels, 3 * pixels}, {n.channels}});
        const Outputs out = n.outputs(g, {x, n.image.height, n.image.width}, true);
        EXPECT_EQ(out.logits.grid().row_extents, (std::vector<int64_t>{2, 3}));
        const Tensor labels = g.value("labels", {5, 1}, DType::i32, {{2, 3}, {1}});
        Optimizer optimizer({.kind = "adam"}, weights);  // its state belongs to the graph
        optimizer.minimize(classification_loss(out, labels));
        EXPECT_GT(Plan(g).tasks.size(), weights.size());
    }
}

// --- random networks ---

TEST(RandomWiring, WithoutRewiringIsARing) {
    const auto before = watts_strogatz(32, 4, 0, 1, 2);
    for (int v = 0; v < 32; ++v) {
        std::vector<int> expected;
        for (int u = 0; u < v; ++u)
            if (v - u <= 2 || v - u >= 30) expected.push_back(u);
        EXPECT_EQ(before[size_t(v)], expected) << v;
    }
}

TEST(RandomWiring, IsAcyclicAndReachesAll) {
    double far = 0;
    std::set<std::vector<std::vector<int>>> different;
    for (uint64_t seed = 0; seed < 100; ++seed) {
        const auto before = watts_strogatz(32, 4, 0.75, seed, 9);
        EXPECT_EQ(before, watts_strogatz(32, 4, 0.75, seed, 9));
        different.insert(before);
        int64_t edges = 0;
        std::vector<bool> reached(before.size());
        for (size_t v = 0; v < before.size(); ++v) {
            EXPECT_EQ(std::set<int>(before[v].begin(), before[v].end()).size(), before[v].size());
            reached[v] = before[v].empty();  // reads the stage's input
            for (int u : before[v]) {
                ASSERT_LT(u, int(v));
                reached[v] = reached[v] || reached[size_t(u)];
                const int apart = int(v) - u;
                far += apart > 2 && apart < 30;
                ++edges;
            }
            EXPECT_TRUE(reached[v]) << v;
        }
        EXPECT_EQ(edges, 64);
    }
    EXPECT_EQ(different.size(), 100u);
    // Rewired 3/4 of 6400, of which 27 of the 31 - 4 free nodes and those freed lie far; four deviations.
    EXPECT_NEAR(far / 6400, 0.72, 0.03);
    EXPECT_THROW(watts_strogatz(4, 4, 0.5, 1, 1), std::invalid_argument);
    EXPECT_THROW(watts_strogatz(8, 3, 0.5, 1, 1), std::invalid_argument);
}

TEST(Networks, RandomOnesFollowTheSeed) {
    EXPECT_EQ(parameters_of("randwire"), 5'538'906);
    EXPECT_EQ(parameters_of("pathnet"), 39'510);
    for (const std::string name : {"randwire", "pathnet"}) {
        std::set<std::vector<std::string>> different;
        for (const uint64_t seed : {1, 2, 1}) {
            Params weights;
            NetworkOptions o = tiny(name);
            o.seed = seed;
            make_network(name, weights, o);
            different.insert(names_of(weights));
        }
        EXPECT_EQ(different.size(), 2u) << name;
    }
}

TEST(Networks, PathnetUsesFiveModulesOfEachLayer) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
        Params weights;
        NetworkOptions o;
        o.seed = seed;
        make_network("pathnet", weights, o);
        std::map<std::string, std::set<int>> modules;
        for (const std::string& name : names_of(weights)) {
            if (!name.ends_with(".conv.weight")) continue;
            const size_t at = name.find(".module");
            modules[name.substr(0, at)].insert(std::stoi(name.substr(at + 7)));
        }
        ASSERT_EQ(modules.size(), 3u);
        for (const auto& [layer, numbers] : modules) {
            EXPECT_EQ(numbers.size(), 5u) << layer;
            EXPECT_GE(*numbers.begin(), 0);
            EXPECT_LT(*numbers.rbegin(), 20);
        }
    }
}

// --- first values ---

TEST(FirstValues, OfMlpKeepTheirStreams) {
    Params weights;
    mlp(weights, {.inputs = 20, .classes = 10, .hidden = {24, 17}, .tile_features = 5, .seed = 7});
    uint64_t stream = 0;
    int64_t inputs = 20;
    for (const auto& p : weights) {
        if (stream % 2 == 0) inputs = p->shape.cols;
        const double bound = 1 / std::sqrt(double(inputs));
        const int64_t i = p->shape.rows - 1, j = p->shape.cols - 1;
        const double u = random_uniform(7, stream++, uint64_t(i * p->shape.cols + j));
        EXPECT_EQ(p->initial(i, j), double(float((2 * u - 1) * bound))) << p->name;
    }
    EXPECT_EQ(names_of(weights),
              (std::vector<std::string>{"fc0.weight", "fc0.bias", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}));
    EXPECT_EQ(weights.find("fc0.weight")->grid, (Grid{cut(24, 5), {20}}));
    EXPECT_EQ(weights.find("fc1.weight")->grid, (Grid{cut(17, 5), cut(24, 5)}));
}

TEST(FirstValues, OfConvolutionsAreNormal) {
    Params weights;
    make_network("resnet18", weights, {});
    const Param& w = *weights.find("layer3.0.conv2.weight");  // 256 filters of 3 x 3 x 256
    EXPECT_EQ(w.shape, (Shape{256, 9 * 256}));
    double sum = 0, squares = 0, fourth = 0;
    for (int64_t i = 0; i < w.shape.rows; ++i)
        for (int64_t j = 0; j < w.shape.cols; ++j) {
            const double x = w.initial(i, j);
            sum += x, squares += x * x, fourth += x * x * x * x;
        }
    const double n = double(w.shape.size()), variance = squares / n;
    EXPECT_NEAR(sum / n, 0, 4 * std::sqrt(variance / n));
    EXPECT_NEAR(variance, 2.0 / (9 * 256), 4 * std::sqrt(2 / n) * variance);
    EXPECT_NEAR(fourth / n / (variance * variance), 3, 4 * std::sqrt(96 / n));
    for (const auto& p : weights) {
        if (p->name.find("bn") == std::string::npos) continue;
        const bool one = p->name.ends_with(".weight") || p->name.ends_with(".running_var");
        EXPECT_EQ(p->initial(0, p->shape.cols - 1), one ? 1 : 0) << p->name;
        EXPECT_EQ(p->trainable, p->name.find(".running_") == std::string::npos) << p->name;
    }
    EXPECT_NE(weights.find("layer3.1.conv2.weight")->initial(0, 0), w.initial(0, 0));
}

// --- refusals ---

TEST(Networks, RefuseWhatDoesNotFit) {
    const auto refused = [](const std::string& name, const std::function<void(NetworkOptions&)>& change) {
        return message_of<UsageError>([&] {
            Params weights;
            NetworkOptions o;
            change(o);
            make_network(name, weights, o);
        });
    };
    expect_words(refused("alexnet", [](auto& o) { o.image = 32; }), {"alexnet", "features.12", "max_pool2d"});
    expect_words(refused("inception_v3", [](auto& o) { o.image = 32; }), {"inception_v3", "Mixed_6a", "conv2d"});
    expect_words(refused("vgg16", [](auto& o) { o.image = {16, 64}; }), {"vgg16", "features.30", "max_pool2d"});
    expect_words(refused("resnet50", [](auto& o) { o.auxiliary = true; }), {"resnet50", "auxiliary"});
    expect_words(refused("resnet50", [](auto& o) { o.dropout = 0.1; }), {"resnet50", "--dropout"});
    expect_words(refused("vgg11", [](auto& o) { o.dropout = 1; }), {"--dropout"});
    expect_words(refused("vgg11", [](auto& o) { o.width = 0; }), {"width"});
    expect_words(refused("vgg11", [](auto& o) { o.width = std::nan(""); }), {"width"});
    expect_words(refused("vgg11", [](auto& o) { o.image = {-1, 8}; }), {"-1x8"});
    expect_words(refused("vgg11", [](auto& o) { o.classes = -1; }), {"-1 classes"});
    expect_words(refused("resnet19", [](auto&) {}), {"unknown network 'resnet19'"});
}

TEST(Networks, RefuseOtherSamplesAndASecondTime) {
    Params weights;
    const Network n = make_network("resnet20", weights, {});
    Graph g;
    const auto words = message_of<std::invalid_argument>([&] {
        n.outputs(g, {g.value("x", {2 * 28 * 28, 1}, DType::f32), 28, 28}, false);
    });
    expect_words(words, {"resnet20", "3x32x32", "1x28x28"});
    EXPECT_THROW(make_network("resnet20", weights, {}), UsageError);
}

TEST(Networks, BatchNormNeedsMoreThanOneValueInTraining) {
    Params weights;
    NetworkOptions o = tiny("densenet121");
    const Network n = make_network("densenet121", weights, o);
    Graph g;
    n.outputs(g, input_of(g, n, 1), false);
    expect_words(message_of<std::invalid_argument>([&] { n.outputs(g, input_of(g, n, 1), true); }),
                 {"densenet121", "features.denseblock4.denselayer1.norm1", "batch_norm"});
}

TEST(RowTiles, AreNearSquarePartsForEveryCore) {
    const auto tiles = [](int64_t batch, std::vector<int64_t> hidden, int cores) {
        const RowTiles t = row_tiles_for_cores(batch, hidden, cores);
        return std::pair(t.batch, t.features);
    };
    using Tiles = std::pair<int64_t, int64_t>;
    EXPECT_EQ(tiles(256, {1024, 1024}, 1), Tiles(256, 0));
    EXPECT_EQ(tiles(256, {1024, 1024}, 2), Tiles(256, 512));
    EXPECT_EQ(tiles(256, {1024, 1024}, 20), Tiles(64, 205));
    EXPECT_EQ(tiles(4096, {512}, 2), Tiles(2048, 0));
    EXPECT_EQ(tiles(256, {1024, 512}, 2), Tiles(256, 256)) << "tiles of 512 leave the second layer whole";
    EXPECT_EQ(tiles(128, {512, 512}, 64), Tiles(64, 128)) << "as many parts as are worth a task";
    EXPECT_EQ(tiles(128, {}, 2), Tiles(64, 0));
    EXPECT_EQ(tiles(8, {16}, 2), Tiles(8, 0));
    EXPECT_GT(tiles(INT64_MAX, {INT32_MAX}, 2).first, 0) << "sizes that are refused later";
    for (int64_t cores = 1; cores <= 64; ++cores)
        for (int64_t batch : {1, 63, 128, 1000})
            for (int64_t width : {1, 300, 512, 4096}) {
                const RowTiles t = row_tiles_for_cores(batch, {width, 2 * width}, int(cores));
                EXPECT_GE(t.batch, std::min<int64_t>(batch, 64));
                EXPECT_LE(t.batch, batch);
                EXPECT_GE(t.features == 0 ? 2 * width : t.features, std::min<int64_t>(2 * width, 128));
            }
}

}  // namespace
}  // namespace tessera
