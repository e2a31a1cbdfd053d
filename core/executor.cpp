#include "core/executor.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <numeric>

#include "core/error.h"
#include "core/gpus.h"
#include "core/host_memory.h"
#include "core/reuse.h"
#include "core/trace.h"

namespace tessera {
namespace {

starpu_data_access_mode starpu_mode(Access a, bool deterministic) {
    switch (a) {
        case Access::read:
            return STARPU_R;
        case Access::write:
            return STARPU_W;
        case Access::read_write:
            return STARPU_RW;
        case Access::accumulate:
            break;
    }
    return deterministic ? STARPU_RW : starpu_data_access_mode(STARPU_RW | STARPU_COMMUTE);
}

}  // namespace

Executor::Executor(const Runtime& runtime, ExecutorOptions options) : runtime_(runtime), options_(options) {
    options_.in_place = options_.in_place && runtime.in_place();
    run_.activity = &runtime.activity();
    run_.check_nan = options.check_nan || runtime.config().check_nan;
    run_.first_implementation_only = options.deterministic;
    run_.cuda_first = options.deterministic && runtime.cuda_workers() > 0;  // a core's rounding is another
    if (run_.cuda_first) require_one_gpu_model();
    run_.forced_implementation = options.forced_implementation;
    if (options.trace) starpu_profiling_status_set(STARPU_PROFILING_ENABLE);
    if (options.serial) turn_ = tile_handles_.nothing();
}

Executor::~Executor() {
    starpu_task_wait_for_all();
    for (auto& l : loaded_)
        for (auto h : l->owned) starpu_data_unregister_no_coherency(h);
    for (auto& [kind, pool] : shared_)
        for (auto h : pool) starpu_data_unregister_no_coherency(h);
    if (turn_) starpu_data_unregister_no_coherency(turn_);
    while (!params_.empty()) {
        auto& [param, s] = *params_.begin();
        drop_storage(*param, s);
        params_.erase(params_.begin());
    }
}

// All that a step touches, against the smallest memory.
static bool exceeds(const Plan& plan, const std::vector<BlockDevice>& devices) {
    const int64_t bytes = memory_bytes(plan);
    return std::any_of(devices.begin(), devices.end(), [&](const BlockDevice& d) {
        return d.speed > 0 && d.memory_bytes > 0 && bytes > d.memory_bytes;
    });
}

// Cores lose nothing by it. On several GPUs to wait for a place costs some percent, so it is for plans of which there
// may not be room for two.
bool Executor::wants_reuse(const Plan& plan) const {
    if (!options_.reuse || runtime_.cuda_workers() == 0) return options_.reuse;
    const int64_t bytes = memory_bytes(plan);
    for (unsigned node = 0; node < starpu_memory_nodes_get_count(); ++node) {
        const starpu_ssize_t all = starpu_memory_get_total(node);  // -1: not limited
        if (all > 0 && int64_t(all) < 2 * bytes) return true;
    }
    return host_memory_bytes() / 2 < bytes;
}

int Executor::load(Plan plan, LoadOptions how) {
    const auto reuse = [&, wanted = wants_reuse(plan)] {
        if (wanted) reuse_memory(plan, estimated_times(plan), options_.deterministic);
    };
    reuse();
    if (exceeds(plan, options_.devices)) {
        forget_reuse(plan);  // which stands on the order of tasks
        block_products(plan, options_.devices);
        reuse();
    }
    if (in_blocks(plan)) tile_handles_.even_out(plan);
    check_host_memory(plan);
    check_limits(plan);
    check_swap(plan);
    check_workers(plan);
    if (options_.planner && how.planned) options_.planner(plan);
    loaded_.push_back(std::make_unique<Loaded>());
    loaded_.back()->plan = std::move(plan);
    prepare(*loaded_.back(), how.share);
    return int(loaded_.size()) - 1;
}

void Executor::prepare(Loaded& l, bool share) {
    const Plan& plan = l.plan;
    const bool any_buffered = std::any_of(plan.values.begin(), plan.values.end(), [](auto& v) { return v.buffered; });
    const size_t copies = any_buffered ? size_t(options_.steps_in_flight) : 1;
    l.tile_handles.resize(copies);
    std::vector<bool> used(plan.tiles.size()), written_first(plan.tiles.size());
    for (const TaskSpec& t : plan.tasks)
        for (const TileUse& u : t.tiles) {
            if (!used[size_t(u.tile)]) written_first[size_t(u.tile)] = u.access == Access::write;
            used[size_t(u.tile)] = true;
        }
    std::map<std::tuple<int64_t, int64_t, DType>, size_t> taken;  // of each kind, by this plan
    for (size_t c = 0; c < copies; ++c) {
        Handles& handles = l.tile_handles[c];
        handles.resize(plan.tiles.size());
        for (size_t k = 0; k < plan.tiles.size(); ++k) {
            const PlanTile& tile = plan.tiles[k];
            const PlanValue& v = plan.values[size_t(tile.value)];
            starpu_data_handle_t& h = handles[k];
            if (tile.reuses >= 0) continue;
            if (v.param) h = storage(*v.param).tiles[k - size_t(v.first_tile)];
            else if (c > 0 && !v.buffered) h = l.tile_handles[0][k];
            else if (used[k] && !(share && written_first[k])) {
                h = tile_handles_.matrix(nullptr, tile, v.dtype);
                l.owned.push_back(h);
            } else if (used[k]) {
                const auto kind = std::tuple(tile.rows, tile.cols, v.dtype);
                Handles& pool = shared_[kind];
                const size_t next = taken[kind]++;
                if (next == pool.size()) pool.push_back(tile_handles_.matrix(nullptr, tile, v.dtype));
                h = pool[next];
            }
        }
        for (size_t k = 0; k < plan.tiles.size(); ++k) handles[k] = handles[size_t(plan.place(int(k)))];
    }

    std::map<std::pair<const CodeletInfo*, uint32_t>, int> classes;
    for (const PlanNode& n : plan.nodes) l.names.push_back(n.name());
    l.handles.resize(copies);
    std::vector<int> last(plan.tiles.size(), -1);
    for (const TaskSpec& t : plan.tasks)
        for (const TileUse& u : t.tiles) last[size_t(plan.place(u.tile))] = u.tile;
    for (size_t k = 0; k < plan.tiles.size(); ++k)
        l.gone.push_back(last[size_t(plan.place(int(k)))] >= 0 && last[size_t(plan.place(int(k)))] != int(k));
    for (size_t i = 0; i < plan.tasks.size(); ++i) {
        const TaskSpec& t = plan.tasks[i];
        l.tasks.push_back({t.codelet->starpu, l.names[size_t(t.node)].c_str(), &t, t.footprint,
                           uint32_t(l.modes.size()), uint32_t(t.tiles.size()),
                           i + 1 == plan.tasks.size() || plan.tasks[i + 1].node != t.node});
        for (const TileUse& u : t.tiles) {
            l.modes.push_back(starpu_mode(u.access, options_.deterministic));
            for (size_t c = 0; c < copies; ++c) l.handles[c].push_back(l.tile_handles[c][size_t(u.tile)]);
        }
        l.state.class_of_task.push_back(
            classes.emplace(std::pair{t.codelet, t.footprint}, int(classes.size())).first->second);
    }
    prepare_schedules(l);
    l.state.plan = &plan;
    l.state.run = &run_;
    l.state.cpu_times.assign(starpu_worker_get_count(), std::vector<Timing>(classes.size()));
}

// Tasks of the next node wait for those before, by data and without a thread that waits: nothing is added to them.
void Executor::end_turn() {
    static starpu_codelet nothing = [] {
        starpu_codelet c{};
        c.where = STARPU_NOWHERE;
        c.nbuffers = 1, c.modes[0] = STARPU_W;
        c.name = "turn";
        return c;
    }();
    starpu_task* task = starpu_task_create();
    task->cl = &nothing;
    task->handles[0] = turn_;
    check_starpu(starpu_task_submit(task), "submitting the end of a turn");
}

void Executor::submit_task(Loaded& l, size_t index, const starpu_data_handle_t* handles, const Step& step,
                           UnfinishedStep& unfinished) {
    const PreparedTask& p = l.tasks[index];
    starpu_task* task = starpu_task_create();
    task->cl = p.codelet;
    task->name = p.name;
    // Turns are within a step, and steps before this one come first: else what the next step waits for would wait.
    const Scheduled& schedule = *unfinished.schedule;
    task->priority = int(schedule.priorities[index] - (schedule.turns.empty() ? 0 : submitted_ % INT_MAX));
    task->flops = p.spec->cost.flops;
    const size_t bytes = args_offset + p.spec->args.size();
    auto* args = static_cast<char*>(std::malloc(bytes));
    new (args) TaskRun{&l.state, int32_t(index), p.footprint};
    std::memcpy(args + args_offset, p.spec->args.data(), p.spec->args.size());
    if (p.spec->codelet->at_step) p.spec->codelet->at_step(args + args_offset, step);
    task->cl_arg = args;
    task->cl_arg_size = bytes;
    task->cl_arg_free = 1;
    // StarPU's modular policies, while they calibrate, give tasks to workers without asking can_execute(): 'where' is
    // asked again by the worker. Its second kind, of which no body exists, is there because StarPU prefetches a task
    // each time that it is pushed if 'where' is one kind only, and stops at the second.
    if (run_.cuda_first && p.codelet->cuda_funcs[0]) task->where = STARPU_CUDA | STARPU_OPENCL;
    task->callback_func = task_finished;
    task->callback_arg = &unfinished;
    if (TaskHint& hint = unfinished.schedule->hints[index]; hint.node >= 0) hint.attach_to(task);
    const uint32_t count = p.count + (turn_ != nullptr);
    task->nbuffers = int(count);
    auto* to_handles = task->handles;
    auto* to_modes = task->modes;
    if (count > STARPU_NMAXBUFS) {  // StarPU frees both
        to_handles = task->dyn_handles = static_cast<starpu_data_handle_t*>(std::malloc(count * sizeof(*handles)));
        to_modes = task->dyn_modes = static_cast<starpu_data_access_mode*>(std::malloc(count * sizeof(*to_modes)));
    }
    std::copy_n(handles + p.first_handle, p.count, to_handles);
    std::copy_n(l.modes.data() + p.first_handle, p.count, to_modes);
    if (turn_) to_handles[p.count] = turn_, to_modes[p.count] = STARPU_R;
    const int code = starpu_task_submit(task);
    if (code != 0) {
        task->destroy = 0;
        starpu_task_destroy(task);
        check_starpu(code, "submitting " + p.spec->codelet->name + " of " + p.name);
    }
}

static void record(Trace& trace, starpu_task* task, int plan, int64_t step) {
    if (!task->profiling_info) return;  // submitted before profiling was on
    auto& times = *task->profiling_info;
    TaskEvent e;
    e.fetch_us = starpu_timing_timespec_to_us(&times.acquire_data_start_time);
    e.start_us = starpu_timing_timespec_to_us(&times.start_time);
    e.end_us = starpu_timing_timespec_to_us(&times.end_time);
    if (!(e.fetch_us > 0 && e.fetch_us <= e.start_us)) e.fetch_us = e.start_us;
    e.plan = plan, e.step = step;
    e.task = static_cast<const TaskRun*>(task->cl_arg)->task;
    e.worker = times.workerid, e.implementation = int(starpu_task_get_implementation(task));
    e.memory_bytes = int64_t(starpu_memory_get_used(starpu_worker_get_memory_node(unsigned(e.worker))));
    trace.task(e);
    trace.sample_links();
}

void Executor::task_finished(void* argument) {
    starpu_task* task = starpu_task_get_current();
    auto& step = *static_cast<UnfinishedStep*>(argument);
    send_written(step, task);
    // A worker's events are written by that worker: not by a thread that ended its task later (end_later).
    if (step.trace && starpu_worker_get_id() >= 0) record(*step.trace, task, step.plan, step.number);
    if (step.tasks_left.fetch_sub(1) != 1) return;
    InFlight& all = *step.all;  // the step may be gone once its end is seen
    starpu_pthread_mutex_lock(&all.mutex);
    step.loaded->trial.ended(step.number, step.schedule_number, 1e-6 * starpu_timing_now());
    step.finished = true;
    starpu_pthread_cond_signal(&all.one_finished);
    starpu_pthread_mutex_unlock(&all.mutex);
}

void Executor::wait_for_place() {
    starpu_pthread_mutex_lock(&in_flight_.mutex);
    for (;;) {
        std::erase_if(unfinished_, [](const auto& step) { return step->finished; });
        if (int64_t(unfinished_.size()) < options_.steps_in_flight) break;
        starpu_pthread_cond_wait(&in_flight_.one_finished, &in_flight_.mutex);
    }
    starpu_pthread_mutex_unlock(&in_flight_.mutex);
}

void Executor::submit(int number, const Step& step) {
    Loaded& l = *loaded_[size_t(number)];
    if (run_.error.failed()) throw_first_error();
    wait_for_place();
    const size_t schedule = schedule_of_next_step(l);
    unfinished_.push_back(std::make_unique<UnfinishedStep>(&in_flight_, options_.trace, &l, &l.schedules[schedule],
                                                           schedule, steps_++, number, int64_t(l.tasks.size()),
                                                           l.tasks.empty()));
    const auto* handles = l.handles[size_t(l.steps) % l.handles.size()].data();
    try {
        for (size_t i = 0; i < l.tasks.size(); ++i) {
            submit_task(l, i, handles, step, *unfinished_.back());
            if (turn_ && l.tasks[i].last_of_node) end_turn();
            if (i % 1000 == 999 && starpu_task_nsubmitted() > most_submitted)
                starpu_task_wait_for_n_submitted(unsigned(most_submitted / 2));
        }
    } catch (...) {  // a step of which a part was submitted never counts as finished
        starpu_task_wait_for_all();
        unfinished_.clear();
        throw;
    }
    ++l.steps;
    submitted_ += int64_t(l.tasks.size());
    if (run_.error.failed()) throw_first_error();
}

void Executor::wait() {
    starpu_task_wait_for_all();
    unfinished_.clear();
    if (options_.trace) options_.trace->sample_links(true);
    if (run_.error.failed()) throw_first_error();
}

void Executor::throw_first_error() {
    starpu_task_wait_for_all();  // what is submitted drains with empty bodies
    unfinished_.clear();
    throw Error(run_.error.take().value_or("a task failed"));
}

std::vector<ClassTime> Executor::class_times(int number) const {
    const Loaded& l = *loaded_[size_t(number)];
    std::vector<ClassTime> all;
    for (size_t i = 0; i < l.plan.tasks.size(); ++i) {
        const size_t c = size_t(l.state.class_of_task[i]);
        if (c >= all.size()) all.resize(c + 1);
        all[c].codelet = l.plan.tasks[i].codelet;
        all[c].cost = l.plan.tasks[i].cost;
        ++all[c].tasks_per_step;
    }
    for (const auto& worker : l.state.cpu_times)
        for (size_t c = 0; c < worker.size(); ++c) {
            Timing& t = all[c].cpu;
            if (worker[c].count == 0) continue;
            t.least_s = t.count == 0 ? worker[c].least_s : std::min(t.least_s, worker[c].least_s);
            t.count += worker[c].count, t.sum_s += worker[c].sum_s;
        }
    return all;
}

std::vector<double> Executor::busy_s() const {
    std::vector<double> busy(starpu_worker_get_count());
    for (const auto& l : loaded_)
        for (size_t w = 0; w < busy.size(); ++w)
            for (const Timing& t : l->state.cpu_times[w]) busy[w] += t.sum_s;
    return busy;
}

}  // namespace tessera
