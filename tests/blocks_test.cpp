// blocks_test.cpp - which device computes which tiles of a product, and in blocks of which size: shares, connected
// near-square regions, the best cut against brute force.
#include "core/blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <string>

#include "tests/draw.h"

namespace tessera {
namespace {

// --- tiles to devices --------------------------------------------------------------------------------------------

std::vector<int64_t> counts_of(const std::vector<int>& owner, size_t devices) {
    std::vector<int64_t> counts(devices);
    for (int d : owner) {
        if (d < 0 || size_t(d) >= devices) ADD_FAILURE() << "a tile belongs to device " << d << " of " << devices;
        else ++counts[size_t(d)];
    }
    return counts;
}

// Connected pieces of the tiles of one device.
int pieces_of(const std::vector<int>& owner, int64_t rows, int64_t cols, int device) {
    std::vector<bool> seen(owner.size());
    int pieces = 0;
    for (int64_t start = 0; start < rows * cols; ++start) {
        if (seen[size_t(start)] || owner[size_t(start)] != device) continue;
        ++pieces;
        std::vector<int64_t> open{start};
        seen[size_t(start)] = true;
        while (!open.empty()) {
            const int64_t i = open.back() / cols, j = open.back() % cols;
            open.pop_back();
            for (const auto& [a, b] : {std::pair(i - 1, j), {i + 1, j}, {i, j - 1}, {i, j + 1}}) {
                const size_t at = size_t(a * cols + b);
                if (a < 0 || a >= rows || b < 0 || b >= cols || seen[at] || owner[at] != device) continue;
                seen[at] = true;
                open.push_back(a * cols + b);
            }
        }
    }
    return pieces;
}

// Rows and columns of tiles that a device needs: what it reads of A and B per step of k.
int64_t lines_of(const std::vector<int>& owner, int64_t cols, int device) {
    std::set<int64_t> rows, columns;
    for (size_t at = 0; at < owner.size(); ++at)
        if (owner[at] == device) rows.insert(int64_t(at) / cols), columns.insert(int64_t(at) % cols);
    return int64_t(rows.size() + columns.size());
}

void expect_in_proportion(const std::vector<int64_t>& counts, const std::vector<double>& shares,
                          const std::string& what) {
    const double all = double(std::accumulate(counts.begin(), counts.end(), int64_t(0))),
                 sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    for (size_t d = 0; d < shares.size(); ++d) {
        const double exact = all * shares[d] / sum;
        // One tile from whole numbers; three of a hundred at either end from whole rows.
        EXPECT_LE(std::abs(double(counts[d]) - exact), 1 + 2 * 0.03 * (exact + 1) + 1e-9)
            << counts[d] << " tiles for " << exact << ", device " << d << what;
    }
}

TEST(AssignTiles, EqualDevicesGetQuadrants) {
    const auto owner = assign_tiles(20, 20, {1, 1, 1, 1});
    for (int d = 0; d < 4; ++d) {
        EXPECT_EQ(std::count(owner.begin(), owner.end(), d), 100);
        EXPECT_EQ(lines_of(owner, 20, d), 20) << "10 x 10 tiles";
    }
}

TEST(AssignTiles, CountsFollowSharesWhereNothingIsRounded) {
    const auto owner = assign_tiles(12, 10, {3, 1, 2});
    EXPECT_EQ(counts_of(owner, 3), (std::vector<int64_t>{60, 20, 40}));
}

TEST(AssignTiles, WholeRowsWhereThatCostsLittle) {
    const auto owner = assign_tiles(100, 100, {0.5001, 0.4999});  // 5001 tiles: one more than whole rows or columns
    EXPECT_EQ(counts_of(owner, 2), (std::vector<int64_t>{5000, 5000}));
    const auto ragged = assign_tiles(10, 10, {0.55, 0.45});  // half a row is more than a little
    EXPECT_EQ(counts_of(ragged, 2), (std::vector<int64_t>{55, 45}));
}

TEST(AssignTiles, RandomGridsAndShares) {
    for (uint64_t seed = 0; seed < 3000; ++seed) {
        Draw draw{seed};
        const int64_t rows = draw.whole(1, 40), cols = draw.whole(1, 40);
        std::vector<double> shares(size_t(draw.whole(1, 8)));
        for (double& s : shares) s = draw.real(1, 8);
        const std::string what = ", " + std::to_string(rows) + " x " + std::to_string(cols) + " tiles, " +
                                 std::to_string(shares.size()) + " devices, seed " + std::to_string(seed);
        const auto owner = assign_tiles(rows, cols, shares);
        ASSERT_EQ(owner.size(), size_t(rows * cols)) << what;
        const auto counts = counts_of(owner, shares.size());
        expect_in_proportion(counts, shares, what);
        for (size_t d = 0; d < shares.size(); ++d)
            EXPECT_LE(pieces_of(owner, rows, cols, int(d)), 2) << "device " << d << what;
        if (HasFailure()) return;
    }
}

TEST(AssignTiles, LargeRegionsAreConnectedAndNearSquare) {
    for (uint64_t seed = 0; seed < 300; ++seed) {
        Draw draw{seed};
        const int64_t rows = draw.whole(24, 60), cols = draw.whole(24, 60);
        std::vector<double> shares(size_t(draw.whole(2, 8)));
        for (double& s : shares) s = draw.real(1, 8);
        const auto owner = assign_tiles(rows, cols, shares);
        const auto counts = counts_of(owner, shares.size());
        double lines = 0, least = 0;
        for (size_t d = 0; d < shares.size(); ++d) {
            EXPECT_EQ(pieces_of(owner, rows, cols, int(d)), 1) << "device " << d << ", seed " << seed;
            lines += double(lines_of(owner, cols, int(d)));
            least += 2 * std::sqrt(double(counts[d]));
        }
        EXPECT_LE(lines, 1.45 * least) << rows << " x " << cols << ", " << shares.size() << " devices, seed " << seed;
    }
}

TEST(AssignTiles, Degenerate) {
    EXPECT_EQ(assign_tiles(1, 1, {5}), std::vector<int>{0});
    for (int64_t n : {1, 2, 7, 64, 1000})
        for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, n}, {n, 1}}) {
            const std::vector<double> shares{1, 2, 3};
            const auto owner = assign_tiles(rows, cols, shares);
            ASSERT_EQ(owner.size(), size_t(n));
            expect_in_proportion(counts_of(owner, 3), shares, " of a line of " + std::to_string(n));
            for (int d = 0; d < 3; ++d) EXPECT_LE(pieces_of(owner, rows, cols, d), 1) << "a line of " << n;
        }
    const auto few = counts_of(assign_tiles(2, 2, {1, 1, 1, 1, 1, 1, 1, 1}), 8);  // more devices than tiles
    EXPECT_EQ(*std::max_element(few.begin(), few.end()), 1);
    EXPECT_EQ(std::accumulate(few.begin(), few.end(), int64_t(0)), 4);
    const auto one = counts_of(assign_tiles(1, 1, {1, 1, 4, 1}), 4);
    EXPECT_EQ(one[2], 1) << "the only tile is the fastest device's";
    const auto none = counts_of(assign_tiles(10, 10, {1, 1e-4, 1}), 3);  // a share that rounds to no tile
    EXPECT_EQ(none, (std::vector<int64_t>{50, 0, 50}));
}

// --- cuts --------------------------------------------------------------------------------------------------------

int64_t blocks_over(int64_t extent, int64_t block) { return (extent + block - 1) / block; }

TEST(CutRegion, LoadsLeastOfAllBlocksThatFit) {
    for (uint64_t seed = 0; seed < 2000; ++seed) {
        Draw draw{seed};
        const int64_t rows = draw.whole(1, 30), cols = draw.whole(1, 30), ahead = draw.whole(0, 6);
        const int64_t memory = draw.whole(1, 400);
        double least = std::numeric_limits<double>::infinity();
        for (int64_t h = 1; h <= rows; ++h)
            for (int64_t w = 1; w <= cols; ++w)
                if (h * w + h + w + ahead <= memory)
                    least = std::min(least, double(rows * blocks_over(cols, w) + cols * blocks_over(rows, h)));
        const BlockCut got = cut_region(rows, cols, memory, ahead);
        const std::string what = std::to_string(rows) + " x " + std::to_string(cols) + " tiles, room for " +
                                 std::to_string(memory) + ", " + std::to_string(ahead) + " ahead, seed " +
                                 std::to_string(seed);
        if (std::isinf(least)) {
            EXPECT_TRUE(got.row_cuts == rows && got.col_cuts == cols) << "one tile per block: " << what;
            continue;
        }
        const int64_t h = blocks_over(rows, got.row_cuts), w = blocks_over(cols, got.col_cuts);
        EXPECT_LE(h * w + h + w + ahead, memory) << what;
        EXPECT_EQ(double(rows * got.col_cuts + cols * got.row_cuts), least) << what;
    }
}

TEST(CutRegion, OneBlockWhereAllFits) {
    const BlockCut got = cut_region(7, 9, std::numeric_limits<int64_t>::max(), 5);
    EXPECT_TRUE(got.row_cuts == 1 && got.col_cuts == 1);
}

TEST(CutRegion, CostsMayTradeTrafficForAShortWayHome) {
    for (uint64_t seed = 0; seed < 500; ++seed) {
        Draw draw{seed};
        const int64_t rows = draw.whole(1, 30), cols = draw.whole(1, 30), memory = draw.whole(8, 400);
        const BlockCosts costs{draw.real(0.5, 2), draw.real(0, 1), draw.whole(1, 40)};
        const BlockCut free = cut_region(rows, cols, memory, 5), got = cut_region(rows, cols, memory, 5, costs);
        const int64_t h = blocks_over(rows, got.row_cuts), w = blocks_over(cols, got.col_cuts);
        const auto load = [&](const BlockCut& c) { return rows * c.col_cuts + cols * c.row_cuts; };
        EXPECT_LE(h * w + h + w + 5, memory) << "seed " << seed;
        EXPECT_GE(load(got), load(free)) << "seed " << seed;
        // Where the link is what limits, nothing is traded: its time counts twice.
        const BlockCut bound = cut_region(rows, cols, memory, 5, {1e-9, 1, 1000});
        EXPECT_EQ(load(bound), load(free)) << "seed " << seed;
    }
}

TEST(TilesThatFit, AreCutFromPiecesUnlessTheyAreLarge) {
    constexpr int64_t mebibyte = 1 << 20;
    const auto fit = [](int64_t memory_bytes, int64_t tile_bytes, bool pieces) {
        return tiles_that_fit({.memory_bytes = memory_bytes, .pieces = pieces}, tile_bytes);
    };
    EXPECT_EQ(fit(250 * mebibyte, 960 * 960 * 4, true), 7 * 9);
    EXPECT_EQ(fit(250 * mebibyte, 960 * 960 * 4, false), 71);
    EXPECT_EQ(fit(64 * mebibyte, 1, true), 2 * 2048) << "16 KiB at least";
    EXPECT_EQ(fit(31 * mebibyte, mebibyte, true), 0);
    EXPECT_EQ(fit(64 * mebibyte, 4 * mebibyte, true), 16);
    EXPECT_EQ(fit(64 * mebibyte, 4 * mebibyte + 1, true), 15) << "allocated one by one";
    EXPECT_EQ(fit(0, mebibyte, true), std::numeric_limits<int64_t>::max()) << "no limit";
}

}  // namespace
}  // namespace tessera
