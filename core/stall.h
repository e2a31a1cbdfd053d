// core/stall.h - ends a program that StarPU would keep waiting for ever: memories too small for the tiles that tasks
// hold while others' are on their way.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace tessera {

// Bodies begun and ended, per worker: each worker writes its own counts only. And what they gave to threads that are
// none, which end them.
class Activity {
 public:
    explicit Activity(size_t workers) : counts_(workers) {}
    void begin(int worker) { add(counts_[size_t(worker)].begun); }
    void end(int worker) { add(counts_[size_t(worker)].ended); }
    void give() { given_.fetch_add(1, std::memory_order_relaxed); }
    void take_back() { given_.fetch_sub(1, std::memory_order_release); }
    int64_t begun() const;
    bool at_work() const;  // in a body, or with what one gave away

 private:
    struct alignas(64) Counts {
        std::atomic<int64_t> begun{0}, ended{0};
    };
    static void add(std::atomic<int64_t>& n) {
        n.store(n.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }
    std::vector<Counts> counts_;
    std::atomic<int64_t> given_{0};
};

// While it lives: once tasks wait, and for so long none was at work, no body began and no task ended, one line on
// stderr and exit code 1.
class StallGuard {
 public:
    StallGuard(int64_t seconds, const Activity&);
    ~StallGuard();
    StallGuard(const StallGuard&) = delete;

 private:
    void watch(int64_t seconds);

    const Activity& activity_;
    std::mutex mutex_;
    std::condition_variable end_;
    bool ended_ = false;
    std::thread thread_;
};

}  // namespace tessera
