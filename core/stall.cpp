#include "core/stall.h"

#include <starpu.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "core/stop.h"

namespace tessera {

int64_t Activity::begun() const {
    int64_t sum = 0;
    for (const Counts& c : counts_) sum += c.begun.load(std::memory_order_acquire);
    return sum;
}
bool Activity::at_work() const {
    if (given_.load(std::memory_order_acquire) > 0) return true;
    // What ended is read first: a body that begins between the two is in progress, not one that ends.
    return std::any_of(counts_.begin(), counts_.end(), [](const Counts& c) {
        const int64_t ended = c.ended.load(std::memory_order_acquire);
        return c.begun.load(std::memory_order_acquire) != ended;
    });
}

StallGuard::StallGuard(int64_t seconds, const Activity& activity)
    : activity_(activity), thread_([=, this] { watch(seconds); }) {}
StallGuard::~StallGuard() {
    {
        std::lock_guard lock(mutex_);
        ended_ = true;
    }
    end_.notify_all();
    thread_.join();
}

void StallGuard::watch(int64_t seconds) {
    constexpr int looks = 4;
    std::pair<int, int64_t> before;
    int without_change = 0;
    std::unique_lock lock(mutex_);
    while (!end_.wait_for(lock, std::chrono::milliseconds(1000 * seconds / looks), [&] { return ended_; })) {
        // Tasks submitted and not ended: as many as before also where one comes for each that ends.
        const std::pair now{starpu_task_nsubmitted(), activity_.begun()};
        const bool waits = now.first > 0 && now == before && !activity_.at_work();
        without_change = waits ? without_change + 1 : 0;
        before = now;
        if (without_change < looks) continue;
        std::fprintf(stderr,
                     "error: no task has ended for %lld s, and %d wait: memory limits leave StarPU no way to go on\n"
                     "hint: raise --gpu-memory or --host-memory, or choose a smaller --tile; TESSERA_STALL_S=0 waits "
                     "for ever\n",
                     static_cast<long long>(seconds), now.first);
        remove_what_goes();
        _exit(1);  // nothing else would end: workers keep asking for memory
    }
}

}  // namespace tessera
