// core/scheduler.h - a scheduling policy is a struct with push() and pop(); `Policy<P>` makes a StarPU policy of it,
// and schedulers/plugin.cpp exports all of them to any StarPU program (STARPU_SCHED_LIB, STARPU_SCHED).
#pragma once
#include <starpu.h>
#include <starpu_scheduler.h>

#include <climits>
#include <cmath>
#include <cstdint>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

namespace tessera {

// StarPU's mutex: under simulation its threads are not the system's.
class PolicyMutex {
 public:
    PolicyMutex() { starpu_pthread_mutex_init(&mutex_, nullptr); }
    ~PolicyMutex() { starpu_pthread_mutex_destroy(&mutex_); }
    // Others may look at this worker while it waits.
    void lock() {
        starpu_worker_relax_on();
        starpu_pthread_mutex_lock(&mutex_);
        starpu_worker_relax_off();
    }
    void unlock() { starpu_pthread_mutex_unlock(&mutex_); }

 private:
    starpu_pthread_mutex_t mutex_;
};

// What a planner may tell a policy about a task: starpu_task::sched_data points to one if hypervisor_tag is `tag`; else
// it may be anything of others. It must outlive the task. Policies that know nothing of it lose nothing: priorities
// carry the order.
struct TaskHint {
    static constexpr int tag = 0x74657373;
    void attach_to(starpu_task* task) { task->sched_data = this, task->hypervisor_tag = tag; }

    int node = -1;           // memory node whose workers should run it; another may where it would be done sooner
    bool completes = false;  // the last of several tasks that add to what it writes
    bool goes_home = false;  // which is then sent to where it was registered
    int block = 0;           // tasks of one block and node share what they read: it stays until the last is done
    double starts_s = 0;     // where step_s is not 0: when a step that takes so long has it start,
    double takes_s = 0;      // and how long it is at work
    double step_s = 0;
};
inline const TaskHint* hint_of(const starpu_task* task) {
    if (task->hypervisor_tag != TaskHint::tag) return nullptr;
    const auto* hint = static_cast<const TaskHint*>(task->sched_data);
    return hint->node >= 0 ? hint : nullptr;
}

inline std::vector<starpu_sched_policy*>& our_policies() {
    static std::vector<starpu_sched_policy*> all;
    return all;
}

// Workers that can run the task. To be asked before the task can be taken by one of them: then it may be gone.
inline std::vector<unsigned> able_workers(starpu_task* task) {
    auto* workers = starpu_sched_ctx_get_worker_collection(task->sched_ctx);
    starpu_sched_ctx_iterator it;
    std::vector<unsigned> able;
    workers->init_iterator_for_parallel_tasks(workers, &it, task);
    while (workers->has_next(workers, &it)) {
        const unsigned worker = unsigned(workers->get_next(workers, &it));
        if (starpu_worker_can_execute_task_first_impl(worker, task, nullptr)) able.push_back(worker);
    }
    return able;
}
inline void wake_one(const std::vector<unsigned>& workers) {
    for (unsigned worker : workers)
        if (starpu_wake_worker_relax_light(int(worker))) return;
}

// The implementation that the task's performance model says is fastest on this worker; one that has no time yet goes
// first, so that it gets one. Of the others only first samples are known, taken while code and memory were cold or the
// machine was busy: while StarPU updates the model (in the process in which a size of the codelet was new), the second
// best runs again now and then, for its mean to come right.
class ImplementationChoice {
 public:
    static constexpr uint32_t apart = 32, often = 16;  // tasks between; so many times, then whenever tasks doubled
    static constexpr double near = 1.3;                // slower ones are not run again

    unsigned operator()(starpu_task* task, unsigned worker) {
        unsigned mask = 0;
        if (!starpu_worker_can_execute_task_impl(worker, task, &mask)) return 0;
        if ((mask & (mask - 1)) == 0) return unsigned(__builtin_ctz(mask));  // the only one
        unsigned best = 0, second = 0;
        double best_us = INFINITY, second_us = INFINITY;
        for (unsigned i = 0; i < STARPU_MAXIMPLEMENTATIONS; ++i) {
            if (!(mask >> i & 1)) continue;
            const double us = starpu_task_worker_expected_length(task, worker, task->sched_ctx, i);
            if (std::isnan(us)) return i;
            if (us < best_us) second = best, second_us = best_us, best = i, best_us = us;
            else if (us < second_us) second = i, second_us = us;
        }
        return second_us < near * best_us && is_turn(task, worker) ? second : best;
    }

 private:
#ifdef STARPU_SIMGRID
    static bool is_turn(starpu_task*, unsigned) { return false; }
#else
    bool is_turn(starpu_task* task, unsigned worker) {
        if (!task->cl->model->benchmarking) return false;  // its times are no longer updated
        auto* arch = starpu_worker_get_perf_archtype(int(worker), task->sched_ctx);
        const Kind kind{task->cl, starpu_task_footprint(task->cl->model, task, arch, 0),
                        starpu_worker_get_type(int(worker))};
        std::lock_guard lock(mutex_);
        const uint32_t tasks = ++tasks_[kind];
        return tasks % apart == 0 && (tasks <= apart * often || (tasks & (tasks - 1)) == 0);
    }
    using Kind = std::tuple<const starpu_codelet*, uint32_t, starpu_worker_archtype>;
    std::mutex mutex_;
    std::map<Kind, uint32_t> tasks_;
#endif
};

// Calls f(handle, access mode) for the distinct handles of a task.
template <class F>
void each_handle(starpu_task* task, F&& f) {
    const unsigned n = STARPU_TASK_GET_NBUFFERS(task);
    for (unsigned i = 0; i < n; ++i) {
        const starpu_data_handle_t h = STARPU_TASK_GET_HANDLE(task, i);
        bool again = false;
        for (unsigned j = 0; j < i && !again; ++j) again = STARPU_TASK_GET_HANDLE(task, j) == h;
        const auto mode = STARPU_TASK_GET_MODE(task, i);
        if (again || mode & (STARPU_SCRATCH | STARPU_REDUX)) continue;
        f(h, mode);
    }
}
// StarPU 1.4 counts what was prefetched for a task, and never evicts it for a prefetch until the task has run; but for
// data that the task only writes it forgets to count down. So for such a task its inputs are asked for one by one.
inline void prefetch(starpu_task* task, unsigned node) {
    bool only_writes = false;
    each_handle(task, [&](starpu_data_handle_t, starpu_data_access_mode mode) {
        only_writes = only_writes || !(mode & STARPU_R);
    });
    if (!only_writes) starpu_prefetch_task_input_on_node_prio(task, node, task->priority);
    else
        each_handle(task, [&](starpu_data_handle_t h, starpu_data_access_mode mode) {
            if (mode & STARPU_R) starpu_data_prefetch_on_node_prio(h, node, 1, task->priority);
        });
}

// P: name, description, `void push(starpu_task*)`, `starpu_task* pop(unsigned worker)`; if it wants them, too,
// `void submitted(starpu_task*)` before a task is ready and `void done(starpu_task*)` at its end, maybe in a thread
// that is no worker's. All lock for themselves.
template <class P>
class Policy {
 public:
    Policy() {
        policy_.init_sched = [](unsigned context) {
            if (!starpu_sched_ctx_min_priority_is_set(context)) starpu_sched_ctx_set_min_priority(context, INT_MIN);
            if (!starpu_sched_ctx_max_priority_is_set(context)) starpu_sched_ctx_set_max_priority(context, INT_MAX);
            starpu_sched_ctx_set_policy_data(context, new P);
        };
        policy_.deinit_sched = [](unsigned context) { delete self(context); };
        policy_.add_workers = [](unsigned context, int* workers, unsigned count) {
            for (unsigned i = 0; i < count; ++i) {
                if (workers[i] != starpu_worker_get_id()) starpu_wake_worker_locked(workers[i]);
                starpu_sched_ctx_worker_shares_tasks_lists(workers[i], context);
            }
        };
        policy_.push_task = [](starpu_task* task) {
            self(task->sched_ctx)->push(task);
            return 0;
        };
        policy_.pop_task = [](unsigned context) { return self(context)->pop(unsigned(starpu_worker_get_id_check())); };
        if constexpr (requires(P p, starpu_task * t) { p.submitted(t); })
            policy_.submit_hook = [](starpu_task* task) { self(task->sched_ctx)->submitted(task); };
        if constexpr (requires(P p, starpu_task * t) { p.done(t); })
            policy_.post_exec_hook = [](starpu_task* task, unsigned context) { self(context)->done(task); };
        if constexpr (requires { P::prefetches; }) policy_.prefetches = P::prefetches;
        policy_.policy_name = P::name;
        policy_.policy_description = P::description;
        policy_.worker_type = STARPU_WORKER_LIST;
        our_policies().push_back(&policy_);
    }

 private:
    static P* self(unsigned context) { return static_cast<P*>(starpu_sched_ctx_get_policy_data(context)); }
    starpu_sched_policy policy_{};
};

}  // namespace tessera
