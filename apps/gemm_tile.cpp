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

// Without times: enough tiles of C to share, and large enough to be fast.
int64_t without_models(const Runtime& runtime, const Matrix& c) {
    const bool gpus = runtime.cuda_workers() > 0;
    const double workers = double(gpus ? runtime.cuda_workers() : runtime.cpu_workers());
    const int64_t pieces = int64_t(std::ceil(std::sqrt((gpus ? 16 : 2) * workers)));
    return std::clamp<int64_t>((std::max(c.rows, c.cols) + pieces - 1) / pieces, 256, gpus ? 4096 : 2048);
}

double predicted_seconds(const ProductMachine& machine, const Matrix& c, int64_t k, int64_t tile, double task_flops) {
    const auto pieces = [&](int64_t extent) { return double((extent + tile - 1) / tile); };
    const double rows = pieces(c.rows), cols = pieces(c.cols), steps = pieces(k);
    const int64_t tile_bytes = tile * tile * bytes_of(c.dtype);
    double speed = 0, slowest = INFINITY, parts = 0;
    for (const BlockDevice& d : machine.blocks) {
        if (d.speed <= 0) continue;
        speed += d.speed, slowest = std::min(slowest, d.speed), parts += 1;
    }
    if (rows * cols < parts) return INFINITY;
    std::vector<double> link_s(machine.link_bytes_per_s.size());
    for (size_t i = 0; i < machine.blocks.size(); ++i) {
        const BlockDevice& d = machine.blocks[i];
        if (d.speed <= 0 || (machine.devices[i].in.empty() && machine.devices[i].out.empty())) continue;
        const double share = d.speed / speed, side = std::sqrt(share);
        const int64_t h = std::max<int64_t>(1, int64_t(std::lround(rows * side))),
                      w = std::max<int64_t>(1, int64_t(std::lround(cols * side)));
        const int64_t memory_tiles = tiles_that_fit(d, tile_bytes);
        if (memory_tiles < 6) return INFINITY;
        const BlockCut cut = cut_region(h, w, memory_tiles, tiles_ahead);
        const double in = double(h * cut.col_cuts + w * cut.row_cuts) * steps * double(tile_bytes);
        for (int l : machine.devices[i].in) link_s[size_t(l)] += in / machine.link_bytes_per_s[size_t(l)];
        for (int l : machine.devices[i].out)
            link_s[size_t(l)] += double(h * w * tile_bytes) / machine.link_bytes_per_s[size_t(l)];
    }
    const double tasks = rows * cols * steps;
    double seconds = tasks * task_flops / speed;
    for (double s : link_s) seconds = std::max(seconds, s);
    return seconds + task_flops / slowest;  // the last task of the slowest
}

}  // namespace

int64_t choose_tile(const GemmFlags& f, const Runtime& runtime, Machine* machine, const Matrix& a, const Matrix& b,
                    const Matrix& c) {
    const GemmOptions o = f.gemm();
    const int64_t k = o.ta ? a.rows : a.cols, longest = std::max({c.rows, c.cols, k});
    // Cores of one memory move nothing: the largest tiles that all of them share are fastest.
    if (!machine || runtime.cuda_workers() == 0) return without_models(runtime, c);
    std::vector<int64_t> tiles;
    for (int64_t t : candidates)
        if (t <= longest && double(longest) / double(t) <= 128) tiles.push_back(t);
    if (tiles.empty()) tiles.push_back(longest);
    std::vector<Plan> plans(tiles.size());
    std::vector<TaskSpec> tasks;
    for (size_t i = 0; i < tiles.size(); ++i) tasks.push_back(inner_task(a, b, c, o, tiles[i], plans[i]));
#ifdef STARPU_SIMGRID
    std::vector<const Plan*> all;
    for (const Plan& p : plans) all.push_back(&p);
    complete_models(*machine, all, devices_of(runtime), calibrate_command());
#endif
    int64_t best = 0;
    double least = INFINITY;
    for (size_t i = 0; i < tiles.size(); ++i) {
        const ProductMachine m = product_machine(runtime, machine, tasks[i].cost.flops, model_time(*machine, tasks[i]));
        double speed = 0;
        for (const auto& d : m.devices) speed += d.flops_per_s;
        if (!(speed > 0)) continue;
        const double s = predicted_seconds(m, c, k, tiles[i], tasks[i].cost.flops);
        if (s < least) least = s, best = tiles[i];
    }
    return best > 0 ? best : without_models(runtime, c);
}

}  // namespace tessera
