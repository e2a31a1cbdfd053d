// core/timeline.h - when something that does one thing at a time is taken, with the last of its idle times, so that
// what is planned later may still go there (list scheduling with insertion: Topcuoglu, Hariri, Wu 2002, IEEE TPDS
// 13(3)).
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>

namespace tessera {

class Timeline {
 public:
    // Idle times that are remembered, and how long one must be: of more, the first are the least likely to be filled,
    // and shorter ones fit nothing that a search would notice.
    static constexpr size_t most = 8;
    static constexpr double least_s = 4e-6;

    double end() const { return end_; }
    // The first start, not before `earliest`, of `takes` seconds in an idle time or after everything.
    double fits(double earliest, double takes) const {
        for (size_t i = 0; i < count_; ++i) {
            const double start = std::max(earliest, idle_[i].from);
            if (start + takes <= idle_[i].to) return start;
        }
        return std::max(earliest, end_);
    }
    // Where fits() said; what it leaves of an idle time stays idle.
    void take(double start, double takes) {
        busy_ += takes;
        if (start >= end_) {
            remember({end_, start});
            end_ = start + takes;
            return;
        }
        for (size_t i = 0; i < count_; ++i) {
            const Idle whole = idle_[i];
            if (start < whole.from || start + takes > whole.to) continue;
            std::copy(idle_.begin() + long(i) + 1, idle_.begin() + long(count_), idle_.begin() + long(i));
            --count_;
            remember({start + takes, whole.to});
            remember({whole.from, start});
            return;
        }
        end_ = std::max(end_, start + takes);
    }
    // Without insertion: nothing will go before this end.
    void end_with(double end) { end_ = end; }

    void mark() { marked_ = busy_; }
    double busy_since_mark() const { return busy_ - marked_; }

 private:
    struct Idle {
        double from, to;
    };

    void remember(Idle idle) {
        if (idle.to - idle.from < least_s) return;
        if (count_ == most) std::copy(idle_.begin() + 1, idle_.end(), idle_.begin()), --count_;
        size_t at = count_++;
        for (; at > 0 && idle_[at - 1].from > idle.from; --at) idle_[at] = idle_[at - 1];
        idle_[at] = idle;
    }

    double end_ = 0, busy_ = 0, marked_ = 0;
    size_t count_ = 0;
    std::array<Idle, most> idle_;  // in the order of time
};

}  // namespace tessera
