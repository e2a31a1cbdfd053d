// Views of column tiles in graphs, plans and the executor: where their tiles are, what waits for what, who may not
// write them, and that they are read like any value.
#include <gtest/gtest.h>

#include "codelets/load.h"
#include "codelets/ops.h"
#include "core/executor.h"

namespace tessera {
namespace {

template <class F>
std::string refusal(F f) {
    try {
        f();
    } catch (const std::invalid_argument& e) { return e.what(); }
    return "";
}
void expect_words(const std::string& text, const std::string& words) {
    EXPECT_NE(text.find(words), std::string::npos) << "'" << words << "' is not in: " << text;
}

// --- graph and plan ------------------------------------------------------------------------------------------------

TEST(Views, HaveTheGridAndTheTilesOfTheirParts) {
    Graph g;
    Tensor a = g.value("a", {5, 3}, DType::f32, {{2, 3}, {1, 2}}),
           b = g.value("b", {5, 7}, DType::f32, {{2, 3}, {3, 4}});
    Tensor v = g.view("v", {{b, 1, 1}, {a, 0, 2}, {b, 1, 1}});
    EXPECT_EQ(v.shape(), (Shape{5, 11}));
    EXPECT_EQ(v.grid(), (Grid{{2, 3}, {4, 1, 2, 4}}));
    Tensor of_view = g.view("w", {{v, 1, 3}, {a, 1, 1}});
    const Plan plan(g);
    EXPECT_EQ(plan.tiles.size(), 8u) << "those of a and b";
    for (int64_t i : {0, 1}) {
        EXPECT_EQ(plan.tile(v.id, i, 0), plan.tile(b.id, i, 1));
        EXPECT_EQ(plan.tile(v.id, i, 2), plan.tile(a.id, i, 1));
        EXPECT_EQ(plan.tile(v.id, i, 3), plan.tile(b.id, i, 1));
        EXPECT_EQ(plan.tile(of_view.id, i, 0), plan.tile(a.id, i, 0));
        EXPECT_EQ(plan.tile(of_view.id, i, 2), plan.tile(b.id, i, 1));
        EXPECT_EQ(plan.tile(of_view.id, i, 3), plan.tile(a.id, i, 1));
    }
    EXPECT_EQ(plan.describe_tile(plan.tile(v.id, 1, 2)), "a(1,1)");
    std::vector<int64_t> places;
    plan.each_tile(v.id, [&](int tile, int64_t row, int64_t col) {
        EXPECT_EQ(tile, plan.tile(v.id, row / 2, col == 0 ? 0 : col == 4 ? 1 : col == 5 ? 2 : 3));
        places.push_back(row * 100 + col);
    });
    EXPECT_EQ(places, (std::vector<int64_t>{0, 4, 5, 7, 200, 204, 205, 207}));
}

TEST(Views, NeedPartsThatFit) {
    Graph g, other;
    Tensor a = g.value("a", {5, 3}, DType::f32, {{2, 3}, {1, 2}}), rows = g.value("rows", {5, 1}, DType::f32),
           f64 = g.value("f64", {5, 1}, DType::f64, {{2, 3}, {1}}), foreign = other.value("o", {5, 1}, DType::f32);
    expect_words(refusal([&] { g.view("v", {}); }), "v: a view needs parts");
    expect_words(refusal([&] { g.view("v", {{foreign, 0, 1}}); }), "v: a view needs parts of its graph");
    expect_words(refusal([&] { g.view("v", {{a, 0, 1}, {foreign, 0, 1}}); }), "one graph");
    expect_words(refusal([&] { g.view("v", {{a, 0, 1}, {rows, 0, 1}}); }), "equally cut rows; got a [5 x 3] f32, rows");
    expect_words(refusal([&] { g.view("v", {{a, 0, 1}, {f64, 0, 1}}); }), "f64 [5 x 1] f64");
    expect_words(refusal([&] { g.view("v", {{a, 1, 2}}); }), "column tiles that there are");
    expect_words(refusal([&] { g.view("v", {{a, 0, 0}}); }), "column tiles that there are");
    expect_words(refusal([&] { g.view("v", {{a, -1, 1}}); }), "column tiles that there are");
}

TEST(Views, AreWrittenByNobody) {
    Graph g;
    Tensor a = g.value("a", {2, 2}, DType::f32), b = g.value("b", {2, 2}, DType::f32);
    Tensor v = g.view("v", {{a, 0, 1}}), x = g.value("x", {2, 2}, DType::f32);
    expect_words(refusal([&] { assign(v, x); }), "assign: cannot update a view of other values; got v [2 x 2] f32");
    expect_words(refusal([&] { gemm_into(v, a, b); }), "cannot update a view");
    expect_words(refusal([&] { sgd(v, x, 0); }), "cannot update a view");
    Node node;
    node.op = "writes", node.outputs = {v}, node.lower = [](Lowering&) {};
    expect_words(refusal([&] { g.add(std::move(node)); }), "writes: cannot write to a view of other values; got v");
    Node forgot;
    forgot.op = "forgot", forgot.outputs = {b};
    expect_words(refusal([&] { g.add(std::move(forgot)); }), "forgot: only views need no task");
    EXPECT_TRUE(g.nodes().empty());
}

// Two branches side by side, then one task per column tile, then one that needs both.
TEST(Views, TasksWaitForTheWritersOfTheirTilesOnly) {
    Graph g;
    Tensor x = g.value("x", {2, 3}, DType::f32);
    const Maps y = concat({{relu(x)}, {tanh(x)}});
    g.keep(sigmoid(y.tensor)), g.keep(softmax(y.tensor));
    const Plan plan(g);
    std::vector<std::string> ops;
    for (const TaskSpec& t : plan.tasks) ops.push_back(t.codelet->op);
    EXPECT_EQ(ops, (std::vector<std::string>{"relu", "tanh", "sigmoid", "sigmoid", "retile", "softmax"}));
    EXPECT_EQ(dependencies(plan, false), (std::vector<std::vector<int>>{{}, {}, {0}, {1}, {0, 1}, {4}}));
    for (const PlanNode& n : plan.nodes) EXPECT_NE(n.op, "concat") << "a node without tasks";
    EXPECT_NE(g.print().find("concat(relu [2 x 3] f32, tanh [2 x 3] f32) -> concat [2 x 6] f32"), std::string::npos)
        << g.print();
}

TEST(Views, DropWhatOnlyAnUnneededViewNeeds) {
    Graph g;
    Tensor x = g.value("x", {2, 3}, DType::f32), y = relu(x);
    concat({{y}, {tanh(x)}});
    g.keep(y);
    EXPECT_EQ(Plan(g).tasks.size(), 1u);
}

TEST(Views, OneTensorTwiceIsOneTileTwice) {
    Graph g;
    Tensor x = g.value("x", {2, 3}, DType::f32), y = relu(x);
    Tensor all = retile(concat({{y}, {y}}).tensor, Grid::whole({2, 6}));
    g.keep(all);
    const Plan plan(g);
    ASSERT_EQ(plan.tasks.size(), 2u);
    EXPECT_EQ(plan.tasks[1].tiles[0].tile, plan.tasks[1].tiles[1].tile);
    EXPECT_EQ(dependencies(plan, false), (std::vector<std::vector<int>>{{}, {0}}));
}

// --- the executor --------------------------------------------------------------------------------------------------

std::vector<double> counting(int64_t n, double from) {
    std::vector<double> v;
    for (int64_t i = 0; i < n; ++i) v.push_back(from + double(i));
    return v;
}
// rows x cols with element (i, j).
std::vector<double> table(int64_t rows, int64_t cols, const std::function<double(int64_t, int64_t)>& f) {
    std::vector<double> v;
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j) v.push_back(f(i, j));
    return v;
}

TEST(ViewsExecutor, AKeptViewIsReadOutAndNotWritten) {
    const Runtime runtime;
    Params params;
    std::vector<float> own = {0, 1, 2, -1, 10, 11, 12, -1, 20, 21, 22, -1};  // rows of three, four apart
    Param& mine = params.add({"mine", {3, 3}, DType::f32, {{2, 1}, {2, 1}}, {}, false, own.data(), 4});
    Param& p = params.add({"p", {3, 2}, DType::f32, {{2, 1}, {2}}, [](int64_t i, int64_t j) { return double(i - j); }});
    Graph g;
    Tensor x = g.value("x", {3, 3}, DType::f32, {{2, 1}, {1, 2}});
    const Maps y = concat({{g.param(p)}, {scale(x, 2)}, {g.param(mine)}, {x}, {x}});
    g.keep(y.tensor);
    // Its last tile twice, read by one task.
    Tensor tail = retile(split(y, {2, 4, 8})[2].tensor, Grid{{3}, {8}});
    g.keep(tail);
    Executor executor(runtime, {});
    const int plan = executor.load(Plan(g));
    executor.write(plan, x, counting(9, 100));
    executor.submit(plan, {});
    const auto value = [&](int64_t i, int64_t j) {
        const auto of_x = [&](int64_t k) { return double(100 + 3 * i + k); };
        return j < 2    ? double(i - j)
               : j < 5  ? 2 * of_x(j - 2)
               : j < 8  ? double(10 * i + j - 5)
               : j < 11 ? of_x(j - 8)
                        : of_x(j - 11);
    };
    EXPECT_EQ(executor.read(plan, y.tensor), table(3, 14, value));
    EXPECT_EQ(executor.read(plan, tail), table(3, 8, [&](int64_t i, int64_t j) { return value(i, j + 6); }));
    expect_words(refusal([&] { executor.write(plan, y.tensor, std::vector<double>(42)); }), "'concat' is a view");
}

// Views of what is loaded ahead, one copy per step in flight.
TEST(ViewsExecutor, FollowBufferedValues) {
    const Runtime runtime;
    std::vector<float> values;
    for (int i = 0; i < 40; ++i) values.push_back(float(i));
    BatchSource source;
    source.values = values.data(), source.count = 10, source.features = 4;
    std::vector<int64_t> order = {9, 3, 4, 0, 7, 2, 1, 8};
    for (int64_t in_flight : {1, 3}) {
        Graph g;
        Tensor x = load_features(g, source, 2, DType::f32, {{1, 1}, {3, 1}});
        const auto parts = split({x}, {3, 1});
        Tensor y = concat({parts[1], parts[0]}).tensor, z = scale(y, 10);
        g.keep(y), g.keep(z);
        ExecutorOptions options;
        options.steps_in_flight = in_flight;
        Executor executor(runtime, options);
        const int plan = executor.load(Plan(g), {.share = true});
        for (int64_t s = 0; s < 4; ++s) {
            Step step;
            step.number = s, step.batch = order.data() + 2 * s;
            executor.submit(plan, step);
            const auto expected = [&](double factor) {
                return table(2, 4, [&](int64_t i, int64_t j) {
                    return factor * double(4 * order[size_t(2 * s + i)] + (j == 0 ? 3 : j - 1));
                });
            };
            if (s % 2) { EXPECT_EQ(executor.read(plan, y), expected(1)); }
            EXPECT_EQ(executor.read(plan, z), expected(10));
        }
    }
}

// The gradient of a sum of squares through a concat whose parts are used elsewhere, too: 2 x plus what else there is.
TEST(ViewsExecutor, GradientsThroughConcatAndSplit) {
    const Runtime runtime;
    Graph g;
    Tensor a = g.value("a", {4, 3}, DType::f64, {{2, 2}, {3}}), b = g.value("b", {4, 5}, DType::f64, {{2, 2}, {2, 3}});
    Tensor y = concat({{a}, {b}, {a}}).tensor;
    const auto parts = split({b}, {2, 3});
    Tensor loss = add(add(sum_all(mul(y, y)), sum_all(scale(a, 7))), sum_all(mul(parts[1].tensor, parts[1].tensor)));
    const auto d = gradients(loss, {a, b});
    for (Tensor t : d) g.keep(t);
    for (const TaskSpec& t : Plan(g).tasks) EXPECT_NE(t.codelet->op, "retile");
    Executor executor(runtime, {});
    const int plan = executor.load(Plan(g));
    executor.write(plan, a, counting(12, -3)), executor.write(plan, b, counting(20, 2));
    for (int step = 0; step < 2; ++step) executor.submit(plan, {});
    EXPECT_EQ(executor.read(plan, d[0]),
              table(4, 3, [](int64_t i, int64_t j) { return 4 * double(3 * i + j - 3) + 7; }));
    EXPECT_EQ(executor.read(plan, d[1]),
              table(4, 5, [](int64_t i, int64_t j) { return (j < 2 ? 2 : 4) * double(5 * i + j + 2); }));
}

}  // namespace
}  // namespace tessera
