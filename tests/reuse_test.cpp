// Tiles that take each other's memory: when they may, that no longest path grows, and what it saves.
#include "core/reuse.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "codelets/ops.h"
#include "core/random.h"
#include "tests/plans_by_hand.h"
#include "tests/tiny_training.h"

namespace tessera {
namespace {

constexpr Access r = Access::read, w = Access::write, rw = Access::read_write, acc = Access::accumulate;

std::vector<int> reused(Plan& p, std::vector<double> times = {}) {
    if (times.empty()) times.assign(p.tasks.size(), 1);
    reuse_memory(p, times, false);
    std::vector<int> all;
    for (const PlanTile& t : p.tiles) all.push_back(t.reuses);
    return all;
}

std::vector<double> ends(const Plan& p, const std::vector<double>& times, bool memory) {
    const auto edges = dependencies(p, false, memory);
    std::vector<double> end(edges.size());
    for (size_t i = 0; i < end.size(); ++i) {
        for (int d : edges[i]) end[i] = std::max(end[i], end[size_t(d)]);
        end[i] += times[i];
    }
    return end;
}

TEST(Reuse, AChainNeedsTwoPlaces) {
    Plan p = by_hand(5, {{{0, w}}, {{0, r}, {1, w}}, {{1, r}, {2, w}}, {{2, r}, {3, w}}, {{3, r}, {4, w}}});
    EXPECT_EQ(reused(p), (std::vector<int>{-1, -1, 0, 1, 0}));
    EXPECT_EQ(memory_bytes(p), 2 * 4);
    forget_reuse(p);
    EXPECT_EQ(memory_bytes(p), 5 * 4);
}

TEST(Reuse, OperatorsSideBySideStaySo) {  // one after the other they would need one place
    Plan p = by_hand(5, {{{0, w}}, {{0, r}, {1, w}}, {{1, r}, {3, w}}, {{0, r}, {2, w}}, {{2, r}, {4, w}}});
    EXPECT_EQ(reused(p)[2], -1);
}

TEST(Reuse, WhatEndsEarlierMayBeTakenAndNotWhatEndsLater) {
    const std::vector<std::vector<TileUse>> uses{{{0, w}}, {{0, r}}, {{1, w}}, {{1, r}, {2, w}}};
    Plan p = by_hand(3, uses), q = by_hand(3, uses);
    EXPECT_EQ(reused(p, {1, 1, 1, 1})[2], -1);  // 0 is free after 2 seconds, 2 is written after 1
    EXPECT_EQ(reused(q, {1, 1, 5, 1})[2], 0);   // after 5
}

TEST(Reuse, OfSeveralTheOneUsedLast) {
    Plan p = by_hand(4, {{{0, w}}, {{1, w}}, {{2, w}}, {{2, r}, {3, w}}});
    EXPECT_EQ(reused(p, {1, 3, 4, 1})[3], 1);
}

TEST(Reuse, WhatIsReadFirstKeptBufferedOrAParameterKeepsItsMemory) {
    Graph g;
    Params params;
    const Shape s{4, 4};
    const Param& weight = params.add({.name = "w", .shape = s, .grid = Grid::whole(s), .initial = {}});
    Tensor x = g.value("x", s, DType::f32), b = g.buffered("b", s, DType::f32, Grid::whole(s));
    Tensor y = relu(relu(relu(relu(add(add(x, b), g.param(weight))))));
    Tensor seen = relu(relu(y));
    g.keep(seen), g.keep(sum_all(relu(relu(seen))));
    Plan p(g);
    EXPECT_GT(reuse_memory(p, estimated_times(p), false), 0);
    for (const PlanTile& t : p.tiles) {
        const PlanValue& v = p.values[size_t(t.value)];
        const bool fixed = v.name == "x" || v.param || v.buffered || v.kept;
        EXPECT_TRUE(!fixed || t.reuses < 0) << v.name;
        if (t.reuses < 0) continue;
        const PlanValue& other = p.values[size_t(p.tiles[size_t(t.reuses)].value)];
        EXPECT_FALSE(other.name == "x" || other.param || other.buffered || other.kept) << other.name;
    }
}

TEST(Reuse, KeptViewsKeepTheirParts) {
    Graph g;
    const Shape s{4, 4};
    Tensor x = g.value("x", s, DType::f32), a = relu(x), b = relu(a);
    g.keep(g.view("v", {{a, 0, 1}, {b, 0, 1}}));
    g.keep(relu(relu(relu(b))));
    Plan p(g);
    reuse_memory(p, estimated_times(p), false);
    for (const PlanTile& t : p.tiles)
        if (t.reuses >= 0) {
            EXPECT_NE(t.reuses, p.tile(a.id, 0, 0));
            EXPECT_NE(t.reuses, p.tile(b.id, 0, 0));
        }
}

TEST(Reuse, OnlySameExtentsAndTypes) {
    Graph g;
    Tensor x = g.value("x", {4, 8}, DType::f32);
    Tensor y = transpose(relu(transpose(relu(transpose(relu(x))))));
    g.keep(sum_all(cast(cast(y, DType::f64), DType::f32)));
    Plan p(g);
    EXPECT_GT(reuse_memory(p, estimated_times(p), false), 0);
    for (size_t k = 0; k < p.tiles.size(); ++k)
        if (const int other = p.tiles[k].reuses; other >= 0) {
            EXPECT_EQ(p.shape(int(k)).rows, p.shape(other).rows);
            EXPECT_EQ(p.shape(int(k)).cols, p.shape(other).cols);
            EXPECT_EQ(p.dtype(int(k)), p.dtype(other));
        }
}

// Tasks on random tiles, the first access to some of them a writing one.
Plan random_plan(uint64_t seed, int tiles, int tasks) {
    auto draw = [&, n = uint64_t(0)](int below) mutable { return int(random_bits(seed, 7, n++) % uint64_t(below)); };
    std::vector<std::vector<TileUse>> uses;
    std::vector<bool> written(static_cast<size_t>(tiles));
    for (int i = 0; i < tasks; ++i) {
        std::vector<TileUse> task;
        for (int u = draw(3); u >= 0; --u) {
            const int tile = std::min(tiles - 1, i * tiles / tasks + draw(4));
            if (std::any_of(task.begin(), task.end(), [&](const TileUse& t) { return t.tile == tile; })) continue;
            const Access later[] = {r, r, r, acc, rw, w};
            task.push_back({tile, written[size_t(tile)] || draw(8) == 0 ? later[draw(6)] : w});
            written[size_t(tile)] = true;
        }
        uses.push_back(std::move(task));
    }
    return by_hand(tiles, std::move(uses));
}

TEST(Reuse, OfRandomPlansNoPathGrowsAndNoTwoMeet) {
    int64_t saved = 0;
    for (uint64_t seed = 1; seed <= 200; ++seed) {
        Plan p = random_plan(seed, 60, 150);
        std::vector<double> times;
        for (size_t i = 0; i < p.tasks.size(); ++i) times.push_back(double(1 + random_bits(seed, 9, i) % 8));
        const auto before = ends(p, times, false);
        const int64_t all = memory_bytes(p), less = reuse_memory(p, times, false);
        saved += less;
        EXPECT_EQ(memory_bytes(p), all - less);
        EXPECT_EQ(ends(p, times, true), before) << "seed " << seed;
        std::vector<int> first(p.tiles.size(), -1), last(p.tiles.size(), -1);
        for (size_t i = 0; i < p.tasks.size(); ++i)
            for (const TileUse& u : p.tasks[i].tiles) {
                if (first[size_t(u.tile)] < 0) first[size_t(u.tile)] = int(i);
                last[size_t(u.tile)] = int(i);
            }
        for (size_t a = 0; a < p.tiles.size(); ++a)
            for (size_t b = 0; b < a; ++b)
                if (first[a] >= 0 && first[b] >= 0 && p.place(int(a)) == p.place(int(b))) {
                    EXPECT_TRUE(last[a] < first[b] || last[b] < first[a]) << "seed " << seed << ": " << a << ", " << b;
                }
    }
    EXPECT_GT(saved, 0);
}

// --- when it runs ------------------------------------------------------------------------------------------------

TEST(ReuseInRuns, SameBitsInLessMemory) {
    using namespace testing_tools;
    const Runtime runtime(with_workers(2));
    const Dataset data = make_digits(320, 1);
    TinyTraining t;
    t.network.hidden = {32, 32, 32, 32, 32, 32}, t.train.tile_batch = 16, t.executor.deterministic = true;
    int64_t bytes[2];
    std::vector<double> losses[2];
    for (bool reuse : {false, true}) {
        t.executor.reuse = reuse;
        losses[reuse] = losses_of(runtime, t, data, [&](Executor& executor) {
            const auto live = executor.live_bytes();
            bytes[reuse] = std::accumulate(live.begin(), live.end(), int64_t(0));
        });
    }
    EXPECT_EQ(losses[0], losses[1]);
    EXPECT_LT(bytes[1], bytes[0]);
}

TEST(ReuseInRuns, AValueThatIsGoneIsNotRead) {
    const Runtime runtime(testing_tools::with_workers(2));
    Graph g;
    Tensor x = g.value("x", {4, 4}, DType::f32), a = relu(x), kept = relu(a), y = relu(relu(relu(kept)));
    g.keep(kept), g.keep(y);
    Executor executor(runtime, {});
    const int plan = executor.load(Plan(g));
    std::vector<double> values(16, -1.0);
    values[3] = 5;
    executor.write(plan, x, values);
    executor.submit(plan, {});
    values.assign(16, 0.0), values[3] = 5;
    EXPECT_EQ(executor.read(plan, kept), values);
    EXPECT_EQ(executor.read(plan, y), values);
    try {
        executor.read(plan, a);
        ADD_FAILURE() << "read from memory that another value has taken";
    } catch (const std::invalid_argument& e) {
        EXPECT_NE(std::string(e.what()).find("keep() what is to be read"), std::string::npos) << e.what();
    }
}

}  // namespace
}  // namespace tessera
