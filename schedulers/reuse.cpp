// reuse: data- and memory-aware, for GPUs of different speed with little memory; in the line of DARTS (Gonthier,
// Marchal, Thibault, "Memory-aware scheduling of tasks sharing data on multiple GPUs", 2022). Each worker stages the
// tasks that it will run next and asks for their data; all that is staged or running on a memory fits into it together,
// so buffers never evict each other. Which task is staged next:
// - one that a planner gave to this memory (TaskHint), in order of priority; what several tasks add to stays there;
// - else of the ready tasks of highest priority one that misses no data here, else those that one missing datum unlocks
//   most of, unless another device would be done with it sooner;
// - else, with nothing to do, the last one that another memory has, if its owner would come to it later.
// A device with nothing staged always gets a task, fitting or not: no wait can be for ever.
#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>

#include "core/pieces.h"
#include "core/scheduler.h"
#include "schedulers/device_memory.h"

namespace tessera {
namespace {

constexpr double ahead_us = 20000;   // of work staged per worker: longer than a burst of transfers
constexpr size_t most_staged = 64;   // tasks
constexpr int shared_window = 32;    // ready tasks of highest priority that are compared
constexpr int own_window = 64;       // planned tasks that are looked at where memory is full
constexpr double unknown_us = 1000;  // a task without a time yet

double length_us(starpu_task* task, unsigned worker) {
    const double us = starpu_task_worker_expected_length(task, worker, task->sched_ctx, 0);
    return std::isnan(us) || us <= 0 ? unknown_us : us;
}

class Reuse {
    struct Staged {
        starpu_task* task;
        double us;
    };
    struct Worker {
        std::deque<Staged> staged;
        double staged_us = 0;
        bool idle = false;  // its last pop found nothing
    };
    // A memory and the workers that compute in it.
    struct Device : DeviceMemory {
        std::vector<unsigned> workers;
        std::multimap<int64_t, starpu_task*> own;  // ready, given to it; by falling priority, then age
        double backlog_us = 0;                     // of tasks submitted for it and not done
        double ready_us = 0;                       // of those in `own`
        int in_flight = 0;                         // tasks staged or running
    };
    struct Pending {
        int device;
        double us;
    };

 public:
    static constexpr auto name = "reuse",
                          description =
                              "data- and memory-aware: follows a plan's order, else tasks whose data is there";
    static constexpr int prefetches = 1;

    void submitted(starpu_task* task) {
        const TaskHint* hint = hint_of(task);
        if (!hint) return;
        std::lock_guard lock(mutex_);
        const int d = device_on(unsigned(hint->node));
        if (d < 0) return;
        const double us = length_us(task, devices_[size_t(d)].workers[0]);
        pending_[task] = {d, us};
        devices_[size_t(d)].backlog_us += us;
        each_handle(task, [&](Handle h, starpu_data_access_mode mode) {
            if (!(mode & STARPU_W)) devices_[size_t(d)].will_use(h, hint->block);
        });
    }

    void push(starpu_task* task) {
        std::vector<unsigned> wake;
        {
            std::lock_guard lock(mutex_);
            const int d = home_of(task);
            if (const TaskHint* hint = hint_of(task);
                hint && (d < 0 || devices_[size_t(d)].node != unsigned(hint->node)))
                used(task, *hint);
            if (d >= 0) {
                devices_[size_t(d)].own.emplace(-int64_t(task->priority), task);
                devices_[size_t(d)].ready_us += length_us(task, devices_[size_t(d)].workers[0]);
                wake = devices_[size_t(d)].workers;
            } else {
                shared_.emplace(-int64_t(task->priority), task);
                for (const Device& device : devices_)
                    wake.insert(wake.end(), device.workers.begin(), device.workers.end());
            }
            ready_.fetch_add(1, std::memory_order_relaxed);
            // Those with nothing to do may take it over.
            for (unsigned w = 0; w < workers_.size(); ++w)
                if (workers_[w].idle) wake.push_back(w);
            std::erase_if(wake, [&](unsigned w) { return !workers_[w].idle; });
            for (unsigned w : wake) workers_[w].idle = false;
            starpu_push_task_end(task);
        }
        for (unsigned w : wake) starpu_wake_worker_relax_light(int(w));
    }

    starpu_task* pop(unsigned worker) {
        std::vector<starpu_task*> fresh;
        std::vector<unsigned> wake;
        starpu_task* task = nullptr;
        unsigned node = 0;
        {
            std::lock_guard lock(mutex_);
            Device& device = devices_[size_t(device_of(worker))];
            Worker& self = workers_[worker];
            node = device.node;
            stage(worker, self, device, fresh);
            self.idle = self.staged.empty();
            // It may have looked at them when this device would have been sooner, and sleep since. A device that is at
            // work looks again when it is done; woken now, it and this one might wake each other all the time.
            for (unsigned w : left_to_)
                if (workers_[w].idle && devices_[size_t(device_of_[w])].in_flight == 0)
                    wake.push_back(w), workers_[w].idle = false;
            left_to_.clear();
            if (!self.staged.empty()) {
                task = self.staged.front().task;
                self.staged_us -= self.staged.front().us;
                self.staged.pop_front();
            }
        }
        for (unsigned w : wake) starpu_wake_worker_relax_light(int(w));
        // Only this worker takes what it staged, so these tasks are still there.
        if (prefetch_ && starpu_memory_nodes_get_count() > 1)
            for (starpu_task* t : fresh)
                if (t != task) prefetch(t, node);
        if (task) starpu_task_set_implementation(task, choose_(task, worker));
        return task;
    }

    void done(starpu_task* task) {
        std::lock_guard lock(mutex_);
        const auto taken = taken_.find(task);
        if (taken == taken_.end()) return;
        Device& device = devices_[size_t(taken->second)];
        taken_.erase(taken);
        const TaskHint* hint = hint_of(task);
        if (hint && hint->node == int(device.node)) used(task, *hint);
        each_handle(task, [&](Handle h, starpu_data_access_mode mode) {
            device.drop(h);
            if (!hint || !hint->completes || !(mode & STARPU_W)) return;
            owner_.erase(h);
            if (hint->goes_home) device.leaves(h);
            else device.drop(h);
        });
        --device.in_flight;
        if (const auto it = pending_.find(task); it != pending_.end()) {
            Device& planned = devices_[size_t(it->second.device)];
            planned.backlog_us = std::max(0.0, planned.backlog_us - it->second.us);
            pending_.erase(it);
        }
        if (!pending_.empty()) return;
        // Handles may be unregistered once no task is left: nothing of the plan is kept in mind.
        for (Device& d : devices_) d.forget_leaving();
    }

 private:
    // Devices are found when first asked for: StarPU adds workers after the policy's start.
    void look_at_machine() {
        if (!devices_.empty()) return;
        prefetch_ = starpu_get_prefetch_flag();
        workers_.resize(starpu_worker_get_count());
        for (unsigned w = 0; w < starpu_worker_get_count(); ++w) {
            const unsigned node = starpu_worker_get_memory_node(w);
            auto it = std::find_if(devices_.begin(), devices_.end(), [&](const Device& d) { return d.node == node; });
            if (it == devices_.end()) {
                it = devices_.emplace(devices_.end());
                it->node = node;
                const int64_t total = std::max<int64_t>(0, int64_t(starpu_memory_get_total(node)));
                it->capacity_bytes = total < piece_bytes ? total : usable_bytes(total, 1, cut_from_pieces());
            }
            it->workers.push_back(w);
            device_of_.push_back(int(it - devices_.begin()));
        }
    }
    int device_of(unsigned worker) {
        look_at_machine();
        return device_of_[worker];
    }
    int device_on(unsigned node) {
        look_at_machine();
        for (size_t d = 0; d < devices_.size(); ++d)
            if (devices_[d].node == node) return int(d);
        return -1;
    }

    // Where a task should go: to what it adds to, else where the plan says, else -1.
    int home_of(starpu_task* task) {
        const TaskHint* hint = hint_of(task);
        int d = hint ? device_on(unsigned(hint->node)) : -1;
        if (hint)
            each_handle(task, [&](Handle h, starpu_data_access_mode mode) {
                if (auto it = owner_.find(h); (mode & STARPU_W) && it != owner_.end()) d = it->second;
            });
        if (d >= 0 && !starpu_worker_can_execute_task_first_impl(devices_[size_t(d)].workers[0], task, nullptr)) d = -1;
        return d;
    }

    // A task of the plan is done, or is no longer the planned device's.
    void used(starpu_task* task, const TaskHint& hint) {
        if (const int d = device_on(unsigned(hint.node)); d >= 0) devices_[size_t(d)].used(task, hint.block);
    }

    void stage(unsigned worker, Worker& self, Device& device, std::vector<starpu_task*>& fresh) {
        if (ready_.load(std::memory_order_relaxed) == 0) return;
        device.forget_those_at_home();
        while (self.staged.size() < most_staged && (self.staged_us < ahead_us || self.staged.size() < 2)) {
            starpu_task* task = choose(worker, self, device);
            if (!task) break;
            take(task, worker, self, device);
            fresh.push_back(task);
        }
    }

    void take(starpu_task* task, unsigned worker, Worker& self, Device& device) {
        const int d = device_of_[worker];
        const TaskHint* hint = hint_of(task);
        each_handle(task, [&](Handle h, starpu_data_access_mode mode) {
            device.hold(h);
            if (!hint) return;
            if (!(mode & STARPU_W)) {
                // A task taken from another device does not belong to this one's blocks.
                if (hint->node != int(device.node)) return;
                device.keep(h, hint->block);
                return;
            }
            const auto [owner, first] = owner_.emplace(h, d);
            if (first) device.hold(h);  // until the last of those that add to it is done
            else if (owner->second != d) {
                devices_[size_t(owner->second)].drop(h);
                device.hold(h);
                owner->second = d;
            }
        });
        const double us = length_us(task, worker);
        self.staged.push_back({task, us});
        self.staged_us += us;
        ++device.in_flight;
        taken_[task] = d;
        ready_.fetch_sub(1, std::memory_order_relaxed);
    }

    // The next task for this worker, out of the lists, or null.
    starpu_task* choose(unsigned worker, const Worker& self, Device& device) {
        const bool must = device.in_flight == 0;
        // In order; where the next does not fit yet, one whose data is all here. It also keeps that data here: StarPU
        // does not evict for a prefetch what another was made for.
        int seen = 0;
        for (auto it = device.own.begin(); it != device.own.end() && seen < own_window; ++it) {
            if (!starpu_worker_can_execute_task_first_impl(worker, it->second, nullptr)) continue;
            const bool first = seen++ == 0;
            if (first ? must || device.fits(it->second) : device.more_bytes(it->second) == 0)
                return out_of_own(device, it);
        }
        if (seen > 0) return nullptr;
        if (auto it = best_shared(worker, self, device); it != shared_.end()) {
            if (!must && !device.fits(it->second)) return nullptr;
            return out_of(shared_, it);
        }
        return self.staged.empty() ? steal(worker, device) : nullptr;
    }
    starpu_task* out_of(std::multimap<int64_t, starpu_task*>& list, std::multimap<int64_t, starpu_task*>::iterator it) {
        starpu_task* task = it->second;
        list.erase(it);
        return task;
    }

    starpu_task* out_of_own(Device& device, std::multimap<int64_t, starpu_task*>::iterator it) {
        const double us = length_us(it->second, device.workers[0]);
        device.ready_us = device.own.size() > 1 ? std::max(0.0, device.ready_us - us) : 0;
        return out_of(device.own, it);
    }

    // Where GPUs' memories are nearly full, what a task writes there goes home sooner or later; cores write it at home.
    bool short_beside_cores() const {
        const auto at_home = [](const Device& d) { return d.node == STARPU_MAIN_RAM; };
        const auto nearly_full = [&](const Device& d) { return !at_home(d) && d.nearly_full(); };
        return std::any_of(devices_.begin(), devices_.end(), at_home) &&
               std::any_of(devices_.begin(), devices_.end(), nearly_full);
    }

    // What a task costs on a device besides its own time.
    double missing_us(starpu_task* task, const Device& device) const {
        double us = 0;
        const bool costs = device.node != STARPU_MAIN_RAM && short_beside_cores();
        each_handle(task, [&](Handle h, starpu_data_access_mode mode) {
            if ((mode & STARPU_R) && !device.holds(h) && !expected_on(h, device.node))
                us += starpu_data_expected_transfer_time(h, device.node, mode);
            if ((mode & STARPU_W) && costs)
                us += starpu_transfer_predict(device.node, STARPU_MAIN_RAM, starpu_data_get_size(h));
        });
        return us;
    }

    // Would another device be done with it before this one, which would be after `here_us`? Then its worker is woken:
    // what is left to it must not wait for a device that sleeps.
    bool sooner_elsewhere(starpu_task* task, const Device& device, double here_us) {
        for (const Device& other : devices_) {
            if (&other == &device) continue;
            for (unsigned w : other.workers) {
                if (!starpu_worker_can_execute_task_first_impl(w, task, nullptr)) continue;
                const double there = workers_[w].staged_us + length_us(task, w);
                if (there < here_us && there + missing_us(task, other) < here_us) {
                    left_to_.insert(w);
                    return true;
                }
                break;  // workers of one memory are alike
            }
        }
        return false;
    }

    std::multimap<int64_t, starpu_task*>::iterator best_shared(unsigned worker, const Worker& self, Device& device) {
        auto best = shared_.end();
        std::map<Handle, std::pair<int, std::multimap<int64_t, starpu_task*>::iterator>> unlocked;
        int seen = 0;
        for (auto it = shared_.begin(); it != shared_.end() && seen < shared_window; ++it) {
            starpu_task* task = it->second;
            if (!starpu_worker_can_execute_task_first_impl(worker, task, nullptr)) continue;
            if (devices_.size() == 1) return it;
            ++seen;
            const double here_us = self.staged_us + length_us(task, worker) + missing_us(task, device);
            if (sooner_elsewhere(task, device, here_us)) continue;
            int missing = 0;
            Handle only = nullptr;
            each_handle(task, [&](Handle h, starpu_data_access_mode mode) {
                if ((mode & STARPU_R) && !device.holds(h) && !expected_on(h, device.node)) ++missing, only = h;
            });
            if (missing == 0) return it;
            if (missing == 1) ++unlocked.try_emplace(only, 0, it).first->second.first;
            if (best == shared_.end()) best = it;
        }
        int most = 0;
        for (const auto& [handle, tasks] : unlocked)
            if (tasks.first > most) most = tasks.first, best = tasks.second;
        return best;
    }

    // From the device that has most left to do the task that it would come to last. A core takes many times as long as
    // a GPU, and what waits for the task as long: it takes what the GPU has ready for that time only.
    starpu_task* steal(unsigned worker, Device& device) {
        Device* from = nullptr;
        double left_us = 0;
        for (Device& other : devices_) {
            const double us = other.backlog_us / double(other.workers.size());
            if (&other != &device && !other.own.empty() && us > left_us) from = &other, left_us = us;
        }
        if (!from) return nullptr;
        const auto last = std::prev(from->own.end());
        starpu_task* task = last->second;
        if (!starpu_worker_can_execute_task_first_impl(worker, task, nullptr)) return nullptr;
        if (device.in_flight > 0 && !device.fits(task)) return nullptr;
        const bool alike = starpu_worker_get_type(int(worker)) == starpu_worker_get_type(int(from->workers[0]));
        if (length_us(task, worker) + missing_us(task, device) > (alike ? left_us : from->ready_us)) return nullptr;
        if (const TaskHint* hint = hint_of(task); hint && hint->node == int(from->node)) used(task, *hint);
        if (auto it = pending_.find(task); it != pending_.end()) {
            from->backlog_us = std::max(0.0, from->backlog_us - it->second.us);
            it->second = {device_of_[worker], length_us(task, worker)};
            device.backlog_us += it->second.us;
        }
        return out_of_own(*from, last);
    }

    PolicyMutex mutex_;
    std::vector<Device> devices_;
    std::vector<Worker> workers_;
    std::vector<int> device_of_;
    std::multimap<int64_t, starpu_task*> shared_;  // ready, given to no memory
    std::unordered_map<Handle, int> owner_;        // of what several tasks add to: the device that holds it
    std::unordered_map<starpu_task*, Pending> pending_;
    std::unordered_map<starpu_task*, int> taken_;  // staged or running: by which device
    std::set<unsigned> left_to_;                   // workers that a task was left to in this pop
    std::atomic<int64_t> ready_{0};
    bool prefetch_ = true;
    ImplementationChoice choose_;
};
const Policy<Reuse> reuse;

}  // namespace
}  // namespace tessera
