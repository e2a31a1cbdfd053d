// core/blocks.h - which device computes which part of a product, and in which order, so that little is moved: each
// device gets a near-square part of C in proportion to its speed, cut into blocks that fill its memory.
#pragma once
#include <vector>

#include "core/plan.h"

namespace tessera {

// The workers of one memory, as a product sees them.
struct BlockDevice {
    int node = 0;              // StarPU's memory node
    double speed = 1;          // flops per second, or any number in proportion if bytes_per_s is unknown; >= 0
    int64_t memory_bytes = 0;  // what it may hold; 0: no limit
    double bytes_per_s = 0;    // its part of the links to host memory; 0: unknown, or it computes there
    bool pieces = false;       // what small tiles are cut from (core/pieces.h)
    int workers = 1;           // which have the speed in equal parts: each computes tiles of C on its own
    bool cores = false;        // slow ones beside GPUs, also where it is one only
};

// Tiles of C to devices: counts in proportion to `shares` (largest remainder), regions connected and near-square. The
// grid is walked in strips, up and down; widths of strips as in Beaumont, Boudet, Rastello, Robert, "Matrix
// multiplication on heterogeneous platforms" (2001). Returns the device of every tile, row-major.
std::vector<int> assign_tiles(int64_t rows, int64_t cols, const std::vector<double>& shares);

// What each device should compute of a product of so many tiles of C and flops, in tiles: in proportion to speed, but
// of cores beside GPUs no more than they end in time. A core may need longer for one tile than GPUs for all.
std::vector<double> tile_shares(int64_t tiles, double flops, const std::vector<BlockDevice>&);

int64_t tiles_that_fit(const BlockDevice&, int64_t tile_bytes);

// Tiles of A and B beyond the row and column in use: what is loaded while those are used.
inline constexpr int64_t tiles_ahead = 5;

// A region of rows x cols tiles of C is cut into row_cuts x col_cuts blocks.
struct BlockCut {
    int64_t row_cuts = 1, col_cuts = 1;
};
struct BlockCosts {
    double task_s = 0, tile_s = 0;  // of one task, and of one tile's way over the device's part of its links
    int64_t steps = 1;              // of k
};
// Of the cuts whose blocks fit - h w tiles of C, one row and one column of tiles of A and B, and `ahead` more - the one
// that loads least: region_rows col_cuts + region_cols row_cuts tiles per step of k. With costs, the one that ends
// first: more blocks load more, but the last one's way home, which nothing hides, is shorter. One tile per block if
// none fits.
BlockCut cut_region(int64_t region_rows, int64_t region_cols, int64_t memory_tiles, int64_t ahead,
                    const BlockCosts& = {});

// For every node of the plan that is a product - each task adds to one tile, all tiles of one value, and reads none
// that the node writes - sets the owners of its tasks and their order: block by block, and within a block of h x w
// tiles by k + i/h + j/w. So a row or column of A or B stays for one step of k, what is loaded is spread evenly over
// time, and the next block begins where the last one thins out. The last task on each tile `completes` it. Nodes with
// less than two tiles stay as they are. Results are the same bits where accumulation is ordered. Returns how many nodes
// it took.
int64_t block_products(Plan&, const std::vector<BlockDevice>&);
bool in_blocks(const Plan&);  // whether it took any

}  // namespace tessera
