// list: list scheduling (Graham 1969). One shared queue; a free worker takes the ready task of highest priority that it
// can run, the oldest if equal, by the implementation that the models say is fastest. For workers of one kind, where no
// placement needs to be predicted, and for plans that were placed before (core/list_schedule.h): tasks that have a
// memory wait in its queue while their data comes. StarPU's dm* policies place tasks as they become ready and choose
// implementations, its prio and eager do neither.
#include <array>
#include <atomic>
#include <map>
#include <mutex>

#include "core/scheduler.h"

namespace tessera {
namespace {

class List {
 public:
    static constexpr auto name = "list", description = "shared queue by priority, fastest implementation by the models";

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
            (placed ? placed_[size_t(node)] : ready_).emplace(-int64_t(task->priority), task);
            count_.fetch_add(1, std::memory_order_relaxed);
            starpu_push_task_end(task);
        }
        wake_one(placed ? there : able);
    }

    starpu_task* pop(unsigned worker) {
        if (count_.load(std::memory_order_relaxed) == 0)
            return nullptr;  // read without the lock: a push wakes us afterwards
        starpu_task* task = nullptr;
        {
            std::lock_guard lock(mutex_);
            Queue& placed = placed_[starpu_worker_get_memory_node(worker)];
            task = take(placed, worker, true);
            if (!task) task = take(placed, worker, false);
            if (!task) task = take(ready_, worker, false);
        }
        if (task) starpu_task_set_implementation(task, fastest_implementation(task, worker));
        return task;
    }

 private:
    using Queue = std::multimap<int64_t, starpu_task*>;

    // The first that the worker can run; with `at_hand` only one whose data is there: while that of others is on its
    // way, the worker has something to do.
    starpu_task* take(Queue& queue, unsigned worker, bool at_hand) {
        constexpr int looked_at = 32;
        int seen = 0;
        for (auto it = queue.begin(); it != queue.end() && !(at_hand && seen == looked_at); ++it, ++seen)
            if (starpu_worker_can_execute_task_first_impl(worker, it->second, nullptr) &&
                (!at_hand || has_data(it->second, starpu_worker_get_memory_node(worker)))) {
                starpu_task* task = it->second;
                queue.erase(it);
                count_.fetch_sub(1, std::memory_order_relaxed);
                return task;
            }
        return nullptr;
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
    Queue ready_;
    std::array<Queue, STARPU_MAXNODES> placed_;
    std::atomic<int64_t> count_{0};
};
const Policy<List> list;

}  // namespace
}  // namespace tessera
