// bounds_test.cpp - the area bound against closed forms, a greedy optimum and brute force; the critical path of steps
// that overlap, on plans small enough to see.
#include "core/bounds.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "codelets/ops.h"
#include "core/error.h"
#include "core/random.h"

namespace tessera {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
constexpr double relative = 1e-9;

void expect_close(double got, double expected, const std::string& what = {}) {
    EXPECT_TRUE(std::abs(got - expected) <= relative * std::max(1e-12, std::abs(expected)))
        << got << " for " << expected << " " << what;
}

// --- area --------------------------------------------------------------------------------------------------------

TEST(AreaBound, OneKindIsTheSumOverTheWorkers) {
    expect_close(area_bound({{10, {2.0}}}, {4}), 5);
    expect_close(area_bound({{10, {2.0}}, {3, {0.5}}, {1, {7.0}}}, {3}), 28.5 / 3);
    expect_close(area_bound({{1e6, {1e-6}}}, {1}), 1);                     // tiny and
    expect_close(area_bound({{1, {1e6}}}, {2}), 5e5);                      // huge times
    expect_close(area_bound({{1, {1e6}}, {1, {1e-6}}}, {1}), 1e6 + 1e-6);  // in one program
}

TEST(AreaBound, OneClassOnSeveralKindsSharesByRate) {  // count / sum of workers / time
    expect_close(area_bound({{100, {2.0, 0.5}}}, {4, 2}), 100 / (4 / 2.0 + 2 / 0.5));
    expect_close(area_bound({{100, {2.0, 0.5, 0.1}}}, {4, 2, 1}), 100 / (4 / 2.0 + 2 / 0.5 + 1 / 0.1));
    expect_close(area_bound({{100, {2.0, nan, 0.1}}}, {4, 2, 1}), 100 / (4 / 2.0 + 1 / 0.1));
    expect_close(area_bound({{100, {2.0, 0.5}}}, {4, 0}), 50);  // no worker of a kind
}

TEST(AreaBound, AClassTiedToOneKindLeavesTheOthersForTheRest) {
    // 4 s of class 0 only on kind 0; class 1 takes 1 s on both: 4 + a = b, a + b = 10
    expect_close(area_bound({{4, {1.0, nan}}, {10, {1.0, 1.0}}}, {1, 1}), 7);
    // so much of class 0 that kind 1 does all the rest
    expect_close(area_bound({{40, {1.0, infinity}}, {10, {1.0, 1.0}}}, {1, 1}), 40);
    expect_close(area_bound({{3, {nan, 2.0}}, {5, {1.0, nan}}}, {1, 1}), 6);
}

TEST(AreaBound, NothingToDoTakesNoTime) {
    EXPECT_EQ(area_bound({}, {2}), 0);
    expect_close(area_bound({{0, {1.0}}}, {2}), 0);
}

TEST(AreaBound, AClassThatRunsNowhereIsAnError) {
    EXPECT_THROW(area_bound({{1, {1.0, 1.0}}, {1, {nan, nan}}}, {1, 1}), Error);
    EXPECT_THROW(area_bound({{1, {1.0, 1.0}}, {1, {infinity, nan}}}, {1, 1}), Error);
    EXPECT_THROW(area_bound({{1, {1.0, 1.0}}, {1, {nan, 1.0}}}, {1, 0}), Error) << "there is no worker of its kind";
    EXPECT_THROW(area_bound({{1, {nan}}}, {1}), Error) << "alone";
    EXPECT_THROW(area_bound({{1, {1.0}}}, {0}), Error) << "no worker at all";
}

// Two kinds: classes sorted by how much faster kind 1 is; some prefix goes to kind 1, and one class is split.
double greedy(std::vector<WorkClass> classes, double workers0, double workers1) {
    std::sort(classes.begin(), classes.end(),
              [](auto& a, auto& b) { return a.time_s[0] / a.time_s[1] > b.time_s[0] / b.time_s[1]; });
    double load0 = 0, load1 = 0;
    for (auto& c : classes) load0 += c.count * c.time_s[0];
    for (auto& c : classes) {
        // x of the class move while kind 0 has more per worker: (load0 - x t0) / w0 = (load1 + x t1) / w1
        const double x = std::min(
            c.count, (load0 / workers0 - load1 / workers1) / (c.time_s[0] / workers0 + c.time_s[1] / workers1));
        if (x <= 0) break;
        load0 -= x * c.time_s[0], load1 += x * c.time_s[1];
    }
    return std::max(load0 / workers0, load1 / workers1);
}

TEST(AreaBound, TwoKindsAgainstTheGreedyOptimum) {
    for (uint64_t seed = 0; seed < 200; ++seed) {
        uint64_t index = 0;
        const auto draw = [&] { return 0.01 + double(random_uniform(seed, 1, index++)); };
        std::vector<WorkClass> classes(1 + size_t(seed % 12));
        for (auto& c : classes) c = {std::floor(1 + 100 * draw()), {draw(), draw() * draw()}};
        const int a = 1 + int(seed % 7), b = 1 + int(seed % 3);
        expect_close(area_bound(classes, {a, b}), greedy(classes, a, b), "seed " + std::to_string(seed));
    }
}

// Three kinds, two classes, each split on a grid of 1/60: the bound is below the best split and near it.
TEST(AreaBound, ThreeKindsAgainstEverySplitOfAGrid) {
    constexpr int parts = 60;
    for (uint64_t seed = 0; seed < 6; ++seed) {
        uint64_t index = 0;
        const auto draw = [&] { return 0.2 + double(random_uniform(seed, 2, index++)); };
        const std::vector<WorkClass> classes = {{30, {draw(), draw(), draw()}}, {20, {draw(), draw(), draw()}}};
        const std::vector<int> workers = {1 + int(seed % 3), 2, 1};
        double best = infinity;
        for (int i = 0; i <= parts; ++i)
            for (int j = 0; i + j <= parts; ++j)
                for (int k = 0; k <= parts; ++k)
                    for (int l = 0; k + l <= parts; ++l) {
                        const int split[2][3] = {{i, j, parts - i - j}, {k, l, parts - k - l}};
                        double longest = 0;
                        for (size_t kind = 0; kind < 3; ++kind) {
                            double load = 0;
                            for (size_t c = 0; c < 2; ++c)
                                load += classes[c].count * split[c][kind] / parts * classes[c].time_s[kind];
                            longest = std::max(longest, load / workers[kind]);
                        }
                        best = std::min(best, longest);
                    }
        const double bound = area_bound(classes, workers);
        EXPECT_LE(bound, best * (1 + relative)) << seed;
        EXPECT_GE(bound, best * (1 - 4.0 / parts)) << seed;
    }
}

// --- transfers ---------------------------------------------------------------------------------------------------

TEST(TransferBound, ByHand) {
    // One GPU, 10 tasks of 1 s, each needs 5 bytes over a link of 2 bytes/s: 25 s, unless the link does not limit.
    const std::vector<WorkClass> one_class = {{10, {nan, 1.0}, {0, 5}}};
    expect_close(transfer_bound(one_class, {1, 1}, {0, 2}), 25);
    expect_close(transfer_bound(one_class, {1, 1}, {0, 100}), 10);
    expect_close(transfer_bound(one_class, {1, 1}, {0, 0}), 10);
    expect_close(transfer_bound(one_class, {1, 1}, {}), 10);
    // The CPU, ten times slower, takes what the link cannot bring: x / 2 * 5 = (10 - x) * 10.
    const double x = 100.0 / 12.5;
    expect_close(transfer_bound({{10, {10.0, 1.0}, {0, 5}}}, {1, 1}, {0, 2}), (10 - x) * 10);
}

// Two classes, a CPU and a GPU with a link, each class split on a fine grid.
TEST(TransferBound, AgainstEverySplitOfAGrid) {
    constexpr int parts = 400;
    for (uint64_t seed = 0; seed < 20; ++seed) {
        uint64_t index = 0;
        const auto draw = [&] { return 0.2 + double(random_uniform(seed, 3, index++)); };
        const std::vector<WorkClass> classes = {{30, {4 * draw(), draw()}, {0, 3 * draw()}},
                                                {20, {4 * draw(), draw()}, {0, 3 * draw()}}};
        const std::vector<double> rates = {0, draw()};
        double best = infinity;
        for (int i = 0; i <= parts; ++i)
            for (int j = 0; j <= parts; ++j) {
                const double gpu[2] = {30.0 * i / parts, 20.0 * j / parts};
                double cpu_s = 0, gpu_s = 0, link_s = 0;
                for (size_t c = 0; c < 2; ++c) {
                    cpu_s += (classes[c].count - gpu[c]) * classes[c].time_s[0];
                    gpu_s += gpu[c] * classes[c].time_s[1];
                    link_s += gpu[c] * classes[c].link_bytes[1] / rates[1];
                }
                best = std::min(best, std::max({cpu_s / 2, gpu_s, link_s}));
            }
        const double bound = transfer_bound(classes, {2, 1}, rates);
        EXPECT_LE(bound, best * (1 + relative)) << seed;
        EXPECT_GE(bound, best * (1 - 8.0 / parts)) << seed;
        EXPECT_GE(bound, area_bound(classes, {2, 1}) * (1 - relative)) << seed;
    }
}

// --- critical path -----------------------------------------------------------------------------------------------

constexpr auto f32 = DType::f32;
const Grid one = Grid::whole({1, 1});

// Times of the tasks in plan order.
double path(const Graph& g, const std::vector<double>& times, bool ordered = false) {
    const Plan plan(g);
    EXPECT_EQ(plan.tasks.size(), times.size());
    return critical_path(plan, times, ordered);
}

TEST(CriticalPath, OneTask) {
    Graph g;
    g.keep(fill(g, {1, 1}, f32, one, 1));
    expect_close(path(g, {3}), 3);  // the next step writes the same tile
}

TEST(CriticalPath, IndependentTasksDoNotAddUp) {
    Graph g;
    for (int i = 0; i < 4; ++i) g.keep(fill(g, {1, 1}, f32, one, 1));
    expect_close(path(g, {3, 1, 5, 2}), 5);
}

TEST(CriticalPath, AChainIsPipelinedOverSteps) {
    // a -> b -> c, each through a tile of its own: the next step's a may start when b has read; so two neighbours bind
    Graph g;
    g.keep(relu(relu(relu(g.value("x", {1, 1}, f32)))));
    expect_close(path(g, {1, 1, 1}), 2);
    expect_close(path(g, {5, 1, 1}), 6);
    expect_close(path(g, {1, 1, 5}), 6);
    expect_close(path(g, {1, 5, 1}), 6);
}

TEST(CriticalPath, AnUpdateTiesTheStepsTogether) {
    // y = w x, then w -= lr y (as a gradient): the product of the next step needs the updated w
    Params params;
    Param& w = params.add({"w", {1, 1}, f32, {}, nullptr});
    Graph g;
    Tensor x = g.value("x", {1, 1}, f32), y = mul(g.param(w), x);
    for (int i = 0; i < 3; ++i) y = relu(y);
    sgd(g.param(w), y, 0);
    expect_close(path(g, {1, 2, 4, 8, 16}), 31);
}

TEST(CriticalPath, AccumulationsCommuteUnlessOrdered) {
    // four products into one tile: the first writes, three add
    Graph g;
    Tensor a = g.value("a", {1, 4}, f32, {{1}, {1, 1, 1, 1}}), b = g.value("b", {4, 1}, f32, {{1, 1, 1, 1}, {1}});
    g.keep(gemm(a, b));
    expect_close(path(g, {1, 2, 3, 4}, true), 10);
    expect_close(path(g, {1, 2, 3, 4}, false), 1 + 4);
}

TEST(CriticalPath, IsNeverAboveTheSumAndNotBelowTheLongestTask) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
        Graph g;
        std::vector<Tensor> all = {g.value("x", {1, 1}, f32), g.value("y", {1, 1}, f32)};
        for (uint64_t i = 0; i < 15; ++i) {
            const auto any = [&](uint64_t k) { return all[random_bits(seed, k, i) % all.size()]; };
            all.push_back(add(any(1), any(2)));
            g.keep(all.back());
        }
        std::vector<double> times;
        double sum = 0, most = 0;
        for (uint64_t i = 0; i < 15; ++i)
            times.push_back(double(1 + random_bits(seed, 3, i) % 20)), sum += times.back(),
                most = std::max(most, times.back());
        for (bool ordered : {false, true}) {
            const double p = path(g, times, ordered);
            EXPECT_LE(p, sum * (1 + relative));
            EXPECT_GE(p, most * (1 - relative));
        }
    }
}

// --- both --------------------------------------------------------------------------------------------------------

TEST(StepBound, NamesTheOneThatBinds) {
    Graph g;
    for (int i = 0; i < 4; ++i) g.keep(fill(g, {1, 1}, f32, one, 1));
    const Plan plan(g);
    const std::vector<double> times = {1, 1, 1, 1};
    const Bound few = step_bound(plan, times, false, {{4, {1.0}}}, {2});
    EXPECT_EQ(few.kind, "area");
    expect_close(few.seconds, 2);
    const Bound many = step_bound(plan, times, false, {{4, {1.0}}}, {16});
    EXPECT_EQ(many.kind, "critical path");
    expect_close(many.seconds, 1);
}

}  // namespace
}  // namespace tessera
