#include "core/blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>

#include "core/pieces.h"
#include "core/tile_sizes.h"

namespace tessera {
namespace {

// Whole numbers in proportion to `shares` that sum up to `total`.
std::vector<int64_t> apportion(int64_t total, const std::vector<double>& shares) {
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    std::vector<int64_t> counts;
    std::vector<std::pair<double, size_t>> rest;
    int64_t left = total;
    for (size_t i = 0; i < shares.size(); ++i) {
        const double exact = double(total) * shares[i] / sum;
        counts.push_back(int64_t(exact));
        left -= counts.back();
        rest.emplace_back(-(exact - std::floor(exact)), i);
    }
    std::sort(rest.begin(), rest.end());
    for (size_t i = 0; left > 0; ++i, --left) ++counts[rest[i % rest.size()].second];
    return counts;
}

// Where sorted shares are divided into strips so that the sum of half perimeters is least: a strip of k devices with
// share s in sum is s wide and each device's part in it spans that width.
std::vector<std::vector<size_t>> strips_of(int64_t rows, int64_t cols, const std::vector<double>& shares) {
    std::vector<size_t> order(shares.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return shares[a] > shares[b]; });
    const size_t n = shares.size();
    std::vector<double> best(n + 1, std::numeric_limits<double>::infinity());
    std::vector<size_t> begin(n + 1);
    best[0] = 0;
    for (size_t end = 1; end <= n; ++end)
        for (size_t first = 0; first < end; ++first) {
            double width = 0;
            for (size_t i = first; i < end; ++i) width += shares[order[i]];
            const double cost = best[first] + double(cols) * width * double(end - first) + double(rows);
            if (cost < best[end]) best[end] = cost, begin[end] = first;
        }
    std::vector<std::vector<size_t>> strips;
    for (size_t end = n; end > 0; end = begin[end])
        strips.insert(strips.begin(),
                      std::vector<size_t>(order.begin() + int64_t(begin[end]), order.begin() + int64_t(end)));
    return strips;
}

}  // namespace

std::vector<int> assign_tiles(int64_t rows, int64_t cols, const std::vector<double>& shares) {
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    std::vector<double> part;
    for (double s : shares) part.push_back(s / sum);
    const auto strips = strips_of(rows, cols, part);
    std::vector<double> widths;
    for (const auto& strip : strips) {
        widths.push_back(0);
        for (size_t d : strip) widths.back() += part[d];
    }
    const auto columns = apportion(cols, widths);
    const auto counts = apportion(rows * cols, part);
    std::vector<size_t> sequence;  // of devices along the walk
    for (const auto& strip : strips) sequence.insert(sequence.end(), strip.begin(), strip.end());
    std::vector<int64_t> ends;  // where each device's part of the walk ends
    for (size_t at = 0; at < sequence.size(); ++at)
        ends.push_back((ends.empty() ? 0 : ends.back()) + counts[sequence[at]]);
    // A part that ends with a few tiles of a row makes a ragged region: whole rows where that costs little.
    constexpr double little = 0.03;  // of a device's tiles
    for (size_t at = 0; at + 1 < ends.size(); ++at) {
        int64_t begin = 0, s = 0;
        while (s + 1 < int64_t(columns.size()) && begin + columns[size_t(s)] * rows <= ends[at])
            begin += columns[size_t(s++)] * rows;
        const int64_t width = std::max<int64_t>(1, columns[size_t(s)]), over = (ends[at] - begin) % width;
        const int64_t shift = over * 2 > width ? width - over : -over;
        const int64_t fewest = std::min(counts[sequence[at]], counts[sequence[at + 1]]);
        if (double(std::abs(shift)) <= little * double(fewest)) ends[at] += shift;
    }
    std::vector<int> owner(size_t(rows * cols));
    size_t at = 0;
    int64_t walked = 0, first_column = 0;
    for (size_t s = 0; s < columns.size(); ++s) {
        for (int64_t step = 0; step < rows; ++step)
            for (int64_t j = 0; j < columns[s]; ++j, ++walked) {
                while (walked >= ends[at]) ++at;
                const int64_t i = s % 2 == 0 ? step : rows - 1 - step;
                owner[size_t(i * cols + first_column + j)] = int(sequence[at]);
            }
        first_column += columns[s];
    }
    return owner;
}

std::vector<double> tile_shares(int64_t tiles, double flops, const std::vector<BlockDevice>& devices) {
    double speed = 0;
    for (const BlockDevice& d : devices) speed += d.speed;
    constexpr double late = 1.05;
    std::vector<double> shares;
    for (const BlockDevice& d : devices) {
        double part = double(tiles) * d.speed / speed;
        if ((d.workers > 1 || d.cores) && devices.size() > 1) {
            const double tile_s = flops / double(tiles) * d.workers / d.speed;
            part = std::min(part, d.workers * std::floor(late * flops / speed / tile_s));
        }
        shares.push_back(part);
    }
    return shares;
}

int64_t tiles_that_fit(const BlockDevice& d, int64_t tile_bytes) {
    if (d.memory_bytes <= 0) return std::numeric_limits<int64_t>::max();
    return usable_bytes(d.memory_bytes, tile_bytes, d.pieces) / allocated_bytes(tile_bytes, d.pieces);
}

BlockCut cut_region(int64_t region_rows, int64_t region_cols, int64_t memory_tiles, int64_t ahead,
                    const BlockCosts& costs) {
    constexpr double smooth = 0.75;    // of a link's time: beyond, tasks begin to wait for it
    constexpr double unhidden = 0.35;  // of the last block's way home, seen in simulation
    constexpr double traffic = 0.05;   // what a second of transfers may cost that computing hides
    BlockCut best{region_rows, region_cols};
    double least = std::numeric_limits<double>::infinity();
    const double compute_s = double(region_rows * region_cols * costs.steps) * costs.task_s;
    for (int64_t p = 1; p <= region_rows; ++p)
        for (int64_t q = 1; q <= region_cols; ++q) {
            const int64_t h = (region_rows + p - 1) / p, w = (region_cols + q - 1) / q;
            if (h * w + h + w + ahead > memory_tiles) continue;
            double cost = double(region_rows * q + region_cols * p);
            if (compute_s > 0 && costs.tile_s > 0) {
                const double link_s = (cost * double(costs.steps) + double(region_rows * region_cols)) * costs.tile_s;
                cost = std::max(compute_s, link_s) + std::max(0.0, link_s - smooth * compute_s) + traffic * link_s +
                       unhidden * double(h * w) * costs.tile_s;
            }
            if (cost < least) least = cost, best = {p, q};
        }
    return best;
}

namespace {

// The tasks of one node that add to one tile of C, in the order of k.
struct Chain {
    int64_t row, col;
    std::vector<size_t> tasks;
};

int written_tile(const TaskSpec& t) {
    int tile = -1;
    for (const TileUse& u : t.tiles)
        if (u.access != Access::read) {
            if (tile >= 0) return -1;
            tile = u.tile;
        }
    return tile;
}

// By its shapes and work: C is m x n, one tile that is read m x k, another k x n, each maybe transposed, and there are
// 2 m n k flops at least. Core knows no op; a task with that much work on what it reads is worth the order, whatever it
// is.
bool multiplies(const Plan& plan, const TaskSpec& t, int written) {
    const PlanTile& c = plan.tiles[size_t(written)];
    std::vector<const PlanTile*> read;
    for (const TileUse& u : t.tiles)
        if (u.access == Access::read) read.push_back(&plan.tiles[size_t(u.tile)]);
    const auto other = [](const PlanTile& tile, int64_t extent) {  // of a tile with that extent, or 0
        return tile.rows == extent ? tile.cols : tile.cols == extent ? tile.rows : 0;
    };
    for (const PlanTile* a : read)
        for (const PlanTile* b : read) {
            if (a == b) continue;
            for (int64_t k : {other(*a, c.rows), a->rows})
                if (k > 0 && a->rows * a->cols == c.rows * k && b->rows * b->cols == k * c.cols &&
                    (b->rows == k || b->cols == k) && t.cost.flops >= 2.0 * double(c.rows) * double(c.cols) * double(k))
                    return true;
        }
    return false;
}

// The node's tasks [begin, end) as chains, or nothing if it is no product.
std::optional<std::vector<Chain>> chains_of(const Plan& plan, size_t begin, size_t end) {
    std::map<int, size_t> known;
    std::vector<Chain> chains;
    int value = -1;
    for (size_t i = begin; i < end; ++i) {
        const int tile = written_tile(plan.tasks[i]);
        if (tile < 0 || !multiplies(plan, plan.tasks[i], tile)) return {};
        const PlanTile& t = plan.tiles[size_t(tile)];
        if (value >= 0 && t.value != value) return {};
        value = t.value;
        const auto [it, fresh] = known.emplace(tile, chains.size());
        if (fresh) {
            const int64_t index = tile - plan.values[size_t(value)].first_tile,
                          cols = plan.values[size_t(value)].grid.cols();
            chains.push_back({index / cols, index % cols, {}});
        }
        chains[it->second].tasks.push_back(i);
    }
    for (size_t i = begin; i < end; ++i)
        for (const TileUse& u : plan.tasks[i].tiles)
            if (u.access == Access::read && known.contains(u.tile)) return {};
    if (chains.size() < 2) return {};
    return chains;
}

struct Region {
    int64_t top = std::numeric_limits<int64_t>::max(), left = top, bottom = -1, right = -1;
    void add(int64_t i, int64_t j) {
        top = std::min(top, i), bottom = std::max(bottom, i), left = std::min(left, j), right = std::max(right, j);
    }
};

struct Place {
    double when;
    size_t task;
    int64_t block;
};

// The order of one device's tasks: blocks of its region one after the other, each in the slanted order of the header.
std::vector<Place> order_of(const Plan& plan, const TileSizes& sizes, const std::vector<const Chain*>& chains,
                            const BlockDevice& device) {
    Region region;
    int64_t tile_bytes = 1, steps = 1;
    for (const Chain* c : chains) {
        region.add(c->row, c->col);
        steps = std::max(steps, int64_t(c->tasks.size()));
        for (const TileUse& u : plan.tasks[c->tasks[0]].tiles)
            tile_bytes = std::max(tile_bytes, sizes.taken(plan.tiles[size_t(u.tile)].bytes));
    }
    const int64_t rows = region.bottom - region.top + 1, cols = region.right - region.left + 1;
    BlockCosts costs{0, 0, steps};
    if (device.bytes_per_s > 0) {
        costs.task_s = plan.tasks[chains[0]->tasks[0]].cost.flops / device.speed;
        costs.tile_s = double(tile_bytes) / device.bytes_per_s;
    }
    const BlockCut n = cut_region(rows, cols, tiles_that_fit(device, tile_bytes), tiles_ahead, costs);
    const auto row_cut = cut(rows, (rows + n.row_cuts - 1) / n.row_cuts),
               col_cut = cut(cols, (cols + n.col_cuts - 1) / n.col_cuts);
    const auto part = [](const std::vector<int64_t>& extents, int64_t x) {
        int64_t p = 0;
        while (x >= extents[size_t(p)]) x -= extents[size_t(p++)];
        return std::pair{p, x};
    };
    std::vector<int> used(row_cut.size() * col_cut.size());  // blocks of a ragged region may be empty
    const auto block_of = [&](const Chain* c) {
        const auto p = part(row_cut, c->row - region.top).first, q = part(col_cut, c->col - region.left).first;
        // Neighbours next: every other row of blocks backwards.
        return size_t(p) * col_cut.size() + size_t(p % 2 == 0 ? q : int64_t(col_cut.size()) - 1 - q);
    };
    for (const Chain* c : chains) used[block_of(c)] = 1;
    std::vector<int64_t> number(used.size());
    for (size_t b = 1; b < used.size(); ++b) number[b] = number[b - 1] + used[b - 1];
    std::vector<Place> places;
    for (const Chain* c : chains) {
        const auto [p, i] = part(row_cut, c->row - region.top);
        const auto [q, j] = part(col_cut, c->col - region.left);
        const int64_t block = number[block_of(c)];
        const double begin =
            double(block * steps) + double(i) / double(row_cut[size_t(p)]) + double(j) / double(col_cut[size_t(q)]);
        for (size_t k = 0; k < c->tasks.size(); ++k) places.push_back({begin + double(k), c->tasks[k], block});
    }
    std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.when < b.when; });
    return places;
}

void block_node(Plan& plan, const TileSizes& sizes, size_t begin, const std::vector<Chain>& chains,
                const std::vector<BlockDevice>& all_devices) {
    const PlanValue& c = plan.values[size_t(plan.tiles[size_t(written_tile(plan.tasks[begin]))].value)];
    double flops = 0;
    for (const Chain& chain : chains)
        for (size_t t : chain.tasks) flops += plan.tasks[t].cost.flops;
    const std::vector<double> all_shares = tile_shares(int64_t(chains.size()), flops, all_devices);
    std::vector<double> shares;
    std::vector<BlockDevice> devices;
    for (size_t d = 0; d < all_devices.size(); ++d)
        if (all_shares[d] > 0) shares.push_back(all_shares[d]), devices.push_back(all_devices[d]);
    const auto owner = assign_tiles(c.grid.rows(), c.grid.cols(), shares);
    std::vector<std::vector<const Chain*>> parts(devices.size());
    for (const Chain& chain : chains)
        parts[size_t(owner[size_t(chain.row * c.grid.cols() + chain.col)])].push_back(&chain);
    std::vector<Place> all;  // by the part of its device's work that is done before it
    for (size_t d = 0; d < devices.size(); ++d) {
        if (parts[d].empty()) continue;
        const auto places = order_of(plan, sizes, parts[d], devices[d]);
        for (size_t i = 0; i < places.size(); ++i) {
            plan.tasks[places[i].task].owner = devices[d].node;
            plan.tasks[places[i].task].block = int(places[i].block);
            all.push_back({double(i) / double(places.size()), places[i].task, 0});
        }
    }
    for (const Chain& chain : chains) plan.tasks[chain.tasks.back()].completes = true;
    std::stable_sort(all.begin(), all.end(), [](const Place& a, const Place& b) { return a.when < b.when; });
    std::vector<TaskSpec> ordered;
    for (const Place& p : all) ordered.push_back(std::move(plan.tasks[p.task]));
    std::move(ordered.begin(), ordered.end(), plan.tasks.begin() + int64_t(begin));
}

}  // namespace

int64_t block_products(Plan& plan, const std::vector<BlockDevice>& all) {
    std::vector<BlockDevice> devices;
    for (const BlockDevice& d : all)
        if (d.speed > 0) devices.push_back(d);
    int64_t taken = 0;
    if (devices.empty()) return 0;
    TileSizes sizes;
    sizes.add(plan);
    for (size_t begin = 0, end; begin < plan.tasks.size(); begin = end) {
        for (end = begin; end < plan.tasks.size() && plan.tasks[end].node == plan.tasks[begin].node;) ++end;
        if (const auto chains = chains_of(plan, begin, end)) {
            block_node(plan, sizes, begin, *chains, devices);
            ++taken;
        }
    }
    return taken;
}

bool in_blocks(const Plan& plan) {
    return std::any_of(plan.tasks.begin(), plan.tasks.end(), [](const TaskSpec& t) { return t.owner >= 0; });
}

}  // namespace tessera
