// list: list scheduling (Graham 1969). One shared queue; a free worker takes the ready task of highest priority that it
// can run, the oldest if equal, by the implementation that the models say is fastest. For workers of one kind, where no
// placement needs to be predicted; StarPU's dm* policies place tasks ahead of time and choose implementations, its prio
// and eager do neither.
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
        {
            std::lock_guard lock(mutex_);
            ready_.emplace(-int64_t(task->priority), task);  // equal keys stay in order of arrival
            count_.fetch_add(1, std::memory_order_relaxed);
            starpu_push_task_end(task);
        }
        wake_one(able);
    }

    starpu_task* pop(unsigned worker) {
        if (count_.load(std::memory_order_relaxed) == 0)
            return nullptr;  // read without the lock: a push wakes us afterwards
        starpu_task* task = nullptr;
        {
            std::lock_guard lock(mutex_);
            for (auto it = ready_.begin(); it != ready_.end(); ++it)
                if (starpu_worker_can_execute_task_first_impl(worker, it->second, nullptr)) {
                    task = it->second;
                    ready_.erase(it);
                    count_.fetch_sub(1, std::memory_order_relaxed);
                    break;
                }
        }
        if (task) starpu_task_set_implementation(task, fastest_implementation(task, worker));
        return task;
    }

 private:
    PolicyMutex mutex_;
    std::multimap<int64_t, starpu_task*> ready_;
    std::atomic<int64_t> count_{0};
};
const Policy<List> list;

}  // namespace
}  // namespace tessera
