// The graph alone: what it refuses, and in which words; gradients as nodes; layers, params, dead nodes.
#include "core/graph.h"

#include <gtest/gtest.h>

#include "codelets/ops.h"

namespace tessera {
namespace {

// The message of what body throws; empty if it throws nothing.
template <class F>
std::string refusal(F body) {
    try {
        body();
    } catch (const std::invalid_argument& e) { return e.what(); }
    return "";
}
void expect_words(const std::string& text, const std::vector<std::string>& words) {
    for (const std::string& w : words)
        EXPECT_NE(text.find(w), std::string::npos) << "'" << w << "' is not in: " << text;
}

class Refuses : public testing::Test {
 protected:
    Tensor f32(const std::string& name, int64_t rows, int64_t cols) { return g.value(name, {rows, cols}, DType::f32); }
    Tensor f64(const std::string& name, int64_t rows, int64_t cols) { return g.value(name, {rows, cols}, DType::f64); }
    Tensor i32(const std::string& name, int64_t rows, int64_t cols) { return g.value(name, {rows, cols}, DType::i32); }
    Tensor bf(const std::string& name, int64_t rows, int64_t cols) { return g.value(name, {rows, cols}, DType::bf16); }
    Graph g;
};

// Op by op: the op, every tensor with its shape; and nothing is added to the graph.
TEST_F(Refuses, ShapesThatDoNotFit) {
    Tensor a = f32("a", 2, 3), b = f32("b", 4, 5), row = f32("row", 1, 4), one = f32("one", 1, 1);
    const std::string as = "a [2 x 3] f32", bs = "b [4 x 5] f32";
    struct Case {
        std::string op;
        std::function<void()> build;
        std::vector<std::string> words;
    };
    const std::vector<Case> all = {
        {"gemm", [&] { gemm(a, b); }, {as, bs}},
        {"gemm", [&] { gemm(a, a, {.ta = true, .tb = true}); }, {as}},
        {"gemm", [&] { gemm(a, f32("c", 3, 2), b); }, {bs, "[2 x 2]"}},
        {"linear", [&] { linear(a, b, row); }, {as, bs, "row [1 x 4] f32"}},
        {"linear", [&] { linear(a, f32("w", 4, 3), one); }, {"w [4 x 3]", "one [1 x 1]"}},
        {"add", [&] { add(a, b); }, {as, bs}},
        {"mul", [&] { mul(a, b); }, {as, bs}},
        {"scale_by", [&] { scale_by(a, b); }, {as, bs}},
        {"activation_backward", [&] { activation_backward(a, b, Activation::tanh); }, {as, bs}},
        {"activation_backward", [&] { activation_backward(a, a, Activation::gelu); }, {as}},
        {"assign", [&] { assign(a, b); }, {as, bs}},
        {"layer_norm", [&] { layer_norm(a, row, row); }, {as, "row [1 x 4]"}},
        {"softmax_cross_entropy", [&] { softmax_cross_entropy(a, i32("labels", 3, 1)); }, {as, "labels [3 x 1] i32"}},
        {"softmax_cross_entropy", [&] { softmax_cross_entropy(a, i32("labels", 2, 1), 1.5); }, {"1.5"}},
        {"count_correct", [&] { count_correct(a, i32("labels", 2, 2)); }, {as, "labels [2 x 2] i32"}},
        {"mse", [&] { mse(a, b); }, {as, bs}},
        {"sgd", [&] { sgd(a, b, 0); }, {as, bs}},
        {"sgd", [&] { sgd(a, a, b, 0.9, false, 0); }, {as, bs}},
        {"adam", [&] { adam(a, b, a, a, 0); }, {as, bs}},
        {"adamw", [&] { adamw(a, a, a, b, 0); }, {as, bs}},
        {"gradients", [&] { gradients(a, {a}); }, {as, "[1 x 1]"}},
        {"backward", [&] { g.backward(a, b, {a}, [](Tensor s, Tensor t) { return add(s, t); }); }, {as, bs}},
        {"report", [&] { report(a, {}); }, {as}},
        {"dropout", [&] { dropout(a, 1); }, {as, "1"}},
        {"dropout", [&] { dropout(a, -0.5); }, {as, "-0.5"}},
        {"clip_by_global_norm",
         [&] {
             clip_by_global_norm({a, b}, 0);
         },
         {as, bs}},
    };
    for (const Case& c : all) {
        SCOPED_TRACE(c.op);
        const size_t before = g.nodes().size();
        const std::string text = refusal(c.build);
        EXPECT_TRUE(text.starts_with(c.op + ": ")) << text;
        expect_words(text, c.words);
        EXPECT_EQ(g.nodes().size(), before);
    }
}

TEST_F(Refuses, TypesThatDoNotFit) {
    Tensor a = f32("a", 2, 2), d = f64("d", 2, 2), n = i32("n", 2, 2), b = bf("b", 2, 2);
    struct Case {
        std::string op;
        std::function<void()> build;
        std::vector<std::string> words;
    };
    const std::vector<Case> all = {
        {"gemm", [&] { gemm(a, d); }, {"a [2 x 2] f32", "d [2 x 2] f64"}},
        {"gemm", [&] { gemm(n, n); }, {"i32"}},
        {"linear", [&] { linear(a, d, f32("bias", 1, 2)); }, {"f64"}},
        {"add", [&] { add(a, d); }, {"a [2 x 2] f32", "d [2 x 2] f64"}},
        {"add", [&] { add(n, n); }, {"i32", "f32", "f64", "bf16"}},
        {"relu", [&] { relu(n); }, {"i32"}},
        {"gelu", [&] { gelu(n); }, {"i32"}},
        {"tanh", [&] { tanh(n); }, {"i32"}},
        {"sigmoid", [&] { sigmoid(n); }, {"i32"}},
        {"silu", [&] { silu(n); }, {"i32"}},
        {"mul", [&] { mul(n, n); }, {"i32"}},
        {"scale", [&] { scale(n, 2); }, {"i32"}},
        {"scale_by", [&] { scale_by(a, f64("f", 1, 1)); }, {"f [1 x 1] f64"}},
        {"dropout", [&] { dropout(n, 0.5); }, {"i32"}},
        {"fill",
         [&] {
             fill(g, {2, 2}, DType::i32, Grid::whole({2, 2}), 0);
         },
         {"i32"}},
        {"transpose", [&] { transpose(n); }, {"i32"}},
        {"sum_rows", [&] { sum_rows(n); }, {"i32"}},
        {"sum_cols", [&] { sum_cols(n); }, {"i32"}},
        {"sum_all", [&] { sum_all(n); }, {"i32"}},
        {"argmax", [&] { argmax(n); }, {"i32"}},
        {"softmax", [&] { softmax(n); }, {"i32"}},
        {"layer_norm", [&] { layer_norm(n, i32("r", 1, 2), i32("r", 1, 2)); }, {"i32"}},
        {"softmax_cross_entropy", [&] { softmax_cross_entropy(a, f32("labels", 2, 1)); }, {"labels [2 x 1] f32"}},
        {"count_correct", [&] { count_correct(a, f32("labels", 2, 1)); }, {"labels [2 x 1] f32"}},
        {"mse", [&] { mse(a, d); }, {"f64"}},
        {"sgd", [&] { sgd(b, b, 0); }, {"bf16", "f32", "f64"}},
        {"adam", [&] { adam(b, b, b, b, 0); }, {"bf16"}},
        {"adamw", [&] { adamw(a, d, a, a, 0); }, {"f64"}},
        {"assign", [&] { assign(a, d); }, {"f64"}},
        {"clip_by_global_norm", [&] { clip_by_global_norm({b}, 1); }, {"bf16"}},
        {"clip_by_global_norm",
         [&] {
             clip_by_global_norm({a, d}, 1);
         },
         {"f32", "f64"}},
    };
    for (const Case& c : all) {
        SCOPED_TRACE(c.op);
        const size_t before = g.nodes().size();
        const std::string text = refusal(c.build);
        EXPECT_TRUE(text.starts_with(c.op + ": ")) << text;
        expect_words(text, c.words);
        EXPECT_EQ(g.nodes().size(), before);
    }
    expect_words(refusal([&] { cast(a, DType::i32); }), {"cast", "i32"});
    expect_words(refusal([&] { cast(n, DType::f64); }), {"cast", "f64"});
}

TEST_F(Refuses, ValuesAndTilesThatCannotBe) {
    expect_words(refusal([&] { f32("w", 0, 3); }), {"'w'", "[0 x 3]"});
    expect_words(refusal([&] { f32("w", 3, -1); }), {"'w'", "[3 x -1]"});
    expect_words(refusal([&] { f32("w", int64_t(1) << 40, int64_t(1) << 40); }), {"'w'", "too large"});
    expect_words(refusal([&] { f32("w", 1, int64_t(1) << 32); }), {"'w'", "too large"});
    expect_words(refusal([&] { f32("w", int64_t(1) << 33, 1); }), {"'w'", "8589934592"});  // one tile of 2^33 rows
    expect_words(refusal([&] { g.value("w", {4, 4}, DType::f32, {{2, 1}, {4}}); }), {"'w'", "[4 x 4]", "2+1 x 4"});
    expect_words(refusal([&] { g.value("w", {4, 4}, DType::f32, {{5, -1}, {4}}); }), {"'w'", "5+-1"});
    expect_words(refusal([&] { retile(f32("w", 4, 4), {{4}, {3}}); }), {"retile", "[4 x 4]", "4 x 3"});
    Tensor w = g.value("w", {4, 4}, DType::f32, {{2, 2}, {4}}), m = f32("m", 4, 4);
    expect_words(refusal([&] { sgd(w, w, m, 0.9, false, 0); }), {"sgd", "w [4 x 4]", "m [4 x 4]"});
    expect_words(refusal([&] { adam(w, w, w, m, 0); }), {"adam", "w [4 x 4]", "m [4 x 4]"});
    EXPECT_TRUE(g.nodes().empty());
}

TEST(Grid, CutIsEvenAndSmall) {
    EXPECT_EQ(cut(10, 0), (std::vector<int64_t>{10}));
    EXPECT_EQ(cut(10, 10), (std::vector<int64_t>{10}));
    EXPECT_EQ(cut(10, 100), (std::vector<int64_t>{10}));
    EXPECT_EQ(cut(11, 10), (std::vector<int64_t>{6, 5}));
    EXPECT_EQ(cut(10, 4), (std::vector<int64_t>{4, 3, 3}));
    EXPECT_EQ(cut(3, 1), (std::vector<int64_t>{1, 1, 1}));
    for (int64_t n = 1; n < 60; ++n)
        for (int64_t tile = 1; tile < 20; ++tile) {
            const auto pieces = cut(n, tile);
            int64_t sum = 0;
            for (int64_t p : pieces) {
                sum += p;
                EXPECT_LE(p, tile);
                EXPECT_LE(pieces[0] - p, 1);
            }
            EXPECT_EQ(sum, n);
            EXPECT_EQ(int64_t(pieces.size()), (n + tile - 1) / tile);
        }
}

TEST(Params, NamesAreUniqueAndOrdered) {
    Params params;
    params.add({"w", {2, 3}, DType::f32, {}, {}, true});
    params.add({"running", {1, 3}, DType::f64, {}, {}, false});
    expect_words(refusal([&] { params.add({"w", {5, 5}, DType::f32, {}, {}, true}); }), {"'w'"});
    expect_words(refusal([&] { params.add({"empty", {0, 5}, DType::f32, {}, {}, true}); }), {"'empty'", "[0 x 5]"});
    EXPECT_EQ(params.size(), 2u);
    EXPECT_EQ((*params.begin())->name, "w");
    EXPECT_EQ(params.find("running")->grid, Grid::whole({1, 3}));
    EXPECT_EQ(params.find("nothing"), nullptr);
    EXPECT_EQ(params.elements(), 6);
    EXPECT_EQ(params.elements(false), 9);
    EXPECT_EQ(params.bytes(), 6 * 4 + 3 * 8);
    Param* first = params.find("w");
    for (int i = 0; i < 100; ++i) params.add({"p" + std::to_string(i), {1, 1}, DType::f32, {}, {}, true});
    EXPECT_EQ(params.find("w"), first);
}

TEST(Graph, OneTensorPerParam) {
    Params params;
    Param& p = params.add({"w", {2, 3}, DType::f32, {{1, 1}, {3}}, {}, true});
    Graph g;
    EXPECT_EQ(g.param(p), g.param(p));
    EXPECT_EQ(g.param(p).grid(), p.grid);
    EXPECT_EQ(g.param(p).name(), "w");
}

TEST(Graph, DropsWhatNothingNeeds) {
    Graph g;
    Tensor x = g.value("x", {2, 2}, DType::f32);
    Tensor a = relu(x), b = tanh(a);
    sigmoid(a);  // leads nowhere
    g.keep(b);
    EXPECT_EQ(g.needed_nodes(), (std::vector<bool>{true, true, false}));
}

TEST(Graph, UpdatesAndEffectsAreNeeded) {
    Graph g;
    Params params;
    Tensor w = g.param(params.add({"w", {1, 1}, DType::f32, {}, {}, true}));
    Tensor d = scale(w, 2), unused = scale(w, 3);
    sgd(w, d, 0);
    Tensor loss = relu(w);
    const std::function<void(int64_t, double)> sink = [](int64_t, double) {};
    report(loss, sink);
    (void)unused;
    EXPECT_EQ(g.needed_nodes(), (std::vector<bool>{true, false, true, true, true}));
}

TEST(Graph, LayersNestAndEnd) {
    Graph g;
    Tensor x = g.value("x", {2, 2}, DType::f32);
    {
        Graph::Layer outer(g, "block");
        relu(x);
        {
            Graph::Layer inner(g, "fc1");
            relu(x);
        }
        relu(x);
    }
    relu(x);
    std::vector<std::string> layers;
    for (const Node& n : g.nodes()) layers.push_back(n.layer);
    EXPECT_EQ(layers, (std::vector<std::string>{"block", "block.fc1", "block", ""}));
}

TEST(Graph, GradientsBelongToTheLayerTheyAreOf) {
    Graph g;
    Tensor x = g.value("x", {2, 2}, DType::f32), y;
    {
        Graph::Layer layer(g, "fc1");
        y = tanh(x);
    }
    const size_t forward = g.nodes().size();
    gradients(sum_all(y), {x});
    bool found = false;
    for (size_t i = forward; i < g.nodes().size(); ++i)
        if (g.nodes()[i].op == "activation_backward") found = g.nodes()[i].layer == "fc1";
    EXPECT_TRUE(found);
    EXPECT_EQ(g.nodes().back().layer, "fc1");
    relu(x);
    EXPECT_EQ(g.nodes().back().layer, "");
}

TEST(Graph, BackwardAppendsOnlyAndSums) {
    Graph g;
    Tensor x = g.value("x", {2, 3}, DType::f32), other = g.value("other", {2, 3}, DType::f32);
    Tensor loss = sum_all(mul(x, x));
    const std::string before = g.print();
    int sums = 0;
    Tensor seed = fill(g, {1, 1}, DType::f32, Grid::whole({1, 1}), 1);
    const auto d = g.backward(loss, seed, {x, other}, [&](Tensor a, Tensor b) { return ++sums, add(a, b); });
    EXPECT_TRUE(g.print().starts_with(before));
    EXPECT_EQ(sums, 1);  // x is used twice
    EXPECT_EQ(d[0].shape(), x.shape());
    EXPECT_FALSE(d[1]);  // nothing depends on it
}

// A grid given by reference may belong to a value of the graph, whose values move when it grows.
TEST(Graph, RetileTakesTheGridOfAnotherValue) {
    Graph g;
    Tensor x = g.value("x", {4, 4}, DType::f32), like = g.value("like", {4, 4}, DType::f32, {{1, 3}, {2, 2}});
    for (int i = 0; i < 100; ++i) {
        const Tensor y = retile(x, like.grid());
        EXPECT_EQ(y.grid(), like.grid());
        EXPECT_EQ(g.nodes().back().attributes, "4 x 4 to 1+3 x 2+2");
    }
}

TEST(Graph, PrintNamesOpsShapesAndAttributes) {
    Graph g;
    Tensor a = g.value("a", {2, 3}, DType::f32), b = g.value("b", {4, 3}, DType::f32);
    Graph::Layer layer(g, "fc1");
    gemm(a, b, {.alpha = 2, .tb = true});
    expect_words(g.print(), {"fc1: gemm(a [2 x 3] f32, b [4 x 3] f32)", "tb", "alpha=2", "[2 x 4] f32"});
}

}  // namespace
}  // namespace tessera
