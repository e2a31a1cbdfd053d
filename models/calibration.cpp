#include "models/calibration.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/random.h"
#include "core/statistics.h"
#include "core/trace.h"

namespace tessera {
namespace {

// One distinct (codelet, footprint): a task that stands for all of them.
struct Class {
    const Plan* plan;
    const TaskSpec* task;
    int64_t bytes() const {
        int64_t sum = 0;
        for (const TileUse& u : task->tiles) sum += plan->tiles[size_t(u.tile)].bytes;
        return sum;
    }
};

std::vector<Class> classes_of(const std::vector<const Plan*>& plans) {
    std::vector<Class> all;
    std::set<std::pair<const CodeletInfo*, uint32_t>> seen;
    for (const Plan* plan : plans)
        for (const TaskSpec& t : plan->tasks)
            if (seen.insert({t.codelet, t.footprint}).second) all.push_back({plan, &t});
    // A codelet's model is one file.
    std::stable_sort(all.begin(), all.end(),
                     [](const Class& a, const Class& b) { return a.task->codelet->name < b.task->codelet->name; });
    return all;
}

int implementations(const CodeletInfo& c, bool cuda) {
    int n = 0;
    while (n < STARPU_MAXIMPLEMENTATIONS &&
           (cuda ? c.starpu->cuda_funcs[n] != nullptr : c.starpu->cpu_funcs[n] != nullptr))
        ++n;
    return n;
}

// Workers by the device whose model they share.
std::map<ModelDevice, std::vector<int>> workers_of(const Runtime& runtime) {
    std::map<ModelDevice, std::vector<int>> all;
    for (const WorkerInfo& w : runtime.workers())
        all[w.cuda ? ModelDevice{1, starpu_worker_get_devid(w.id), 1} : ModelDevice{}].push_back(w.id);
    return all;
}

// Tiles that a worker's samples take turns on: together as large as its share of the last cache. In a run what a task
// reads was used a while ago, by another task; on one set of tiles small tasks would look up to a third faster.
int64_t turns(int64_t task_bytes, int64_t workers, int64_t samples) {
    const int64_t cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), int64_t(8) << 20);
    return std::clamp<int64_t>(cache / workers / std::max<int64_t>(1, task_bytes), 1, samples);
}

// The same task again and again on each worker, on tiles of its own with the original's leading dimensions. Values are
// in [0.1, 0.9), so that no body meets NaN, denormals or a negative second moment; integers are 0, a valid label.
class Bench {
 public:
    Bench(const Class& c, const std::map<ModelDevice, std::vector<int>>& workers, int implementation, int64_t samples)
        : device_of_(workers) {
        plan_.nodes = {c.plan->nodes[size_t(c.task->node)]};
        for (const auto& [device, ids] : workers) {
            if (implementation >= implementations(*c.task->codelet, device.type == 1)) continue;
            const int64_t each = 1 + (samples + int64_t(ids.size()) - 1) / int64_t(ids.size());
            const int64_t sets = turns(c.bytes(), int64_t(ids.size()), each);
            for (int worker : ids) add_slot(c, worker, implementation, each, sets);
        }
    }

    // Times in microseconds per device, without the first of each worker.
    std::map<ModelDevice, std::vector<double>> run(const Runtime& runtime, const Step& step) {
        Trace trace(1024);
        ExecutorOptions options;
        options.trace = &trace;
        Executor executor(runtime, options);
        const int number = executor.load(plan_);
        executor.submit(number, step);
        executor.wait();
        const TraceData data = trace.data({&executor.plan(number)});
        std::map<ModelDevice, std::vector<double>> times;
        for (const auto& [device, ids] : device_of_)
            for (int worker : ids)
                for (size_t i = 1; i < data.tasks[size_t(worker)].size(); ++i) {
                    const TaskEvent& e = data.tasks[size_t(worker)][i];
                    times[device].push_back(e.end_us - e.start_us);
                }
        return times;
    }

 private:
    void add_slot(const Class& c, int worker, int implementation, int64_t repeat, int64_t turns) {
        std::vector<TaskSpec> sets;
        for (int64_t i = 0; i < turns; ++i) sets.push_back(on_own_tiles(c, worker, implementation));
        for (int64_t r = 0; r < repeat; ++r) plan_.tasks.push_back(sets[size_t(r % turns)]);
    }

    TaskSpec on_own_tiles(const Class& c, int worker, int implementation) {
        TaskSpec task = *c.task;
        task.node = 0, task.worker = worker, task.implementation = implementation;
        std::map<int, int> copy_of;
        for (TileUse& u : task.tiles) {
            const auto [it, fresh] = copy_of.emplace(u.tile, 0);
            if (fresh) it->second = add_tile(*c.plan, u.tile);
            u.tile = it->second;
            if (u.access == Access::accumulate) u.access = Access::read_write;
        }
        return task;
    }

    int add_tile(const Plan& from, int number) {
        const PlanTile& tile = from.tiles[size_t(number)];
        const DType type = from.dtype(number);
        const bool whole_number = type == DType::i32 || type == DType::u8;
        std::vector<int64_t> cols = {tile.cols};
        if (tile.ld > tile.cols) cols.push_back(tile.ld - tile.cols);  // the tile is the left part of a wider matrix
        Param& p =
            params_.add({"t" + std::to_string(params_.size()),
                         {tile.rows, tile.ld},
                         type,
                         {{tile.rows}, cols},
                         [=](int64_t i, int64_t j) {
                             return whole_number
                                        ? 0.0
                                        : 0.1 + 0.8 * double(random_bits(7, uint64_t(i), uint64_t(j)) >> 11) * 0x1p-53;
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

    std::map<ModelDevice, std::vector<int>> device_of_;
    Params params_;
    Plan plan_;
};

// A neighbour that takes the core for a moment is no property of the task.
int64_t drop_spikes(std::vector<double>& times) {
    const double limit = 3 * median(times);
    return int64_t(std::erase_if(times, [&](double t) { return t > limit; }));
}

// Held while the files of a machine are read, changed and written.
class FolderLock {
 public:
    explicit FolderLock(const std::filesystem::path& folder)
        : descriptor_(open((folder / ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644)) {
        check_system(descriptor_ >= 0 && flock(descriptor_, LOCK_EX) == 0, "cannot lock '" + folder.string() + "'");
        for (const auto& place : {folder, folder / "bus", folder / "codelets" / "45"}) remove_stale_files(place);
    }
    ~FolderLock() { close(descriptor_); }
    FolderLock(const FolderLock&) = delete;

 private:
    int descriptor_;
};

struct Wanted {
    Class what;
    int implementation;
    std::map<ModelDevice, std::vector<int>> workers;
};

bool is_current(const Machine& machine, const ModelFile& model, const Class& c, const ModelDevice& device,
                int implementation) {
    const ModelEntry* entry = model.find(device, implementation, c.task->footprint);
    if (!entry || entry->samples < least_samples) return false;
    const auto facts = machine.facts.codelets.find(c.task->codelet->name);
    if (facts == machine.facts.codelets.end() || facts->second.hash != c.task->codelet->source_hash) return false;
    const auto known = facts->second.entries.find(c.task->footprint);
    if (known == facts->second.entries.end()) return false;
    const auto origin = known->second.origin.find(device);
    return origin == known->second.origin.end() || origin->second == Origin::measured;
}

// With --reset a file that cannot be read is one that is measured anew, as its message promises.
ModelFile model_of(const Machine& machine, const std::string& codelet, bool reset) {
    try {
        return machine.model(codelet);
    } catch (const Error&) {
        if (!reset) throw;
        return {};
    }
}

std::vector<Wanted> missing(const Runtime& runtime, const Machine& machine, const std::vector<Class>& classes,
                            const CalibrationOptions& o, CalibrationResult& result) {
    std::vector<Wanted> all;
    const auto workers = workers_of(runtime);
    for (const Class& c : classes) {
        const ModelFile model = model_of(machine, c.task->codelet->name, o.reset);
        const int most = std::max(implementations(*c.task->codelet, false), implementations(*c.task->codelet, true));
        for (int k = 0; k < most; ++k) {
            Wanted w{c, k, {}};
            for (const auto& [device, ids] : workers) {
                if (k >= implementations(*c.task->codelet, device.type == 1)) continue;
                if (!o.reset && is_current(machine, model, c, device, k)) ++result.present;
                else w.workers[device] = ids;
            }
            if (!w.workers.empty()) all.push_back(std::move(w));
        }
    }
    return all;
}

// What others have written meanwhile stays.
void merge(Machine& machine, const Class& c, int implementation,
           const std::map<ModelDevice, std::vector<double>>& times, bool stale, bool reset) {
    const FolderLock lock(machine.folder());
    const std::string& name = c.task->codelet->name;
    machine.facts = read_facts(machine.folder());
    ModelFile model = stale ? ModelFile{} : model_of(machine, name, reset);
    if (stale) machine.facts.codelets.erase(name);
    describe(machine.facts, *c.plan, c.task->codelet);
    for (const auto& [device, t] : times) {
        model.set(device, implementation, entry_of(c.task->footprint, c.bytes(), c.task->cost.flops, t));
        machine.facts.codelets[name].entries[c.task->footprint].origin.erase(device);
    }
    std::filesystem::create_directories(machine.model_path(name).parent_path());
    write_model(machine.model_path(name), model);
    write_facts(machine.folder(), machine.facts);
}

bool enough(const std::map<ModelDevice, std::vector<double>>& times, size_t devices) {
    return times.size() == devices && std::all_of(times.begin(), times.end(), [](const auto& t) {
               return int64_t(t.second.size()) >= least_samples;
           });
}

bool is_stale(const Machine& machine, const CodeletInfo& c) {
    const auto facts = machine.facts.codelets.find(c.name);
    return facts != machine.facts.codelets.end() && facts->second.hash != c.source_hash;
}

}  // namespace

void change_facts(const std::filesystem::path& folder, const std::function<void(MachineFacts&)>& change) {
    const FolderLock lock(folder);
    MachineFacts facts = read_facts(folder);
    change(facts);
    write_facts(folder, facts);
}

CalibrationResult calibrate(const Runtime& runtime, Machine& machine, const std::vector<const Plan*>& plans,
                            const Step& step, const CalibrationOptions& o) {
    CalibrationResult result;
    const auto todo = missing(runtime, machine, classes_of(plans), o, result);
    int64_t done = 0;
    for (const Wanted& w : todo) {
        const CodeletInfo& codelet = *w.what.task->codelet;
        if (o.progress) o.progress(done++, int64_t(todo.size()), codelet.name);
        std::map<ModelDevice, std::vector<double>> times;
        for (int round = 0; round < 4 && !enough(times, w.workers.size()); ++round) {
            for (const auto& [device, t] : Bench(w.what, w.workers, w.implementation, o.samples).run(runtime, step))
                times[device].insert(times[device].end(), t.begin(), t.end());
            for (auto& [device, t] : times) result.spikes += drop_spikes(t);
        }
        result.measured += int64_t(times.size());
        merge(machine, w.what, w.implementation, times, is_stale(machine, codelet), o.reset);
    }
    if (o.progress) o.progress(int64_t(todo.size()), int64_t(todo.size()), "");
    return result;
}

std::optional<double> remeasure(const Runtime& runtime, const std::vector<const Plan*>& plans, const Step& step,
                                const std::string& codelet, uint32_t footprint, int implementation) {
    for (const Class& c : classes_of(plans)) {
        if (c.task->codelet->name != codelet || c.task->footprint != footprint) continue;
        const auto workers = workers_of(runtime);
        const auto cores = workers.find(ModelDevice{});
        if (cores == workers.end()) return std::nullopt;
        auto times = Bench(c, {*cores}, implementation, least_samples + 2).run(runtime, step);
        if (times.empty() || times.begin()->second.empty()) return std::nullopt;
        return median(times.begin()->second);
    }
    return std::nullopt;
}

}  // namespace tessera
