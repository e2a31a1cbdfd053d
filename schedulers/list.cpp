// list: list scheduling (Graham 1969). One shared queue; a free worker takes the ready task of highest priority that it
// can run, the oldest if equal, by the implementation that the models say is fastest. For workers of one kind, where no
// placement needs to be predicted, and for plans that were placed before (core/list_schedule.h): tasks that have a
// memory wait in its queue while their data comes, and leave room for those whose turn is before theirs. StarPU's dm*
// policies place tasks as they become ready and choose implementations, its prio and eager do neither.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "core/scheduler.h"

namespace tessera {
namespace {

class List {
 public:
    static constexpr auto name = "list", description = "shared queue by priority, fastest implementation by the models";

    void submitted(starpu_task* task) {
        const TaskHint* hint = hint_of(task);
        if (!hint || hint->step_s <= 0) return;
        std::lock_guard lock(mutex_);
        memories_[size_t(hint->node)].to_come.emplace(key(task), hint);
    }

    void push(starpu_task* task) {
        const auto able = able_workers(task);
        const TaskHint* hint = hint_of(task);
        const int node = hint ? hint->node : -1;
        std::vector<unsigned> there;
        for (unsigned worker : able)
            if (node >= 0 && int(starpu_worker_get_memory_node(worker)) == node) there.push_back(worker);
        const bool placed = !there.empty();
        if (placed) prefetch(task, unsigned(node));
        {
            std::lock_guard lock(mutex_);
            // Equal keys stay in order of arrival.
            (placed ? memories_[size_t(node)].ready : ready_).emplace(key(task), task);
            if (placed) memories_[size_t(node)].workers = there;
            count_.fetch_add(1, std::memory_order_relaxed);
            starpu_push_task_end(task);
        }
        wake_one(placed ? there : able);
    }

    starpu_task* pop(unsigned worker) {
        if (count_.load(std::memory_order_relaxed) == 0)
            return nullptr;  // read without the lock: a push wakes us afterwards
        starpu_task* task = nullptr;
        std::vector<unsigned> others;
        {
            std::lock_guard lock(mutex_);
            Memory& here = memories_[starpu_worker_get_memory_node(worker)];
            const Room room = room_in(here);
            task = take(here.ready, worker, room, true);
            if (!task) task = take(here.ready, worker, room, false);
            if (!task) task = take(ready_, worker, {}, false);
            if (task) others = begins(task);
        }
        if (!task) return nullptr;
        std::erase(others, worker);
        wake_one(others);
        starpu_task_set_implementation(task, choose_(task, worker));
        return task;
    }

 private:
    using Queue = std::multimap<int64_t, starpu_task*>;
    struct Memory {
        Queue ready;                                      // placed here
        std::multimap<int64_t, const TaskHint*> to_come;  // placed and timed, submitted and not taken
        double busy_until_s = 0;                          // with what was taken, by its planned times
        std::vector<unsigned> workers;
    };
    struct Room {
        int64_t first_key = INT64_MAX;  // of the task whose turn it is: it, and those before, may go
        double s = 0;                   // and others that take no longer
    };
    static int64_t key(const starpu_task* task) { return -int64_t(task->priority); }
    static double now_s() { return 1e-6 * starpu_timing_now(); }

    // The first that the worker can run; with `at_hand` only one whose data is there: while that of others is on its
    // way, the worker has something to do.
    starpu_task* take(Queue& queue, unsigned worker, const Room& room, bool at_hand) {
        constexpr int looked_at = 32;
        int seen = 0;
        for (auto it = queue.begin(); it != queue.end() && !(at_hand && seen == looked_at); ++it, ++seen)
            if (starpu_worker_can_execute_task_first_impl(worker, it->second, nullptr) && fits(it->second, room) &&
                (!at_hand || has_data(it->second, starpu_worker_get_memory_node(worker)))) {
                starpu_task* task = it->second;
                queue.erase(it);
                count_.fetch_sub(1, std::memory_order_relaxed);
                return task;
            }
        return nullptr;
    }

    static bool fits(const starpu_task* task, const Room& room) {
        if (key(task) <= room.first_key || holds_a_tile(task)) return true;
        const TaskHint* hint = hint_of(task);
        return !hint || hint->step_s <= 0 || hint->takes_s <= room.s;
    }

    // Of tasks that add to one tile StarPU gives it to the first that is ready, until that has run. One whose turn is
    // earlier may be waiting for it.
    static bool holds_a_tile(const starpu_task* task) {
        for (unsigned i = 0; i < STARPU_TASK_GET_NBUFFERS(task); ++i)
            if (STARPU_TASK_GET_MODE(task, i) & STARPU_COMMUTE) return true;
        return false;
    }

    // A task may go before one whose turn is earlier and that is not ready yet only if it ends before that one can be
    // expected: a long task in front of it delays all that wait for it. It waits for others, directly or not, and the
    // plan says how much earlier than it the next of any other memory was to start. The task with the earliest turn of
    // all is held by nothing.
    Room room_in(const Memory& mine) const {
        constexpr double little_s = 5e-5;
        if (mine.to_come.empty()) return {};
        const auto& [first_key, first] = *mine.to_come.begin();
        const double now = now_s(), until_free = std::max(0.0, mine.busy_until_s - now);
        double until_expected = until_free;
        for (const Memory& m : memories_) {
            if (m.to_come.empty()) continue;
            const double apart = first->starts_s - m.to_come.begin()->second->starts_s;
            // Of neighbouring steps, too: the nearest of those that repeat.
            const double later = apart - first->step_s * std::round(apart / first->step_s);
            until_expected = std::max(until_expected, later + std::max(0.0, m.busy_until_s - now));
        }
        return {first_key, until_expected - until_free + little_s};
    }

    // What another worker of the task's memory had to leave it may have now: those are to be woken.
    std::vector<unsigned> begins(const starpu_task* task) {
        const TaskHint* hint = hint_of(task);
        if (!hint || hint->step_s <= 0) return {};
        Memory& m = memories_[size_t(hint->node)];
        auto [it, end] = m.to_come.equal_range(key(task));
        while (it != end && it->second != hint) ++it;
        if (it != end) m.to_come.erase(it);
        m.busy_until_s = std::max(m.busy_until_s, now_s()) + hint->takes_s;
        return m.ready.empty() ? std::vector<unsigned>{} : m.workers;
    }

    static bool has_data(starpu_task* task, unsigned node) {
        for (unsigned i = 0; i < STARPU_TASK_GET_NBUFFERS(task); ++i) {
            int allocated = 0, valid = 0, requested = 0;
            starpu_data_query_status(STARPU_TASK_GET_HANDLE(task, i), int(node), &allocated, &valid, &requested);
            if ((STARPU_TASK_GET_MODE(task, i) & STARPU_R) && !valid) return false;
        }
        return true;
    }

    PolicyMutex mutex_;
    Queue ready_;  // placed nowhere
    std::array<Memory, STARPU_MAXNODES> memories_;
    std::atomic<int64_t> count_{0};
    ImplementationChoice choose_;
};
const Policy<List> list;

}  // namespace
}  // namespace tessera
