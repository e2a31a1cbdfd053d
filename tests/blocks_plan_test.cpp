// blocks_plan_test.cpp - plans after block_products(): the same tasks with the same dependencies, in blocks that fit
// the memories; what is no product stays as it was. No worker runs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string>

#include "codelets/load.h"
#include "core/blocks.h"
#include "graphs/network.h"
#include "graphs/optimizer.h"
#include "graphs/product.h"
#include "tests/draw.h"

namespace tessera {
namespace {

// What a task is, whatever its place: two alike tasks are told apart by their order.
std::vector<std::string> identities(const Plan& plan) {
    std::map<std::string, int> known;
    std::vector<std::string> all;
    for (const TaskSpec& t : plan.tasks) {
        std::string id = t.codelet->name + " " + std::to_string(t.node) + " " + std::to_string(t.footprint);
        for (std::byte b : t.args) id += "," + std::to_string(int(b));
        for (const TileUse& u : t.tiles) id += " " + std::to_string(u.tile) + ":" + std::to_string(int(u.access));
        const int again = known[id]++;
        all.push_back(id + " #" + std::to_string(again));
    }
    return all;
}

// For each task, whatever its place, those that it waits for.
std::map<std::string, std::set<std::string>> waits_of(const Plan& plan, bool ordered) {
    const auto id = identities(plan);
    const auto edges = dependencies(plan, ordered);
    std::map<std::string, std::set<std::string>> all;
    for (size_t i = 0; i < edges.size(); ++i) {
        auto& waits = all[id[i]];
        for (int d : edges[i]) {
            EXPECT_LT(d, int(i));
            waits.insert(id[size_t(d)]);
        }
    }
    return all;
}

// Every task is still there and, plan order kept or not, waits for the same tasks: the plan computes the same.
void expect_same_meaning(const Plan& before, const Plan& after, const std::string& what) {
    ASSERT_EQ(before.tasks.size(), after.tasks.size()) << what;
    for (bool ordered : {true, false})
        EXPECT_TRUE(waits_of(before, ordered) == waits_of(after, ordered)) << what << (ordered ? ", ordered" : "");
}

// Tiles of values made in the plan are written before they are read.
void expect_written_first(const Plan& plan) {
    std::vector<bool> written(plan.tiles.size());
    for (const TaskSpec& t : plan.tasks) {
        for (const TileUse& u : t.tiles)
            EXPECT_TRUE(u.access == Access::write || written[size_t(u.tile)] ||
                        plan.values[size_t(plan.tiles[size_t(u.tile)].value)].param)
                << plan.describe_tile(u.tile);
        for (const TileUse& u : t.tiles)
            if (u.access != Access::read) written[size_t(u.tile)] = true;
    }
}

struct Planned {
    Plan plain, blocked;
};

struct ProductCase {
    int64_t m, n, k, tile;
    GemmOptions options;
    std::vector<BlockDevice> devices;
    std::string text;

    Planned plans() const {
        const GemmOptions& o = options;
        const Matrix a{nullptr, o.ta ? k : m, o.ta ? m : k}, b{nullptr, o.tb ? n : k, o.tb ? k : n}, c{nullptr, m, n};
        const ProductParams params(a, b, c, o, tile);
        Planned p{product_plan(params.a, params.b, params.c, o, {}), {}};
        block_products(p.blocked = p.plain, devices);
        return p;
    }
    int64_t tile_bytes() const {
        const auto longest = [&](int64_t extent) { return cut(extent, tile)[0]; };
        const int64_t rows = longest(m), cols = longest(n), inner = longest(k);
        return 4 * std::max({rows * cols, rows * inner, inner * cols});
    }
};

ProductCase random_case(uint64_t seed) {
    Draw draw{seed};
    ProductCase c;
    c.tile = draw.whole(3, 9);
    c.m = draw.whole(1, 16 * c.tile), c.n = draw.whole(1, 16 * c.tile), c.k = draw.whole(1, 10 * c.tile);
    const double betas[] = {0, 1, 0.7};
    c.options = {1, betas[draw.whole(0, 2)], draw.whole(0, 1) == 1, draw.whole(0, 1) == 1};
    c.devices.resize(size_t(draw.whole(1, 6)));
    const bool links = draw.whole(0, 1) == 1, limits = draw.whole(0, 3) > 0;
    for (size_t d = 0; d < c.devices.size(); ++d) {
        BlockDevice& device = c.devices[d];
        device.node = int(d) + 1, device.speed = draw.real(1, 8) * 1e9;
        if (limits) device.memory_bytes = draw.whole(8, 120) * c.tile_bytes();
        if (links) device.bytes_per_s = draw.real(0.05, 5) * 1e9;
    }
    c.text = std::to_string(c.m) + " x " + std::to_string(c.n) + " x " + std::to_string(c.k) + ", tile " +
             std::to_string(c.tile) + ", " + std::to_string(c.devices.size()) + " devices, seed " +
             std::to_string(seed);
    return c;
}

int written_by(const TaskSpec& t) {
    for (const TileUse& u : t.tiles)
        if (u.access != Access::read) return u.tile;
    return -1;
}

std::map<int, std::vector<size_t>> chains_of(const Plan& plan) {  // tasks per tile of C
    std::map<int, std::vector<size_t>> all;
    for (size_t i = 0; i < plan.tasks.size(); ++i) all[written_by(plan.tasks[i])].push_back(i);
    return all;
}

TEST(BlockProducts, AllTasksStayAndTilesAreSummedUpInTheOrderOfK) {
    for (uint64_t seed = 0; seed < 120; ++seed) {
        const ProductCase c = random_case(seed);
        const auto [plain, blocked] = c.plans();
        expect_same_meaning(plain, blocked, c.text);
        const auto before = identities(plain), after = identities(blocked);
        const auto old = chains_of(plain), now = chains_of(blocked);
        ASSERT_EQ(old.size(), now.size()) << c.text;
        for (const auto& [tile, chain] : old) {
            std::vector<std::string> expected, got;
            for (size_t i : chain) expected.push_back(before[i]);
            for (size_t i : now.at(tile)) got.push_back(after[i]);
            EXPECT_EQ(got, expected) << plain.describe_tile(tile) << ", " << c.text;
        }
        if (HasFailure()) return;
    }
}

TEST(BlockProducts, OwnersAreNodesGivenAndTheLastOfEachTileCompletesIt) {
    for (uint64_t seed = 0; seed < 300; ++seed) {
        const ProductCase c = random_case(seed);
        const auto [plain, blocked] = c.plans();
        const auto chains = chains_of(blocked);
        std::map<int, int64_t> tiles;
        for (const auto& [tile, chain] : chains) {
            std::set<int> owners;
            std::set<int> blocks;
            for (size_t i : chain) {
                const TaskSpec& t = blocked.tasks[i];
                owners.insert(t.owner), blocks.insert(t.block);
                EXPECT_EQ(t.completes, chains.size() > 1 && i == chain.back()) << c.text;
                EXPECT_EQ(t.worker, -1);
            }
            ASSERT_EQ(owners.size(), 1u) << c.text;
            EXPECT_EQ(blocks.size(), 1u) << c.text;
            const bool known = std::any_of(c.devices.begin(), c.devices.end(),
                                           [&](const BlockDevice& d) { return d.node == *owners.begin(); });
            EXPECT_TRUE(chains.size() > 1 ? known : *owners.begin() == -1) << *owners.begin() << ", " << c.text;
            ++tiles[*owners.begin()];
        }
        if (chains.size() < 2) continue;
        double speed = 0;
        for (const BlockDevice& d : c.devices) speed += d.speed;
        for (const BlockDevice& d : c.devices) {
            const double exact = double(chains.size()) * d.speed / speed;
            EXPECT_LE(std::abs(double(tiles[d.node]) - exact), 2 + 0.06 * exact) << "node " << d.node << ", " << c.text;
        }
    }
}

// Most bytes alive at one time among one node's tasks: tiles of C from first to last contribution, those of A and B
// within a block from first to last use.
int64_t working_set(const Plan& plan, int node) {
    std::map<std::pair<int, int>, std::pair<int64_t, int64_t>> life;  // (tile, block; -1 for C) -> first and last task
    int64_t at = 0;
    for (const TaskSpec& t : plan.tasks) {
        if (t.owner != node) continue;
        for (const TileUse& u : t.tiles) {
            const auto [it, first] = life.try_emplace({u.tile, u.access == Access::read ? t.block : -1}, at, at);
            it->second.second = at;
        }
        ++at;
    }
    std::vector<std::vector<int>> begins(static_cast<size_t>(at)), ends(static_cast<size_t>(at));
    for (const auto& [use, when] : life)
        begins[size_t(when.first)].push_back(use.first), ends[size_t(when.second)].push_back(use.first);
    std::map<int, int> alive;  // a tile that two blocks in a row use is there once
    int64_t bytes = 0, most = 0;
    for (size_t i = 0; i < begins.size(); ++i) {
        for (int tile : begins[i])
            if (alive[tile]++ == 0) bytes += plan.tiles[size_t(tile)].bytes;
        most = std::max(most, bytes);
        for (int tile : ends[i])
            if (--alive[tile] == 0) bytes -= plan.tiles[size_t(tile)].bytes;
    }
    return most;
}

TEST(BlockProducts, WhatIsInUseFitsTheMemory) {
    int64_t limited = 0, several = 0;
    double fullest = 0;
    for (uint64_t seed = 0; seed < 300; ++seed) {
        const ProductCase c = random_case(seed);
        const Plan blocked = c.plans().blocked;
        for (const BlockDevice& d : c.devices) {
            if (d.memory_bytes == 0) continue;
            const int64_t most = working_set(blocked, d.node);
            EXPECT_LE(most, d.memory_bytes) << "node " << d.node << ", " << c.text;
            ++limited, fullest = std::max(fullest, double(most) / double(d.memory_bytes));
            for (const TaskSpec& t : blocked.tasks)
                if (t.owner == d.node && t.block > 0) {
                    ++several;
                    break;
                }
        }
    }
    EXPECT_GT(several, limited / 4) << "devices that needed more than one block";
    EXPECT_GT(fullest, 0.8) << "memories are used";
}

TEST(BlockProducts, BlocksOfADeviceFollowEachOther) {
    const ProductCase c{64, 64, 32, 4, {}, {{1, 1, 40 * 64, 0}, {2, 3, 60 * 64, 0}}, ""};  // tiles of 64 bytes
    const Plan plan = c.plans().blocked;
    for (int node : {1, 2}) {
        std::map<int, std::pair<int64_t, int64_t>> life;
        int64_t at = 0;
        for (const TaskSpec& t : plan.tasks)
            if (t.owner == node) life.try_emplace(t.block, at, at).first->second.second = at, ++at;
        ASSERT_GT(life.size(), 2u) << "node " << node;
        int expected = 0;
        for (const auto& [block, when] : life) {
            EXPECT_EQ(block, expected++);
            const auto next = life.find(block + 2);
            if (next != life.end()) { EXPECT_LT(when.second, next->second.first) << "three blocks at once"; }
        }
    }
}

TEST(BlockProducts, LoadsAreSpreadEvenlyOverABlock) {
    const ProductCase c{48, 48, 160, 8, {}, {{1, 1, 0, 0}}, ""};  // 6 x 6 tiles of C, 20 steps: 12 loads in 36 tasks
    const Plan plan = c.plans().blocked;
    std::set<int> seen;
    std::vector<int64_t> loads;
    for (const TaskSpec& t : plan.tasks) {
        loads.push_back(0);
        for (const TileUse& u : t.tiles) loads.back() += u.access == Access::read && seen.insert(u.tile).second;
    }
    for (size_t i = 72; i + 72 < loads.size(); ++i)
        EXPECT_LE(std::accumulate(loads.begin() + int64_t(i), loads.begin() + int64_t(i) + 6, int64_t(0)), 4)
            << "in 6 tasks from " << i;
}

TEST(BlockProducts, WithoutDevicesOrSpeedNothingChanges) {
    ProductCase c{32, 32, 32, 4, {}, {{1, 0, 1 << 20, 0}, {2, 0, 1 << 20, 0}}, ""};
    const auto [plain, blocked] = c.plans();
    EXPECT_EQ(identities(plain), identities(blocked));
    for (const TaskSpec& t : blocked.tasks) EXPECT_TRUE(t.owner == -1 && !t.completes && t.block == 0);
    c.devices[1].speed = 1;  // one that computes: all is its own
    for (const TaskSpec& t : c.plans().blocked.tasks) EXPECT_EQ(t.owner, 2);
}

TEST(BlockProducts, ATileAloneStaysAsItIs) {
    const ProductCase c{4, 4, 32, 4, {}, {{1, 1, 0, 0}}, ""};
    const auto [plain, blocked] = c.plans();
    EXPECT_EQ(identities(plain), identities(blocked));
    for (const TaskSpec& t : blocked.tasks) EXPECT_TRUE(t.owner == -1 && !t.completes);
}

// A device beside a GPU ten times as fast as one unit: how many of 16 tiles of C do its workers get?
int64_t tiles_beside_a_gpu(double speed, int workers) {
    ProductCase c{16, 16, 8, 4, {}, {{1, 10e9}, {0, speed * 1e9}}, ""};
    c.devices[1].workers = workers;
    const Plan blocked = c.plans().blocked;
    std::set<int> tiles;
    for (const TaskSpec& t : blocked.tasks)
        if (t.owner == 0) tiles.insert(written_by(t));
    return int64_t(tiles.size());
}
TEST(BlockProducts, SlowWorkersGetNoMoreThanTheyEndInTime) {
    EXPECT_EQ(tiles_beside_a_gpu(5, 1), 5) << "in proportion to speed";
    EXPECT_EQ(tiles_beside_a_gpu(5, 5), 5) << "one each, which takes as long as all";
    EXPECT_EQ(tiles_beside_a_gpu(5, 2), 4) << "two each; a third would be late";
    EXPECT_EQ(tiles_beside_a_gpu(1, 10), 0) << "one tile takes longer than all 16 on the GPU";
}

// --- plans that hold more than a product -------------------------------------------------------------------------

const std::vector<BlockDevice> two_devices{{1, 2e9, 1 << 16, 0}, {2, 1e9, 0, 1e9}};

bool is_product(const TaskSpec& t) { return t.codelet->op.starts_with("gemm") || t.codelet->op.starts_with("linear"); }

// Products of two tiles or more are in blocks, in the places of their nodes; everything else is where and as it was.
void expect_only_products_moved(const Plan& plain, const Plan& blocked, int64_t taken) {
    expect_same_meaning(plain, blocked, "");
    const auto before = identities(plain), after = identities(blocked);
    std::map<int, std::set<int>> tiles;  // of each product's node
    for (const TaskSpec& t : plain.tasks)
        if (is_product(t)) tiles[t.node].insert(written_by(t));
    int64_t products = 0;
    for (const auto& [node, written] : tiles) products += written.size() > 1;
    EXPECT_EQ(taken, products);
    for (size_t i = 0; i < plain.tasks.size(); ++i) {
        const TaskSpec& t = blocked.tasks[i];
        EXPECT_EQ(t.node, plain.tasks[i].node) << "nodes are mixed at task " << i;
        const bool moves = is_product(t) && tiles[t.node].size() > 1;
        EXPECT_EQ(t.owner >= 0, moves) << t.codelet->name << " of " << blocked.nodes[size_t(t.node)].name();
        if (moves) continue;
        EXPECT_EQ(before[i], after[i]);
        EXPECT_TRUE(!t.completes && t.block == 0) << t.codelet->name;
    }
}

TEST(BlockProducts, NodesThatAreNoProductsStayAsTheyWere) {
    Graph g(4, 4);
    Tensor x = g.value("x", {16, 16}, DType::f32), w = g.value("w", {16, 12}, DType::f32);
    Tensor y = gemm(x, w), s = softmax(y);
    g.keep(add(relu(y), s)), g.keep(sum_rows(y)), g.keep(sum_cols(y)), g.keep(transpose(y)), g.keep(sum_all(y));
    g.keep(scale_by(y, sum_all(s))), g.keep(retile(y, {cut(16, 8), cut(12, 3)}));
    const Plan plain(g);
    Plan blocked = plain;
    const int64_t taken = block_products(blocked, two_devices);
    expect_only_products_moved(plain, blocked, taken);
}

TEST(BlockProducts, ATrainingPlanStaysValid) {
    for (const char* kind : {"sgd", "adam"}) {
        std::vector<float> values(200 * 20);
        std::vector<int32_t> labels(200);
        const float mean = 0, scale = 1;
        const BatchSource source{nullptr, values.data(), labels.data(), 200, 20, 1, &mean, &scale};
        Params weights;
        const Network network =
            mlp(weights, {.inputs = 20, .classes = 10, .hidden = {24, 17}, .dropout = 0.5, .tile_features = 5});
        OptimizerOptions options;
        options.kind = kind, options.clip = 1;
        const Optimizer optimizer(options, weights);
        const Sink sink = [](int64_t, double) {};
        Graph g;
        Tensor x = load_features(g, source, 48, DType::f32, {cut(48, 16), {20}});
        Tensor classes = load_labels(g, source, 48, {cut(48, 16), {1}});
        Tensor logits = network.logits(g, x, true), loss = softmax_cross_entropy(logits, classes);
        report(loss, sink), report(count_correct(logits, classes), sink);
        optimizer.minimize(loss);
        const Plan plain(g);
        Plan blocked = plain;
        const int64_t taken = block_products(blocked, two_devices);
        EXPECT_GT(taken, 5) << kind;
        expect_only_products_moved(plain, blocked, taken);
        expect_written_first(blocked);
    }
}

}  // namespace
}  // namespace tessera
