// concat and split along channels: values and gradients, whatever the parts' tiles; and that they are views, no tasks.
#include <gtest/gtest.h>

#include <set>

#include "plain.h"

namespace tessera::test {
namespace {

Matrix beside(const Matrices& parts) {
    int64_t cols = 0;
    for (const Matrix& p : parts) cols += p.cols;
    Matrix y(parts[0].rows, cols);
    int64_t col = 0;
    for (const Matrix& p : parts) {
        for (int64_t i = 0; i < p.rows; ++i)
            for (int64_t j = 0; j < p.cols; ++j) y(i, col + j) = p(i, j);
        col += p.cols;
    }
    return y;
}
Matrix columns(const Matrix& x, int64_t first, int64_t count) {
    Matrix y(x.rows, count);
    for (int64_t i = 0; i < x.rows; ++i)
        for (int64_t j = 0; j < count; ++j) y(i, j) = x(i, first + j);
    return y;
}
Maps maps(Tensor t) { return {t, 1, 1}; }

const Declare three_parts{
    {.name = "concat",
     .inputs =
         [](Extents e) {
             return std::vector<Input>{{.shape = {e.m, e.n}}, {.shape = {e.m, e.k}}, {.shape = {e.m, 1}}};
         },
     .build =
         [](Graph&, const auto& x) {
             return std::vector{concat({maps(x[0]), maps(x[1]), maps(x[2])}).tensor};
         },
     .reference = [](const Matrices& x) { return Matrices{beside(x)}; },
     .tolerance_factor = 0}};

// A concat within a concat, a part twice, and a part that is used elsewhere, too.
const Declare nested{
    {.name = "concat_nested",
     .inputs =
         [](Extents e) {
             return std::vector<Input>{{.shape = {e.m, e.n}}, {.shape = {e.m, e.k}, .param = true}};
         },
     .build =
         [](Graph&, const auto& x) {
             const Maps inner = concat({maps(x[0]), maps(x[1])});
             const Maps y = concat({inner, maps(x[0]), inner, maps(tanh(x[1]))});
             return std::vector{y.tensor, mul(inner.tensor, inner.tensor), scale(x[0], 2)};
         },
     .reference =
         [](const Matrices& x) {
             const Matrix inner = beside(x);
             return Matrices{beside({inner, x[0], inner, map(x[1], [](double v) { return std::tanh(v); })}),
                             map(inner, [](double v) { return v * v; }), map(x[0], [](double v) { return 2 * v; })};
         },
     // Not every output depends on every input.
     .gradient = false}};
const Declare nested_gradient{
    {.name = "concat_nested_gradient",
     .inputs =
         [](Extents e) {
             return std::vector<Input>{{.shape = {e.m, e.n}}, {.shape = {e.m, e.k}, .param = true}};
         },
     .build =
         [](Graph&, const auto& x) {
             const Maps inner = concat({maps(x[0]), maps(x[1])});
             const Maps y = concat({inner, maps(x[0]), maps(tanh(x[1]))});
             return std::vector{mul(y.tensor, y.tensor), inner.tensor};
         },
     .reference =
         [](const Matrices& x) {
             const Matrix inner = beside(x);
             const Matrix last = map(x[1], [](double v) { return std::tanh(v); });
             return Matrices{map(beside({inner, x[0], last}), [](double v) { return v * v; }), inner};
         }}};

// Each output alone has a gradient: the other part's is zero.
const Declare two_parts{{.name = "split",
                         .inputs =
                             [](Extents e) {
                                 return std::vector<Input>{{.shape = {e.m, e.n + e.k}}};
                             },
                         .build =
                             [](Graph&, const auto& x) {
                                 // The extents are those of the case's inputs: k is at least 1 and n what is left.
                                 const int64_t first = (x[0].shape().cols + 1) / 2;
                                 std::vector<Tensor> parts;
                                 for (Maps p : split(maps(x[0]), {first, x[0].shape().cols - first}))
                                     parts.push_back(p.tensor);
                                 return parts;
                             },
                         .reference =
                             [](const Matrices& x) {
                                 const int64_t first = (x[0].cols + 1) / 2;
                                 return Matrices{columns(x[0], 0, first), columns(x[0], first, x[0].cols - first)};
                             },
                         .tolerance_factor = 0}};
// Parts change places.
const Declare swapped{
    {.name = "split_concat",
     .inputs =
         [](Extents e) {
             return std::vector<Input>{{.shape = {e.m, e.n + 2}}};
         },
     .build =
         [](Graph&, const auto& x) {
             const auto parts = split(maps(x[0]), {1, x[0].shape().cols - 2, 1});
             return std::vector{mul(concat({parts[2], parts[1], parts[0]}).tensor, x[0])};
         },
     .reference =
         [](const Matrices& x) {
             const int64_t n = x[0].cols;
             const Matrix y = beside({columns(x[0], n - 1, 1), columns(x[0], 1, n - 2), columns(x[0], 0, 1)});
             return Matrices{map(y, x[0], [](double a, double b) { return a * b; })};
         }}};

// --- views ---------------------------------------------------------------------------------------------------------

std::multiset<std::string> codelets_of(const Plan& plan) {
    std::multiset<std::string> all;
    for (const TaskSpec& t : plan.tasks) all.insert(t.codelet->op);
    return all;
}
using Names = std::multiset<std::string>;

TEST(Concat, IsNoTaskForwardOrBackward) {
    Graph g;
    Tensor a = g.value("a", {6, 3}, DType::f32, {{4, 2}, {2, 1}}), b = g.value("b", {6, 4}, DType::f32, {{4, 2}, {4}});
    const Maps y = concat({maps(a), maps(b)});
    EXPECT_EQ(y.tensor.grid(), (Grid{{4, 2}, {2, 1, 4}}));
    Tensor z = relu(y.tensor), dz = g.value("dz", z.shape(), DType::f32, z.grid());
    const auto d = g.backward(z, dz, {a, b}, [](Tensor p, Tensor q) { return add(p, q); });
    for (Tensor t : d) g.keep(t);
    const Plan plan(g);
    EXPECT_EQ(plan.tasks.size(), 12u);  // relu and its gradient, on six tiles
    EXPECT_EQ(d[0].grid(), a.grid());
    EXPECT_EQ(d[1].grid(), b.grid());
    EXPECT_EQ(plan.tile(y.tensor.id, 1, 2), plan.tile(b.id, 1, 0));
    EXPECT_EQ(plan.tile(d[1].id, 0, 0), plan.tile(d[0].id, 0, 0) + 2);  // both lie in dy
    for (const TaskSpec& t : plan.tasks) EXPECT_TRUE(t.codelet->op == "relu" || t.codelet->op == "activation_backward");
}

TEST(Concat, RetilesPartsWhoseRowsAreCutElsewhere) {
    Graph g;
    Tensor a = g.value("a", {6, 3}, DType::f32, {{4, 2}, {3}}), b = g.value("b", {6, 4}, DType::f32, {{3, 3}, {4}});
    g.keep(concat({maps(a), maps(b)}).tensor);
    EXPECT_EQ(codelets_of(Plan(g)), (Names{"retile", "retile"}));
}

TEST(Concat, RetilesAGradientThatIsCutAcrossParts) {
    Graph g;
    Tensor a = g.value("a", {4, 3}, DType::f32), b = g.value("b", {4, 5}, DType::f32);
    Tensor y = concat({maps(a), maps(b)}).tensor;
    Tensor dy = g.value("dy", y.shape(), DType::f32, {{4}, {8}});
    const auto d = g.backward(y, dy, {a, b}, [](Tensor p, Tensor q) { return add(p, q); });
    for (Tensor t : d) g.keep(t);
    EXPECT_EQ(codelets_of(Plan(g)), (Names{"retile", "retile"}));
    EXPECT_EQ(d[0].grid(), a.grid());
}

TEST(Split, IsNoTaskWhereTilesEnd) {
    Graph g;
    Tensor x = g.value("x", {4, 9}, DType::f32, {{2, 2}, {2, 3, 4}});
    const auto parts = split(maps(x), {5, 4});
    for (Maps p : parts) g.keep(p.tensor);
    EXPECT_EQ(parts[0].tensor.grid(), (Grid{{2, 2}, {2, 3}}));
    const Plan plan(g);
    EXPECT_TRUE(plan.tasks.empty());
    EXPECT_EQ(plan.tile(parts[1].tensor.id, 1, 0), plan.tile(x.id, 1, 2));
}

TEST(Split, RetilesOnceWhereTilesDoNotEnd) {
    Graph g;
    Tensor x = g.value("x", {4, 9}, DType::f32, {{4}, {4, 5}});
    const auto parts = split(maps(x), {1, 6, 2});
    for (Maps p : parts) g.keep(p.tensor);
    EXPECT_EQ(codelets_of(Plan(g)), (Names{"retile", "retile", "retile", "retile"}));  // 1 + 3 + 3 + 2
    EXPECT_EQ(parts[1].tensor.grid().col_extents, (std::vector<int64_t>{3, 3}));
}

TEST(Split, OfAConcatIsItsParts) {
    Graph g;
    Tensor a = g.value("a", {4, 3}, DType::f32), b = g.value("b", {4, 5}, DType::f32);
    const auto parts = split(concat({maps(a), maps(b)}), {3, 5});
    for (Maps p : parts) g.keep(p.tensor);
    const Plan plan(g);
    EXPECT_TRUE(plan.tasks.empty());
    EXPECT_EQ(plan.tile(parts[0].tensor.id, 0, 0), plan.tile(a.id, 0, 0));
    EXPECT_EQ(plan.tile(parts[1].tensor.id, 0, 0), plan.tile(b.id, 0, 0));
}

TEST(Concat, OfOnePartIsThatPart) {
    Graph g;
    Tensor a = g.value("a", {4, 3}, DType::f32);
    EXPECT_EQ(concat({maps(a)}).tensor, a);
    EXPECT_EQ(split(maps(a), {3})[0].tensor, a);
    EXPECT_TRUE(g.nodes().empty());
}

template <class F>
std::string refusal(F f) {
    try {
        f();
    } catch (const std::invalid_argument& e) { return e.what(); }
    return "";
}
void expect_words(const std::string& text, const std::vector<std::string>& words) {
    for (const std::string& w : words)
        EXPECT_NE(text.find(w), std::string::npos) << "'" << w << "' is not in: " << text;
}

TEST(Concat, RefusesWhatDoesNotFit) {
    Graph g, other;
    Tensor a = g.value("a", {8, 3}, DType::f32), b = g.value("b", {4, 5}, DType::f32),
           c = g.value("c", {8, 2}, DType::f64), d = other.value("d", {8, 1}, DType::f32);
    expect_words(refusal([&] { concat({}); }), {"concat: "});
    expect_words(refusal([&] {
                     concat({Maps{a, 2, 2}, Maps{a, 2, 1}});
                 }),
                 {"concat: ", "2 x 2 beside 2 x 1", "a [8 x 3]"});
    expect_words(refusal([&] { concat({maps(a), maps(b)}); }), {"concat: ", "a [8 x 3] f32", "b [4 x 5] f32"});
    expect_words(refusal([&] { concat({maps(a), maps(c)}); }), {"concat: ", "c [8 x 2] f64"});
    expect_words(refusal([&] { concat({maps(a), maps(d)}); }), {"concat: "});
    Graph::Layer layer(g, "inception.3a");
    expect_words(refusal([&] {
                     split(maps(a), {2, 2});
                 }),
                 {"inception.3a.split: ", "2 + 2", "sum up to 3", "a [8 x 3]"});
    expect_words(refusal([&] { split(maps(a), {4, -1}); }), {"split: ", "4 + -1"});
    expect_words(refusal([&] { split(maps(a), {}); }), {"split: "});
    EXPECT_TRUE(g.nodes().empty());
}

}  // namespace
}  // namespace tessera::test
