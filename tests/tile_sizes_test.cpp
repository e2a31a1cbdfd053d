// tile_sizes_test.cpp - which tiles take the same of a memory.
#include "core/tile_sizes.h"

#include <gtest/gtest.h>

#include "tests/plans_by_hand.h"

namespace tessera {
namespace {

Plan of_sizes(const std::vector<int64_t>& bytes) {
    Plan p = by_hand(int(bytes.size()), {});
    for (size_t i = 0; i < bytes.size(); ++i) p.tiles[i].bytes = bytes[i];
    return p;
}

TEST(TileSizes, WithoutAPlanATileTakesItsOwn) { EXPECT_EQ(TileSizes().taken(1234), 1234); }

TEST(TileSizes, ThoseOfAboutOneSizeTakeTheLargest) {
    TileSizes sizes;
    sizes.add(of_sizes({1010 * 1010, 1010 * 1011, 1011 * 1011, 500}));
    for (const int64_t bytes : {1010 * 1010, 1010 * 1011, 1011 * 1011}) EXPECT_EQ(sizes.taken(bytes), 1011 * 1011);
    EXPECT_EQ(sizes.taken(500), 500);
    EXPECT_EQ(sizes.taken(499), 500);
    EXPECT_EQ(sizes.taken(1011 * 1011 + 1), 1011 * 1011 + 1) << "never less than it needs";
}

// 900 is near 950, but not near 1000, which 950 takes.
TEST(TileSizes, NoneTakesMoreThanASixteenthBeyondItsOwn) {
    TileSizes sizes;
    sizes.add(of_sizes({900, 950, 1000, 1}));
    EXPECT_EQ(sizes.taken(1000), 1000);
    EXPECT_EQ(sizes.taken(950), 1000);
    EXPECT_EQ(sizes.taken(900), 900);
    for (int64_t bytes = 1; bytes < 1100; ++bytes) {
        EXPECT_GE(sizes.taken(bytes), bytes);
        EXPECT_LE(sizes.taken(bytes), bytes + bytes / 16);
    }
}

TEST(TileSizes, WhatIsTakenTakesNoMore) {
    TileSizes sizes;
    sizes.add(of_sizes({100, 95, 200}));
    sizes.add(of_sizes({98, 104, 190, 50}));
    for (const int64_t bytes : {50, 95, 98, 100, 104, 190, 200})
        EXPECT_EQ(sizes.taken(sizes.taken(bytes)), sizes.taken(bytes));
}

}  // namespace
}  // namespace tessera
