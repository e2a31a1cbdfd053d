// Which tile a product is cut into.
#include <algorithm>
#include <cmath>

#include "apps/gemm.h"
#include "apps/simulated.h"

namespace tessera {
namespace {

constexpr int64_t candidates[] = {128,  192,  256,  320,  384,  512,  640,  768,  960,  1024, 1280,
                                  1440, 1536, 1920, 2048, 2560, 3072, 4096, 5120, 6144, 8192};

// The task that most of the product consists of: A and B tiles of full extent, added to C.
TaskSpec inner_task(const Matrix& a, const Matrix& b, const Matrix& c, const GemmOptions& o, int64_t tile, Plan& plan) {
    const auto view = [&](const Matrix& m, int64_t rows, int64_t cols) {
        return Matrix{nullptr, rows, cols, std::max(m.ld ? m.ld : m.cols, cols), m.dtype};
    };
    const ProductParams params(view(a, o.ta ? 2 * tile : tile, o.ta ? tile : 2 * tile),
                               view(b, o.tb ? tile : 2 * tile, o.tb ? 2 * tile : tile), view(c, tile, tile), o, tile);
    plan = product_plan(params.a, params.b, params.c, o, {});
    return plan.tasks.back();
}

}  // namespace

ProductMachine typical_machine(const Runtime& runtime, Machine* machine, DType dtype, int64_t tile) {
    Plan plan;
    const Matrix square{nullptr, tile, tile, 0, dtype};
    const TaskSpec task = inner_task(square, square, square, {}, tile, plan);
#ifdef STARPU_SIMGRID
    complete_models(*machine, {&plan}, devices_of(runtime), calibrate_command());
#endif
    const TaskTime unknown = [](const WorkerInfo&) { return NAN; };
    return product_machine(runtime, machine, task.cost.flops, machine ? model_time(*machine, task) : unknown);
}

namespace {

// Without times: enough tiles of C to share, and large enough to be fast. Tasks that add to one tile of C run one after
// the other: where there is one only, and nothing to bring anywhere, one task is best. BLAS counts in int.
int64_t without_models(const Runtime& runtime, const Matrix& c, int64_t k) {
    const bool gpus = runtime.cuda_workers() > 0;
    const double workers = double(gpus ? runtime.cuda_workers() : runtime.cpu_workers());
    const int64_t pieces = int64_t(std::ceil(std::sqrt((gpus ? 16 : 2) * workers)));
    const int64_t longer = std::max(c.rows, c.cols),
                  tile = std::clamp<int64_t>((longer + pieces - 1) / pieces, 256, gpus ? 4096 : 2048);
    constexpr int64_t most = 1 << 30, most_steps = 4096;
    if (gpus) return tile;
    return std::min(most, std::max(tile, longer <= tile ? k : (k + most_steps - 1) / most_steps));
}

// What a device computes of C, in tiles.
struct Part {
    int64_t tiles = 0, top = INT64_MAX, bottom = -1, left = INT64_MAX, right = -1;
    void add(int64_t i, int64_t j) {
        ++tiles;
        top = std::min(top, i), bottom = std::max(bottom, i), left = std::min(left, j), right = std::max(right, j);
    }
    int64_t height() const { return bottom - top + 1; }
    int64_t width() const { return right - left + 1; }
};

// A product in tiles: how many there are, and bytes of one of A, B and C.
struct Tiles {
    int64_t rows, cols, steps;
    double flops, a, b, c;
    Tiles(const Matrix& m, int64_t k, int64_t tile) {
        const auto pieces = [&](int64_t extent) { return (extent + tile - 1) / tile; };
        rows = pieces(m.rows), cols = pieces(m.cols), steps = pieces(k);
        const double high = double(m.rows) / double(rows), wide = double(m.cols) / double(cols),
                     deep = double(k) / double(steps), size = double(bytes_of(m.dtype));
        a = size * high * deep, b = size * deep * wide, c = size * high * wide;
        flops = 2 * double(m.rows) * double(m.cols) * double(k);
    }
};

// Who gets which part, as the plan will have it.
struct Parts {
    std::vector<size_t> device;  // in ProductMachine
    std::vector<BlockDevice> blocks;
    std::vector<Part> parts;
    Parts(const ProductMachine& machine, const Tiles& t) {
        std::vector<BlockDevice> all;
        std::vector<size_t> at;
        for (size_t d = 0; d < machine.blocks.size(); ++d)
            if (machine.blocks[d].speed > 0) all.push_back(machine.blocks[d]), at.push_back(d);
        const std::vector<double> every = tile_shares(t.rows * t.cols, t.flops, all);
        std::vector<double> shares;
        for (size_t d = 0; d < all.size(); ++d)
            if (every[d] > 0) shares.push_back(every[d]), blocks.push_back(all[d]), device.push_back(at[d]);
        parts.resize(shares.size());
        if (shares.empty()) return;
        const std::vector<int> owner = assign_tiles(t.rows, t.cols, shares);
        for (int64_t i = 0; i < t.rows * t.cols; ++i) parts[size_t(owner[size_t(i)])].add(i / t.cols, i % t.cols);
    }
};

// What each link carries, and for how many devices.
struct Carried {
    std::vector<double> seconds;
    std::vector<int> users;
    bool fits = true;
    Carried(const ProductMachine& machine, const Tiles& t, const Parts& p)
        : seconds(machine.link_bytes_per_s.size()), users(seconds.size()) {
        for (size_t d = 0; d < p.parts.size(); ++d) {
            const ProductDevice& way = machine.devices[p.device[d]];
            const Part& part = p.parts[d];
            if (part.tiles == 0 || (way.in.empty() && way.out.empty())) continue;
            const int64_t memory_tiles = tiles_that_fit(p.blocks[d], int64_t(std::max({t.a, t.b, t.c})));
            fits = fits && memory_tiles >= 6;
            const BlockCut cut = cut_region(part.height(), part.width(), memory_tiles, tiles_ahead);
            const double in = (double(part.height() * cut.col_cuts) * t.a + double(part.width() * cut.row_cuts) * t.b) *
                              double(t.steps);
            for (int l : way.in) seconds[size_t(l)] += in / machine.link_bytes_per_s[size_t(l)], ++users[size_t(l)];
            for (int l : way.out) seconds[size_t(l)] += double(part.tiles) * t.c / machine.link_bytes_per_s[size_t(l)];
        }
    }
};

// Each device computes its tiles of C while its links carry what they need; before that its first tiles of A and B
// come, and after it its last one of C goes home, as those of the others do. Tasks are submitted one after the other.
double predicted_seconds(const ProductMachine& machine, const Matrix& c, int64_t k, int64_t tile) {
    constexpr double one_submit_s = 7e-6;  // of one task; more of them
    constexpr double disturbs = 0.3;       // take so much of the time of submitting besides
    constexpr double beside = 0.3;  // of the shorter of computing and transfers the longer does not hide, at most
    const Tiles t(c, k, tile);
    const Parts p(machine, t);
    const Carried carried(machine, t, p);
    if (p.parts.empty() || !carried.fits) return INFINITY;
    double devices_s = 0;
    for (size_t d = 0; d < p.parts.size(); ++d) {
        if (p.parts[d].tiles == 0) continue;
        const int workers = p.blocks[d].workers;
        const int64_t rounds = (p.parts[d].tiles + workers - 1) / workers;
        const double each_s = t.flops / double(t.rows * t.cols) * workers / p.blocks[d].speed,
                     compute_s = double(rounds) * each_s;
        double links_s = 0, first_s = 0;
        for (int l : machine.devices[p.device[d]].in) {
            const auto link = size_t(l);
            links_s = std::max(links_s, carried.seconds[link]);
            first_s = std::max(first_s, (t.a + t.b + t.c) * carried.users[link] / machine.link_bytes_per_s[link]);
        }
        const double longer_s = std::max(compute_s, links_s), shorter_s = std::min(compute_s, links_s);
        const double waits_s = beside * shorter_s * std::pow(shorter_s / longer_s, 2);
        devices_s = std::max({devices_s, first_s + compute_s + waits_s, links_s + each_s / double(t.steps) + waits_s});
    }
    const double submit_s = double(t.rows * t.cols * t.steps) * one_submit_s;
    return std::max(devices_s + disturbs * submit_s, submit_s);
}

}  // namespace

int64_t choose_tile(const GemmFlags& f, const Runtime& runtime, Machine* machine, const Matrix& a, const Matrix& b,
                    const Matrix& c) {
    const GemmOptions o = f.gemm();
    const int64_t k = o.ta ? a.rows : a.cols, longest = std::max({c.rows, c.cols, k});
    // Cores of one memory move nothing: the largest tiles that all of them share are fastest.
    if (!machine || runtime.cuda_workers() == 0) return without_models(runtime, c, k);
    std::vector<int64_t> tiles;
    for (int64_t t : candidates)
        if (t <= longest && double(longest) / double(t) <= 128) {
            const int64_t count = (longest + t - 1) / t, even = (longest + count - 1) / count;  // as it will be cut
            if (tiles.empty() || tiles.back() != even) tiles.push_back(even);
        }
    if (tiles.empty()) tiles.push_back(longest);
    std::vector<Plan> plans(tiles.size());
    std::vector<TaskSpec> tasks;
    for (size_t i = 0; i < tiles.size(); ++i) tasks.push_back(inner_task(a, b, c, o, tiles[i], plans[i]));
#ifdef STARPU_SIMGRID
    std::vector<const Plan*> all;
    for (const Plan& p : plans) all.push_back(&p);
    complete_models(*machine, all, devices_of(runtime), calibrate_command());
#endif
    int64_t best = 0, possible = 0;
    double least = INFINITY;
    for (size_t i = 0; i < tiles.size(); ++i) {
        const ProductMachine m = product_machine(runtime, machine, tasks[i].cost.flops, model_time(*machine, tasks[i]));
        double speed = 0;
        for (const auto& d : m.devices) speed += d.flops_per_s;
        if (!(speed > 0)) continue;
        const double s = predicted_seconds(m, c, k, tiles[i]);
        if (s < least) least = s, best = tiles[i];
        const Tiles t(c, k, tiles[i]);
        const bool fits = std::all_of(m.blocks.begin(), m.blocks.end(), [&](const BlockDevice& d) {
            return d.memory_bytes == 0 || t.a + t.b + t.c <= double(d.memory_bytes);
        });
        if (fits) possible = tiles[i];
    }
    if (best == 0) best = possible;  // memory is for little more than one task
    return best > 0 ? best : without_models(runtime, c, k);
}

}  // namespace tessera
