// Families of tasks: each task in one, what uses a weight together, a layer's gradients with its weights.
#include "core/task_families.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/random.h"
#include "tests/draw.h"
#include "tests/plans_by_hand.h"

namespace tessera {
namespace {

constexpr Access r = Access::read, w = Access::write, rw = Access::read_write, ways[] = {r, r, w, rw};

TEST(TaskFamilies, ALayerIsOneForwardBackwardAndUpdate) {
    // Of layer k: x_k, dx_k, W_k, dW_k are tiles k, 10 + k, 20 + k, 30 + k.
    std::vector<std::vector<TileUse>> uses = {{{0, w}}};
    constexpr int layers = 3;
    for (int k = 0; k < layers; ++k) uses.push_back({{k, r}, {20 + k, r}, {k + 1, w}});
    uses.push_back({{layers, r}, {10 + layers, w}});  // the loss
    for (int k = layers - 1; k >= 0; --k) {
        uses.push_back({{k, r}, {11 + k, r}, {30 + k, w}});
        if (k > 0) uses.push_back({{11 + k, r}, {20 + k, r}, {10 + k, w}});
    }
    for (int k = 0; k < layers; ++k) uses.push_back({{30 + k, r}, {20 + k, rw}});
    const auto families = task_families(by_hand(40, uses));
    ASSERT_EQ(families.size(), 3u) << "the input goes with the first layer, the loss with one that it touches";
    EXPECT_EQ(families[0], (std::vector<int>{0, 1, 9, 10}));
    EXPECT_EQ(families[1], (std::vector<int>{2, 7, 8, 11}));
    EXPECT_EQ(families[2], (std::vector<int>{3, 4, 5, 6, 12}));
}

TEST(TaskFamilies, WithoutWeightsEachTaskIsAlone) {
    EXPECT_EQ(task_families(by_hand(2, {{{0, w}}, {{0, r}, {1, w}}})), (std::vector<std::vector<int>>{{0}, {1}}));
    EXPECT_TRUE(task_families(by_hand(1, {})).empty());
}

TEST(TaskFamilies, EachTaskIsInOneAndUsersOfWhatIsKeptAreTogether) {
    Draw draw{7};
    for (int round = 0; round < 200; ++round) {
        SCOPED_TRACE(round);
        const int tiles = int(draw.whole(1, 20));
        std::vector<std::vector<TileUse>> uses;
        for (int64_t t = draw.whole(0, 40); t > 0; --t) {
            std::set<int> used;
            for (int64_t i = draw.whole(1, 3); i > 0; --i) used.insert(int(draw.whole(0, tiles - 1)));
            auto& use = uses.emplace_back();
            for (const int tile : used) use.push_back({tile, ways[draw.whole(0, 3)]});
        }
        const auto families = task_families(by_hand(tiles, uses));
        std::vector<int> family(uses.size(), -1);
        int leader = -1;
        for (size_t f = 0; f < families.size(); ++f) {
            ASSERT_FALSE(families[f].empty());
            EXPECT_GT(families[f].front(), leader);
            leader = families[f].front();
            EXPECT_TRUE(std::is_sorted(families[f].begin(), families[f].end()));
            for (const int t : families[f]) {
                EXPECT_EQ(family[size_t(t)], -1);
                family[size_t(t)] = int(f);
            }
        }
        for (const int f : family) EXPECT_NE(f, -1);
        for (int tile = 0; tile < tiles; ++tile) {
            std::vector<std::pair<int, Access>> users;
            for (size_t t = 0; t < uses.size(); ++t)
                for (const TileUse& u : uses[t])
                    if (u.tile == tile) users.emplace_back(int(t), u.access);
            const bool kept = !users.empty() && users[0].second != w &&
                              std::any_of(users.begin(), users.end(), [](const auto& u) { return u.second != r; });
            for (const auto& [t, access] : users)
                EXPECT_TRUE(!kept || family[size_t(t)] == family[size_t(users[0].first)]) << "tile " << tile;
        }
    }
}

}  // namespace
}  // namespace tessera
