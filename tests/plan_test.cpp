// Plans as data: what they hold, what waits for what, longest paths, ranks, footprints, dot. No worker runs.
#include "core/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "codelets/ops.h"
#include "core/error.h"
#include "tests/plans_by_hand.h"

namespace tessera {
namespace {

using Edges = std::vector<std::vector<int>>;

constexpr Access r = Access::read, w = Access::write, rw = Access::read_write, acc = Access::accumulate;

TEST(Dependencies, ReadersWaitForTheWriterAndWritersForReaders) {
    const Plan p = by_hand(1, {{{0, w}}, {{0, r}}, {{0, r}}, {{0, rw}}, {{0, w}}});
    EXPECT_EQ(dependencies(p, false), (Edges{{}, {0}, {0}, {1, 2}, {3}}));
}

TEST(Dependencies, AccumulationsCommuteUnlessOrdered) {
    const Plan p = by_hand(1, {{{0, w}}, {{0, acc}}, {{0, acc}}, {{0, acc}}, {{0, r}}, {{0, acc}}});
    EXPECT_EQ(dependencies(p, false), (Edges{{}, {0}, {0}, {0}, {1, 2, 3}, {4}}));
    EXPECT_EQ(dependencies(p, true), (Edges{{}, {0}, {1}, {2}, {3}, {4}}));
}

TEST(Dependencies, ReadWriteDoesNotCommute) {
    const Plan p = by_hand(1, {{{0, w}}, {{0, rw}}, {{0, rw}}, {{0, acc}}, {{0, rw}}});
    EXPECT_EQ(dependencies(p, false), (Edges{{}, {0}, {1}, {2}, {3}}));
}

TEST(Dependencies, TilesAreIndependentAndEdgesAreNotRepeated) {
    const Plan p = by_hand(3, {{{0, w}, {1, w}}, {{2, w}}, {{0, r}, {1, r}, {2, acc}}, {{0, r}, {0, r}, {2, acc}}});
    EXPECT_EQ(dependencies(p, false), (Edges{{}, {}, {0, 1}, {0, 1}}));
}

TEST(Dependencies, FirstReadersWaitForNothing) {
    EXPECT_EQ(dependencies(by_hand(1, {{{0, r}}, {{0, r}}, {{0, w}}}), false), (Edges{{}, {}, {0, 1}}));
}

// 0 -> {1, 2} -> 3
Plan diamond() { return by_hand(4, {{{0, w}}, {{0, r}, {1, w}}, {{0, r}, {2, w}}, {{1, r}, {2, r}, {3, w}}}); }

// 400^2 tiles in each matrix, 400^3 tasks.
TEST(Plan, MoreTasksThanThereMayBeAreCountedNotMade) {
    Graph g;
    const Shape shape{400, 400};
    const Grid ones{cut(400, 1), cut(400, 1)};
    g.keep(gemm(g.value("a", shape, DType::f32, ones), g.value("b", shape, DType::f32, ones)));
    try {
        const Plan plan(g);
        ADD_FAILURE() << plan.tasks.size() << " tasks";
    } catch (const Error& e) {
        EXPECT_STREQ(e.what(), "one step would be more than 10000000 tasks, the most there may be, with those of gemm");
        EXPECT_EQ(e.hint(), "choose a larger --tile");
    }
    Graph wide;
    const Shape large{4000, 4000};
    wide.keep(relu(wide.value("x", large, DType::f32, {cut(4000, 1), cut(4000, 1)})));
    EXPECT_THROW(Plan{wide}, Error);
}

TEST(DagStats, Diamond) {
    const DagStats s = dag_stats(diamond(), {1, 2, 5, 3}, false);
    EXPECT_EQ(s.tasks, 4);
    EXPECT_EQ(s.edges, 4);
    EXPECT_EQ(s.width, 2);
    EXPECT_DOUBLE_EQ(s.t1, 11);
    EXPECT_DOUBLE_EQ(s.t_inf, 9);
    EXPECT_DOUBLE_EQ(s.parallelism(), 11.0 / 9);
}

TEST(DagStats, OrderedAccumulationsAreAChain) {
    const Plan p = by_hand(1, {{{0, w}}, {{0, acc}}, {{0, acc}}, {{0, acc}}});
    EXPECT_DOUBLE_EQ(dag_stats(p, {1, 1, 1, 1}, false).t_inf, 2);
    EXPECT_EQ(dag_stats(p, {1, 1, 1, 1}, false).width, 3);
    EXPECT_DOUBLE_EQ(dag_stats(p, {1, 1, 1, 1}, true).t_inf, 4);
    EXPECT_EQ(dag_stats(p, {1, 1, 1, 1}, true).width, 1);
}

TEST(DagStats, EmptyPlan) {
    const DagStats s = dag_stats(by_hand(1, {}), {}, false);
    EXPECT_EQ(s.tasks, 0);
    EXPECT_EQ(s.parallelism(), 0);
    EXPECT_TRUE(upward_ranks(by_hand(1, {}), {}, false).empty());
    EXPECT_EQ(by_hand(1, {}).largest_task_bytes(), 0);
}

TEST(UpwardRanks, ReachIntoTheNextStep) {
    // Task 0 updates what the next step's task 0 and 1 need; task 2 ends the step and nobody waits for it but its own
    // next writing.
    const Plan p = by_hand(3, {{{0, rw}}, {{0, r}, {1, w}}, {{1, r}, {2, w}}});
    const auto rank = upward_ranks(p, {1, 10, 100}, false);
    // Next step: 0' -> 1' -> 2' costs 111 from 0'.
    EXPECT_DOUBLE_EQ(rank[2], 100 + 110);       // 1' overwrites tile 1, which 2 reads: 1', 2' follow
    EXPECT_DOUBLE_EQ(rank[1], 10 + 100 + 110);  // through 2; 0' also waits for it: 10 + 111
    EXPECT_DOUBLE_EQ(rank[0], 1 + 10 + 100 + 110);
}

TEST(UpwardRanks, NeverRiseAlongAnEdge) {
    Graph g(4, 4);
    Tensor x = g.value("x", {9, 9}, DType::f32), w1 = g.value("w1", {9, 9}, DType::f32);
    Tensor loss = sum_all(relu(gemm(x, w1)));
    g.keep(gradients(loss, {w1})[0]);
    const Plan p(g);
    const auto times = estimated_times(p);
    const auto ranks = upward_ranks(p, times, false);
    const auto edges = dependencies(p, false);
    double longest = 0;
    for (size_t i = 0; i < edges.size(); ++i) {
        EXPECT_GT(times[i], 0);
        EXPECT_GE(ranks[i], times[i]);
        for (int d : edges[i]) EXPECT_GE(ranks[size_t(d)], ranks[i] + times[size_t(d)] - 1e-12);
        longest = std::max(longest, ranks[i]);
    }
    EXPECT_GE(longest, dag_stats(p, times, false).t_inf - 1e-12);
}

TEST(Plan, HoldsTilesOfUnequalGrids) {
    Graph g;
    Tensor x = g.value("x", {5, 7}, DType::f64, {{2, 3}, {1, 2, 4}});
    const Plan p(g);
    ASSERT_EQ(p.tiles.size(), 6u);
    const PlanTile& t = p.tiles[size_t(p.tile(x.id, 1, 2))];
    EXPECT_EQ(t.row, 2);
    EXPECT_EQ(t.col, 3);
    EXPECT_EQ(t.rows, 3);
    EXPECT_EQ(t.cols, 4);
    EXPECT_EQ(t.bytes, 3 * 4 * 8);
    EXPECT_EQ(p.dtype(p.tile(x.id, 1, 2)), DType::f64);
    EXPECT_EQ(p.describe_tile(p.tile(x.id, 1, 2)), "x(1,2)");
}

TEST(Plan, DropsDeadNodesAndTheirTasks) {
    Graph g;
    Tensor x = g.value("x", {2, 2}, DType::f32), y = relu(x);
    tanh(y);
    g.keep(y);
    const Plan p(g);
    ASSERT_EQ(p.tasks.size(), 1u);
    EXPECT_EQ(p.tasks[0].codelet->name, "relu_f32");
    EXPECT_EQ(p.nodes.size(), 1u);
}

TEST(Plan, FirstContributionWritesLaterOnesAccumulate) {
    Graph g(2, 2);
    Tensor y = gemm(g.value("a", {2, 6}, DType::f32), g.value("b", {6, 2}, DType::f32));
    g.keep(y);
    const Plan p(g);
    ASSERT_EQ(p.tasks.size(), 3u);
    EXPECT_EQ(p.tasks[0].tiles.back().access, Access::write);
    EXPECT_EQ(p.tasks[1].tiles.back().access, Access::accumulate);
    EXPECT_EQ(p.tasks[2].tiles.back().access, Access::accumulate);
    EXPECT_DOUBLE_EQ(p.flops(), 2 * 2 * 2 * 6);
    EXPECT_EQ(p.largest_task_bytes(), 3 * 4 * 4);
}

TEST(Plan, AListTakesAnyNumberOfTiles) {
    Graph g;
    Tensor x = g.value("x", {6, 6}, DType::f32, {cut(6, 1), cut(6, 1)});
    g.keep(retile(x, Grid::whole({6, 6})));
    const Plan p(g);
    ASSERT_EQ(p.tasks.size(), 1u);
    EXPECT_EQ(p.tasks[0].tiles.size(), 37u);
    EXPECT_EQ(p.tasks[0].tiles.back().access, Access::write);
}

uint32_t footprint(const Graph& g) {
    const Plan p(g);
    return p.tasks.at(0).footprint;
}
uint32_t gemm_footprint(Shape a, Shape b, GemmOptions o = {}) {
    Graph g;
    g.keep(gemm(g.value("a", a, DType::f32), g.value("b", b, DType::f32), o));
    return footprint(g);
}

TEST(Footprint, ShapesAndKeyEnterArgumentsThatDoNotMatterDoNot) {
    const uint32_t plain = gemm_footprint({4, 4}, {4, 4});
    EXPECT_EQ(plain, gemm_footprint({4, 4}, {4, 4}));
    EXPECT_EQ(plain, gemm_footprint({4, 4}, {4, 4}, {.alpha = 3}));
    const std::vector<uint32_t> all = {plain,
                                       gemm_footprint({4, 4}, {4, 4}, {.ta = true}),
                                       gemm_footprint({4, 4}, {4, 4}, {.tb = true}),
                                       gemm_footprint({4, 4}, {4, 4}, {.ta = true, .tb = true}),
                                       gemm_footprint({4, 4}, {4, 4}, {.tf32 = true}),
                                       gemm_footprint({4, 8}, {8, 4}),
                                       gemm_footprint({8, 4}, {4, 4}),
                                       gemm_footprint({4, 4}, {4, 8})};
    EXPECT_EQ(std::set(all.begin(), all.end()).size(), all.size());
}

TEST(Footprint, LeadingDimensionEnters) {
    const auto first_task = [](int64_t total_cols) {  // a 2 x 2 tile of a wider and wider Param
        Params params;
        Graph g;
        const std::vector<int64_t> cols =
            total_cols == 2 ? std::vector<int64_t>{2} : std::vector<int64_t>{2, total_cols - 2};
        Param& p = params.add({"p", {2, total_cols}, DType::f32, {{2}, cols}, {}, true});
        g.keep(relu(g.param(p)));
        return footprint(g);
    };
    EXPECT_EQ(first_task(5), first_task(5));
    EXPECT_NE(first_task(2), first_task(5));
    EXPECT_NE(first_task(5), first_task(6));
}

TEST(Footprint, LearningRateAndStepDoNotEnter) {
    Params params;
    Graph g;
    Tensor w1 = g.param(params.add({"w1", {2, 2}, DType::f32, {}, {}, true}));
    Tensor w2 = g.param(params.add({"w2", {2, 2}, DType::f32, {}, {}, true}));
    sgd(w1, relu(w2), 0);
    sgd(w2, relu(w1), 0.5);
    const Plan p(g);
    ASSERT_EQ(p.tasks.size(), 4u);
    EXPECT_EQ(p.tasks[1].codelet->name, "sgd_f32");
    EXPECT_EQ(p.tasks[1].footprint, p.tasks[3].footprint);
    EXPECT_NE(p.tasks[1].codelet->at_step, nullptr);
}

TEST(Dot, NamesTasksAndEdges) {
    Graph g;
    Tensor x = g.value("x", {2, 2}, DType::f32);
    {
        Graph::Layer layer(g, "fc1");
        x = relu(x);
    }
    g.keep(tanh(x));
    const std::string dot = to_dot(Plan(g), false);
    EXPECT_TRUE(dot.starts_with("digraph ")) << dot;
    EXPECT_TRUE(dot.ends_with("}\n")) << dot;
    for (const char* word : {"fc1.relu", "relu_f32", "tanh_f32", "relu(0,0)", "t0 -> t1;"})
        EXPECT_NE(dot.find(word), std::string::npos) << word << " is not in\n" << dot;
    EXPECT_EQ(dot.find("t1 -> t0"), std::string::npos);
    EXPECT_EQ(std::count(dot.begin(), dot.end(), '{'), std::count(dot.begin(), dot.end(), '}'));
}

TEST(Codelets, AreNamedByOpAndTypeOnce) {
    std::set<std::string> names;
    for (const CodeletInfo* c : all_codelets()) {
        EXPECT_TRUE(names.insert(c->name).second) << c->name;
        EXPECT_TRUE(c->name.starts_with(c->op + "_")) << c->name;
        EXPECT_FALSE(c->formula.empty()) << c->name;
        EXPECT_FALSE(c->cpu.empty()) << c->name;
        EXPECT_EQ(find_codelet(c->name), c);
        ASSERT_NE(c->starpu->cpu_funcs[0], nullptr) << c->name;
    }
    EXPECT_EQ(find_codelet("nothing"), nullptr);
}

}  // namespace
}  // namespace tessera
