// core/stall.h - ends a program that StarPU would keep waiting for ever: memories too small for the tiles that tasks
// hold while others' are on their way.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace tessera {

// While it lives: once tasks wait and none has ended for so long, one line on stderr and exit code 1.
class StallGuard {
 public:
    explicit StallGuard(int64_t seconds);
    ~StallGuard();
    StallGuard(const StallGuard&) = delete;

 private:
    void watch(int64_t seconds);

    std::mutex mutex_;
    std::condition_variable end_;
    bool ended_ = false;
    std::thread thread_;
};

}  // namespace tessera
