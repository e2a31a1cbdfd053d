#include "apps/placement.h"

#include <starpu.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "apps/found_schedules.h"
#include "apps/product_machine.h"
#include "core/list_schedule.h"
#include "core/threads.h"
#include "models/corun.h"
#include "models/estimate.h"

namespace tessera {
namespace {

// Between two tasks on a GPU: StarPU's own work and the launch, and what it does for each tile. Simulated ones take so
// long; on a GPU it is to be measured. The same for what a transfer takes beyond the link's latency, and for what it
// takes of the time of the GPU's thread, which starts it and launches the tasks.
constexpr double gpu_gap_s = 3.1e-6, gpu_gap_per_tile_s = 1e-6, transfer_gap_s = 8e-6, gpu_fetch_s = 10e-6;

// Kinds: the cores, and every GPU.
Devices devices_of_workers(const std::vector<WorkerInfo>& workers, const Machine& machine) {
    Devices d;
    for (const WorkerInfo& w : workers) {
        d.kind.push_back(w.cuda ? 1 + starpu_worker_get_devid(w.id) : 0);
        d.memory.push_back(int(w.node));
    }
    const unsigned nodes = starpu_memory_nodes_get_count();
    Links links(&machine);
    for (unsigned from = 0; from < nodes; ++from) {
        auto& latency = d.latency_s.emplace_back();
        auto& speed = d.bytes_per_s.emplace_back();
        auto& ways = d.links.emplace_back();
        for (unsigned to = 0; to < nodes; ++to) {
            latency.push_back(from == to ? 0 : transfer_gap_s + 1e-6 * starpu_transfer_latency(from, to));
            speed.push_back(from == to ? INFINITY : 1e6 * starpu_transfer_bandwidth(from, to));
            ways.push_back(from == to ? std::vector<int>{} : links_between(links, from, to));
        }
    }
    d.link_bytes_per_s = links.bytes_per_s;
    for (unsigned n = 0; n < nodes; ++n)
        d.fetch_s.push_back(starpu_node_get_kind(n) == STARPU_CUDA_RAM ? gpu_fetch_s : 0);
    return d;
}

// The fastest known time of every task on each kind of workers: measured, else estimated (models/estimate.h), else
// rough (core/plan.h), a GPU counting as twenty cores.
FoundSchedules::Times times_of_tasks(const Runtime& runtime, const Plan& plan, const Machine& machine,
                                     const Devices& devices, bool ordered) {
    const auto workers = runtime.workers();
    std::map<int, ModelDevice> kinds;
    std::map<int, int> sharing;  // streams of a GPU
    for (size_t w = 0; w < workers.size(); ++w) {
        kinds[devices.kind[w]] = device_of(workers[w]);
        if (workers[w].cuda) ++sharing[devices.kind[w]];
    }
    std::map<int, double> slower;
    for (const auto& [kind, n] : sharing)
        slower[kind] = n > 1 ? std::max(1.0, n / gain_of_company(machine, kinds[kind])) : 1;
    std::vector<std::vector<double>> times(size_t(kinds.empty() ? 0 : kinds.rbegin()->first + 1));
    std::map<const CodeletInfo*, ModelFile> models;
    Estimator estimate(machine);
    constexpr double cores_per_gpu = 20;
    const std::vector<double> rough = estimated_times(plan);
    const auto seconds = [&](size_t task, const ModelDevice& device) {
        const TaskSpec& t = plan.tasks[task];
        if (!models.contains(t.codelet)) models[t.codelet] = machine.model(t.codelet->name);
        const double us = models[t.codelet].fastest_us(device, t.footprint);
        if (!std::isnan(us)) return 1e-6 * us;
        if (const auto guess = estimate(t, device)) return 1e-6 * guess->time_us;
        return rough[task] / (device.type == 0 ? 1 : cores_per_gpu);
    };
    for (size_t i = 0; i < plan.tasks.size(); ++i) {
        const CodeletInfo& codelet = *plan.tasks[i].codelet;
        const double gpu_gap = gpu_gap_s + gpu_gap_per_tile_s * double(plan.tasks[i].tiles.size());
        for (size_t k = 0; k < times.size(); ++k) {
            const bool elsewhere = ordered && k == 0 && !sharing.empty() && codelet.starpu->cuda_funcs[0];
            const bool can = kinds.contains(int(k)) && !elsewhere && !(k == 0 ? codelet.cpu : codelet.cuda).empty();
            times[k].push_back(!can                ? INFINITY
                               : codelet.host_only ? 0
                               : k > 0             ? gpu_gap + seconds(i, kinds[int(k)]) * slower[int(k)]
                                                   : seconds(i, kinds[0]));
        }
    }
    return times;
}

// When a tile that is read elsewhere is counted to go: when its reader waits for nothing else, or when it is written;
// or as the first, but in any idle time of the links.
enum class Counting { waiting, sent_on, inserting };

std::vector<TaskSchedule> search(const Plan& plan, const FoundSchedules::Times& times_s, const Devices& devices,
                                 bool ordered, int tries) {
    const auto scheduler = [&](Counting counting) {
        Devices counted = devices;
        counted.sent_on = counting == Counting::sent_on;
        counted.insertion = counting == Counting::inserting;
        return ListScheduler(plan, times_s, std::move(counted), ordered);
    };
    std::vector<TaskSchedule> all;
    const auto add = [&](const Placement& p, const std::vector<Placement::Time>& times) {
        TaskSchedule& schedule = all.emplace_back();
        schedule.step_s = p.step_s;
        for (const Placement::Time& t : times) schedule.tasks.push_back({.starts_s = t.start_s, .takes_s = t.takes_s});
        for (size_t k = 0; k < p.order.size(); ++k) {
            const size_t t = size_t(p.order[k]);
            schedule.tasks[t].turn = int(k);
            schedule.tasks[t].place = devices.memory[size_t(p.worker[t])];
        }
    };
    // Where a transfer waits for all that were placed before it, a change early in the order delays what has nothing to
    // do with it, and a search refuses it: some go on from where one with insertion ends, others find what that misses.
    const ListScheduler inserting = scheduler(Counting::inserting);
    std::vector<Placement> starts = inserting.search(tries / 2);
    const auto times = inserting.times(starts.front());
    for (Placement& p : starts) p = inserting.by_start(std::move(p));
    add(starts.front(), times);
    // Which of the two counts is nearer to what happens, and which of schedules that are about equal is faster in fact,
    // estimates cannot tell: all are tried.
    const ListScheduler waiting = scheduler(Counting::waiting), sent_on = scheduler(Counting::sent_on);
    const ListScheduler* const schedulers[] = {&waiting, &sent_on, &waiting, &sent_on};
    std::vector<Placement> found[4];
    in_threads(4,
               [&](int64_t i) { found[i] = schedulers[i]->search(tries, i < 2 ? starts : std::vector<Placement>()); });
    for (size_t i = 0; i < 4; ++i)
        for (auto p = found[i].begin(); p != found[i].end(); ++p) {
            const auto same = [&](const Placement& other) {
                return p->worker == other.worker && p->order == other.order;
            };
            if (std::none_of(found[i].begin(), p, same)) add(*p, schedulers[i]->times(*p));
        }
    return all;
}

}  // namespace

void place(Plan& plan, const Runtime& runtime, const Machine& machine, bool ordered, int tries) {
    const Devices devices = devices_of_workers(runtime.workers(), machine);
    const FoundSchedules::Times times = times_of_tasks(runtime, plan, machine, devices, ordered);
    if (std::set<int>(devices.memory.begin(), devices.memory.end()).size() < 2) {
        const auto order = ListScheduler(plan, times, devices, ordered).by_rank();
        TaskSchedule& turns = plan.schedules.emplace_back();
        turns.tasks.resize(order.size());
        for (size_t i = 0; i < order.size(); ++i) turns.tasks[size_t(order[i])].turn = int(i);
        return;
    }
    // Means move a little with every run; what is simulated must not depend on what was before.
#ifdef STARPU_SIMGRID
    constexpr double tolerance = 0;
#else
    constexpr double tolerance = 0.1;
#endif
    const FoundSchedules kept(runtime.config().cache / "schedules", tolerance);
    const uint64_t key = FoundSchedules::key(plan, devices, ordered, tries);
    plan.schedules = kept.find(key, plan, times);
    if (!plan.schedules.empty()) return;
    plan.schedules = search(plan, times, devices, ordered, tries);
    kept.keep(key, plan.schedules, times);
}

}  // namespace tessera
