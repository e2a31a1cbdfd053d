// What an executor makes of the schedules of a plan: priorities, hints for policies, tiles sent ahead.
#include <algorithm>
#include <numeric>

#include "core/executor.h"

namespace tessera {
namespace {

// What the next step waits for goes first; where tasks have owners their node's order is the plan's (core/blocks.h).
// Tasks that hand their work to other threads go before all: they hold no worker up, and others wait for that work.
std::vector<int> priorities_of(const Plan& plan, bool ordered) {
    auto ranks = upward_ranks(plan, estimated_times(plan), ordered);
    const double top = ranks.empty() ? 1 : *std::max_element(ranks.begin(), ranks.end());
    for (size_t i = 0; i < ranks.size(); ++i)
        if (plan.tasks[i].codelet->host_only) ranks[i] += top;
    std::vector<int> priorities;
    if (!in_blocks(plan)) {
        for (double r : ranks) priorities.push_back(int(1e6 * r / top));
        return priorities;
    }
    std::vector<double> of_node(plan.nodes.size());
    for (size_t i = 0; i < ranks.size(); ++i) {
        double& node = of_node[size_t(plan.tasks[i].node)];
        node = std::max(node, ranks[i]);
    }
    for (size_t i = 0; i < ranks.size(); ++i)
        if (plan.tasks[i].owner >= 0) ranks[i] = of_node[size_t(plan.tasks[i].node)];
    std::vector<size_t> order(ranks.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ranks[a] > ranks[b]; });
    priorities.resize(ranks.size());
    for (size_t place = 0; place < order.size(); ++place) priorities[order[place]] = int(order.size() - place);
    return priorities;
}

// What a product has completed goes to host memory while the next one is computed, and may be dropped then.
void send_home(starpu_task* task) {
    const unsigned count = STARPU_TASK_GET_NBUFFERS(task);
    for (unsigned i = 0; i < count; ++i)
        if (STARPU_TASK_GET_MODE(task, i) & STARPU_W)
            starpu_data_prefetch_on_node_prio(STARPU_TASK_GET_HANDLE(task, i), STARPU_MAIN_RAM, 1, task->priority);
}

}  // namespace

void Executor::prepare_schedules(Loaded& l) const {
    const Plan& plan = l.plan;
    const size_t count = plan.tasks.size();
    for (size_t s = 0; s < std::max<size_t>(1, plan.schedules.size()); ++s) {
        const TaskSchedule* schedule = plan.schedules.empty() ? nullptr : &plan.schedules[s];
        Scheduled& made = l.schedules.emplace_back();
        if (schedule) {
            for (const TaskSchedule::Task& t : schedule->tasks) made.turns.push_back(t.turn);
            for (const int turn : made.turns) made.priorities.push_back(int(count) - turn);
            made.sends = sends_of(plan, *schedule);
        } else made.priorities = priorities_of(plan, options_.deterministic);
        for (size_t i = 0; i < count; ++i) {
            const TaskSpec& t = plan.tasks[i];
            const TaskSchedule::Task where = schedule ? schedule->tasks[i] : TaskSchedule::Task{};
            const bool lasting =
                options_.in_place && std::any_of(t.tiles.begin(), t.tiles.end(), [&](const TileUse& u) {
                    return u.access != Access::read && plan.values[size_t(plan.tiles[size_t(u.tile)].value)].param;
                });
            made.hints.push_back({.node = std::max(t.owner, where.place),
                                  .completes = t.completes,
                                  .goes_home = t.completes && lasting,
                                  .block = t.block,
                                  .starts_s = where.starts_s,
                                  .takes_s = where.takes_s,
                                  .step_s = where.place >= 0 ? schedule->step_s : 0});
        }
    }
    l.trial = ScheduleTrial(l.schedules.size());
}

size_t Executor::schedule_of_next_step(const Loaded& l) const {
    starpu_pthread_mutex_lock(&in_flight_.mutex);
    const size_t schedule = l.trial.current();
    starpu_pthread_mutex_unlock(&in_flight_.mutex);
    return schedule;
}

bool Executor::settled(int number) const {
    starpu_pthread_mutex_lock(&in_flight_.mutex);
    const bool over = loaded_[size_t(number)]->trial.over();
    starpu_pthread_mutex_unlock(&in_flight_.mutex);
    return over;
}

const TaskSchedule* Executor::schedule(int number) const {
    const Loaded& l = *loaded_[size_t(number)];
    return l.plan.schedules.empty() ? nullptr : &l.plan.schedules[schedule_of_next_step(l)];
}

// Where others read what a task of a placed plan has written, it is wanted: by the time they are ready it may be there.
void Executor::send_written(const UnfinishedStep& step, starpu_task* task) {
    if (const TaskHint* hint = hint_of(task); hint && hint->goes_home) send_home(task);
    const Scheduled& schedule = *step.schedule;
    if (schedule.sends.empty()) return;
    const auto number = size_t(static_cast<const TaskRun*>(task->cl_arg)->task);
    for (const Send& s : schedule.sends[number]) {
        const int later =
            schedule.turns[size_t(s.reader)] - schedule.turns[number] + (s.next_step ? int(schedule.turns.size()) : 0);
        starpu_data_prefetch_on_node_prio(STARPU_TASK_GET_HANDLE(task, s.position), unsigned(s.node), 1,
                                          task->priority - later);
    }
}

}  // namespace tessera
