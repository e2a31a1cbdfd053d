#include "models/task_bench.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>

#include "core/random.h"
#include "core/reuse.h"

namespace tessera {

int64_t TaskClass::bytes() const {
    int64_t sum = 0;
    for (size_t i = 0; i < task->tiles.size(); ++i)
        if (!at_hand[i]) sum += plan->tiles[size_t(task->tiles[i].tile)].bytes;
    return sum;
}

// How often each tile of a class was used so lately that a core's cache still holds it, less how often it was not.
using Class = std::pair<const CodeletInfo*, uint32_t>;
static void count_at_hand(const Plan& plan, std::map<Class, std::vector<int64_t>>& of) {
    const int64_t cache = std::max<int64_t>(sysconf(_SC_LEVEL2_CACHE_SIZE), int64_t(256) << 10);
    std::vector<int64_t> used_at(plan.tiles.size(), INT64_MIN / 2);  // in bytes that tasks have touched by then
    int64_t touched = 0;
    for (const TaskSpec& t : plan.tasks) {
        auto& balance = of[{t.codelet, t.footprint}];
        balance.resize(t.tiles.size());
        for (size_t i = 0; i < t.tiles.size(); ++i) {
            const size_t tile = size_t(t.tiles[i].tile);
            balance[i] += touched - used_at[tile] + plan.tiles[tile].bytes <= cache ? 1 : -1;
        }
        for (const TileUse& u : t.tiles) touched += plan.tiles[size_t(u.tile)].bytes;
        for (const TileUse& u : t.tiles) used_at[size_t(u.tile)] = touched;
    }
}

std::vector<TaskClass> classes_of(const std::vector<const Plan*>& plans) {
    std::vector<TaskClass> all;
    std::set<Class> seen;
    std::map<Class, std::vector<int64_t>> balance;
    int64_t bytes = 0;
    for (const Plan* plan : plans) bytes += memory_bytes(*plan), count_at_hand(*plan, balance);
    for (const Plan* plan : plans)
        for (const TaskSpec& t : plan->tasks) {
            if (!seen.insert({t.codelet, t.footprint}).second) continue;
            TaskClass& c = all.emplace_back(TaskClass{plan, &t, bytes, {}});
            for (const int64_t more : balance[{t.codelet, t.footprint}]) c.at_hand.push_back(more > 0);
        }
    std::stable_sort(all.begin(), all.end(), [](const TaskClass& a, const TaskClass& b) {
        return a.task->codelet->name < b.task->codelet->name;
    });
    return all;
}

int implementations(const CodeletInfo& c, bool cuda) {
    int n = 0;
    while (n < STARPU_MAXIMPLEMENTATIONS &&
           (cuda ? c.starpu->cuda_funcs[n] != nullptr : c.starpu->cpu_funcs[n] != nullptr))
        ++n;
    return n;
}

std::map<ModelDevice, std::vector<int>> workers_by_device(const Runtime& runtime, bool alone) {
    std::map<ModelDevice, std::vector<int>> all;
    for (const WorkerInfo& w : runtime.workers()) {
        auto& ids = all[w.cuda ? ModelDevice{1, starpu_worker_get_devid(w.id), 1} : ModelDevice{}];
        if (!w.cuda || !alone || ids.empty()) ids.push_back(w.id);
    }
    return all;
}

// Tiles, but for those at hand, that a worker's samples take turns on: together as large as its share of the last
// cache, or of all that the plans touch. In a run what a task reads was used a while ago, by another task; on one set
// of tiles small tasks would look up to a third faster, and on more than there are in a run they would look slower.
static int64_t turns(const TaskClass& c, int64_t workers, int64_t samples) {
    const int64_t cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), int64_t(8) << 20);
    return std::clamp<int64_t>(std::min(cache, c.among_bytes) / workers / std::max<int64_t>(1, c.bytes()), 1, samples);
}

int64_t TaskBench::add(const TaskClass& c, int worker, int implementation, int64_t repeat, int64_t sharing) {
    plan_.nodes.push_back(c.plan->nodes[size_t(c.task->node)]);
    std::vector<TaskSpec> sets;
    for (int64_t i = turns(c, sharing, repeat); i > 0; --i)
        sets.push_back(on_own_tiles(c, worker, implementation, sets.empty() ? nullptr : &sets[0]));
    const int64_t first = int64_t(sets.size());
    for (int64_t r = 0; r < first + repeat; ++r) plan_.tasks.push_back(sets[size_t(r) % sets.size()]);
    return first;
}

std::vector<std::vector<TaskEvent>> TaskBench::run(const Runtime& runtime, const Step& step) {
    Trace trace(std::max<size_t>(1024, plan_.tasks.size()));
    ExecutorOptions options;
    options.trace = &trace;
    Executor executor(runtime, options);
    const int number = executor.load(plan_);
    executor.submit(number, step);
    executor.wait();
    return trace.data({&executor.plan(number)}).tasks;
}

TaskSpec TaskBench::on_own_tiles(const TaskClass& c, int worker, int implementation, const TaskSpec* first) {
    TaskSpec task = *c.task;
    task.node = int(plan_.nodes.size()) - 1, task.worker = worker, task.implementation = implementation;
    std::map<int, int> copy_of;
    for (size_t k = 0; first && k < task.tiles.size(); ++k)
        if (c.at_hand[k]) copy_of[task.tiles[k].tile] = first->tiles[k].tile;
    for (TileUse& u : task.tiles) {
        const auto [it, fresh] = copy_of.emplace(u.tile, 0);
        if (fresh) it->second = add_tile(*c.plan, u.tile);
        u.tile = it->second;
        if (u.access == Access::accumulate) u.access = Access::read_write;
    }
    return task;
}

int TaskBench::add_tile(const Plan& from, int number) {
    const PlanTile& tile = from.tiles[size_t(number)];
    const DType type = from.dtype(number);
    const bool whole_number = type == DType::i32 || type == DType::u8;
    std::vector<int64_t> cols = {tile.cols};
    if (tile.ld > tile.cols) cols.push_back(tile.ld - tile.cols);  // the tile is the left part of a wider matrix
    Param& p = params_.add(
        {"t" + std::to_string(params_.size()),
         {tile.rows, tile.ld},
         type,
         {{tile.rows}, cols},
         [=](int64_t i, int64_t j) {
             return whole_number ? 0.0 : 0.1 + 0.8 * double(random_bits(7, uint64_t(i), uint64_t(j)) >> 11) * 0x1p-53;
         }});
    PlanValue value;
    value.name = p.name, value.shape = p.shape, value.dtype = type, value.grid = p.grid, value.param = &p;
    value.first_tile = int(plan_.tiles.size());
    int64_t col = 0;
    for (int64_t n : cols) {
        plan_.tiles.push_back(
            {int(plan_.values.size()), 0, col, tile.rows, n, tile.ld, tile.rows * n * bytes_of(type)});
        col += n;
    }
    plan_.values.push_back(std::move(value));
    return plan_.values.back().first_tile;
}

}  // namespace tessera
