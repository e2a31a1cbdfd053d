// schedulers/device_memory.h - what a policy knows to lie in a memory, or to come there: staged and running tasks hold
// their data, blocks what they read again.
#pragma once
#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <unordered_map>

#include "core/pieces.h"
#include "core/scheduler.h"

namespace tessera {

using Handle = starpu_data_handle_t;

inline int64_t bytes_of(Handle h) {
    static const bool pieces = cut_from_pieces();
    return allocated_bytes(int64_t(starpu_data_get_size(h)), pieces);
}

inline bool expected_on(Handle h, unsigned node) {
    int allocated = 0, valid = 0, requested = 0;
    starpu_data_query_status(h, int(node), &allocated, &valid, &requested);
    return valid || requested;
}

class DeviceMemory {
 public:
    unsigned node = 0;
    int64_t capacity_bytes = 0;  // 0: no limit

    bool holds(Handle h) const { return held_.contains(h); }
    void hold(Handle h) {
        if (held_[h]++ == 0) held_bytes_ += bytes_of(h);
    }
    void drop(Handle h) {
        const auto it = held_.find(h);
        if (it == held_.end() || --it->second > 0) return;
        held_bytes_ -= bytes_of(h);
        held_.erase(it);
    }

    // A task of a block was submitted that will read it; it is staged: the datum stays until the last of them is done.
    void will_use(Handle h, int block) { ++uses_[{h, block}].tasks; }
    void keep(Handle h, int block) {
        Use& use = uses_[{h, block}];
        if (!use.kept) hold(h);
        use.kept = true;
    }
    void used(starpu_task* task, int block) {
        each_handle(task, [&](Handle h, starpu_data_access_mode mode) {
            if (mode & STARPU_W) return;
            const auto it = uses_.find({h, block});
            if (it == uses_.end() || --it->second.tasks > 0) return;
            if (it->second.kept) drop(h);
            uses_.erase(it);
        });
    }

    // Complete tiles count until their way home is asked for; StarPU can evict them when they are there.
    void leaves(Handle h) { leaving_.push_back(h); }
    void forget_those_at_home() {
        while (!leaving_.empty() && (node == STARPU_MAIN_RAM || expected_on(leaving_.front(), STARPU_MAIN_RAM))) {
            drop(leaving_.front());
            leaving_.pop_front();
        }
    }
    void forget_leaving() {
        for (Handle h : leaving_) drop(h);
        leaving_.clear();
    }

    // Bytes that a task adds to what is held.
    int64_t more_bytes(starpu_task* task) const {
        int64_t more = 0;
        each_handle(task, [&](Handle h, auto) { more += holds(h) ? 0 : bytes_of(h); });
        return more;
    }
    bool fits(starpu_task* task) const {
        if (capacity_bytes == 0) return true;
        int64_t spare = 0;  // one tile is left free
        if (hint_of(task)) each_handle(task, [&](Handle h, auto) { spare = std::max(spare, bytes_of(h)); });
        return held_bytes_ + more_bytes(task) + spare <= capacity_bytes;
    }
    bool nearly_full() const {  // by what StarPU has allocated
        constexpr double nearly = 0.8;
        return capacity_bytes > 0 && double(starpu_memory_get_used(node)) > nearly * double(capacity_bytes);
    }

 private:
    // What one block reads: how many of its tasks are submitted and not done, and if one was staged.
    struct Use {
        int tasks = 0;
        bool kept = false;
    };
    std::unordered_map<Handle, int> held_;  // uses by tasks, and one while it is added to or read again in the block
    std::map<std::pair<Handle, int>, Use> uses_;
    int64_t held_bytes_ = 0;
    std::deque<Handle> leaving_;  // complete, on the way home: still in memory
};

}  // namespace tessera
