// core/body.h - what travels in front of a task's arguments, and what all tasks of one executor share.
#pragma once
#include <array>
#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/stall.h"

namespace tessera {

// The first thing that went wrong inside a task; later tasks skip their bodies until it is taken.
class ErrorSlot {
 public:
    void report(const std::string& message) noexcept {
        std::lock_guard lock(mutex_);
        if (!message_) message_ = message;
        reports_.fetch_add(1, std::memory_order_release);
        failed_.store(true, std::memory_order_release);
    }
    bool failed() const { return failed_.load(std::memory_order_acquire); }
    int64_t reports() const { return reports_.load(std::memory_order_acquire); }  // since the start, taken or not
    std::optional<std::string> take() {
        std::lock_guard lock(mutex_);
        failed_ = false;
        return std::exchange(message_, std::nullopt);
    }

 private:
    std::mutex mutex_;
    std::optional<std::string> message_;
    std::atomic<bool> failed_{false};
    std::atomic<int64_t> reports_{0};
};

struct Timing {
    int64_t count = 0;
    double sum_s = 0, least_s = 0;  // of all, and of the fastest
};

// One per executor. Each worker writes its own row of timings only.
struct RunState {
    ErrorSlot error;
    Activity* activity = nullptr;  // of the runtime, where there is one
    bool check_nan = false;
    bool first_implementation_only = false;
    bool cuda_first = false;  // what has a CUDA body runs on no core
    int forced_implementation = -1;
};

// One per loaded plan: the classes are its distinct (codelet, footprint) pairs.
struct PlanState {
    const Plan* plan = nullptr;
    RunState* run = nullptr;
    std::vector<int> class_of_task;
    std::vector<std::vector<Timing>> cpu_times;  // [worker][class]
};

struct TaskRun {
    PlanState* state;
    int32_t task;  // index into the plan's tasks
    uint32_t footprint;
};
inline constexpr size_t args_offset = 16;
static_assert(sizeof(TaskRun) <= args_offset);

// For bodies that hand their work to another thread: the task ends when what is returned is called, once, from any
// thread; a message that is not empty is what went wrong. To be called in a body.
std::function<void(const std::string& error)> end_later();

// Memory for intermediate results of one body on this worker, 64-byte aligned, valid until the body's next call or end.
// Bounded by TESSERA_WORKSPACE; throws Error beyond it. Host memory in CPU bodies.
void* workspace(int64_t bytes);
int64_t workspace_limit();  // TESSERA_WORKSPACE: the most that workspace() gives
void set_workspace_limit(int64_t bytes);

}  // namespace tessera
