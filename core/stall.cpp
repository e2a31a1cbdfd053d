#include "core/stall.h"

#include <starpu.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

namespace tessera {

StallGuard::StallGuard(int64_t seconds) : thread_([=, this] { watch(seconds); }) {}
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
    int unfinished = 0, without_change = 0;
    std::unique_lock lock(mutex_);
    while (!end_.wait_for(lock, std::chrono::milliseconds(1000 * seconds / looks), [&] { return ended_; })) {
        const int now = starpu_task_nsubmitted();  // submitted and not ended
        without_change = now > 0 && now == unfinished ? without_change + 1 : 0;
        unfinished = now;
        if (without_change < looks) continue;
        std::fprintf(stderr,
                     "error: no task has ended for %lld s, and %d wait: memory limits leave StarPU no way to go on\n"
                     "hint: raise --gpu-memory or --host-memory, or choose a smaller --tile; TESSERA_STALL_S=0 waits "
                     "for ever\n",
                     static_cast<long long>(seconds), unfinished);
        _exit(1);  // nothing else would end: workers keep asking for memory
    }
}

}  // namespace tessera
