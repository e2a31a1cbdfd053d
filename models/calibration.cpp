#include "models/calibration.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/file.h"
#include "core/statistics.h"
#include "models/task_bench.h"

namespace tessera {
namespace {

// Times in microseconds per device, without the first on each set of tiles; all workers are busy.
std::map<ModelDevice, std::vector<double>> times_of(const Runtime& runtime, const Step& step, const TaskClass& c,
                                                    const std::map<ModelDevice, std::vector<int>>& workers,
                                                    int implementation, int64_t samples) {
    TaskBench bench;
    std::map<int, int64_t> first_runs;
    for (const auto& [device, ids] : workers) {
        if (implementation >= implementations(*c.task->codelet, device.type == 1)) continue;
        const int64_t sharing = int64_t(ids.size()), each = (samples + sharing - 1) / sharing;
        for (int worker : ids) first_runs[worker] = bench.add(c, worker, implementation, each, sharing);
    }
    const auto events = bench.run(runtime, step);
    std::map<ModelDevice, std::vector<double>> times;
    for (const auto& [device, ids] : workers)
        for (int worker : ids)
            for (size_t i = size_t(first_runs[worker]); i < events[size_t(worker)].size(); ++i) {
                const TaskEvent& e = events[size_t(worker)][i];
                times[device].push_back(e.end_us - e.start_us);
            }
    return times;
}

// A neighbour that takes the core for a moment is no property of the task.
int64_t drop_spikes(std::vector<double>& times) {
    const double limit = 3 * median(times);
    return int64_t(std::erase_if(times, [&](double t) { return t > limit; }));
}

// Held while the files of a machine are read, changed and written.
FolderLock lock_machine(const std::filesystem::path& folder) {
    FolderLock lock(folder);
    for (const auto& place : {folder, folder / "bus", folder / "codelets" / "45"}) remove_stale_files(place);
    return lock;
}

struct Wanted {
    TaskClass what;
    int implementation;
    std::map<ModelDevice, std::vector<int>> workers;
};

bool is_current(const Machine& machine, const ModelFile& model, const TaskClass& c, const ModelDevice& device,
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

std::vector<Wanted> missing(const Runtime& runtime, const Machine& machine, const std::vector<TaskClass>& classes,
                            const CalibrationOptions& o, CalibrationResult& result) {
    std::vector<Wanted> all;
    const auto workers = workers_by_device(runtime, true);
    for (const TaskClass& c : classes) {
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
void merge(Machine& machine, const TaskClass& c, int implementation,
           const std::map<ModelDevice, std::vector<double>>& times, bool stale, const CalibrationOptions& o) {
    const FolderLock lock = lock_machine(machine.folder());
    const std::string& name = c.task->codelet->name;
    machine.facts = read_facts(machine.folder());
    ModelFile model = stale ? ModelFile{} : model_of(machine, name, o.reset);
    if (stale) {
        machine.facts.codelets.erase(name);
        std::erase_if(machine.facts.together_us, [&](const auto& entry) {
            return entry.first.task.codelet == name || entry.first.beside.codelet == name;
        });
    }
    describe(machine.facts, *c.plan, c.task->codelet);
    EntryFacts& entry = machine.facts.codelets[name].entries[c.task->footprint];
    entry.command = o.command;
    for (const auto& [device, t] : times) {
        model.set(device, implementation, entry_of(c.task->footprint, c.bytes(), c.task->cost.flops, t));
        entry.origin.erase(device);
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
    const FolderLock lock = lock_machine(folder);
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
            for (const auto& [device, t] : times_of(runtime, step, w.what, w.workers, w.implementation, o.samples))
                times[device].insert(times[device].end(), t.begin(), t.end());
            for (auto& [device, t] : times) result.spikes += drop_spikes(t);
        }
        result.measured += int64_t(times.size());
        merge(machine, w.what, w.implementation, times, is_stale(machine, codelet), o);
    }
    if (o.progress) o.progress(int64_t(todo.size()), int64_t(todo.size()), "");
    return result;
}

std::optional<double> remeasure(const Runtime& runtime, const std::vector<const Plan*>& plans, const Step& step,
                                const std::string& codelet, uint32_t footprint, int implementation) {
    for (const TaskClass& c : classes_of(plans)) {
        if (c.task->codelet->name != codelet || c.task->footprint != footprint) continue;
        const auto workers = workers_by_device(runtime, true);
        const auto cores = workers.find(ModelDevice{});
        if (cores == workers.end()) return std::nullopt;
        auto times = times_of(runtime, step, c, {*cores}, implementation, least_samples + 2);
        if (times.empty() || times.begin()->second.empty()) return std::nullopt;
        return median(times.begin()->second);
    }
    return std::nullopt;
}

}  // namespace tessera
