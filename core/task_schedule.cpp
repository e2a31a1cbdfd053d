#include "core/task_schedule.h"

#include <algorithm>

#include "core/statistics.h"

namespace tessera {

void ScheduleTrial::ended(int64_t number, size_t schedule, double at_s) {
    if (over()) return;
    const bool follows = number == last_ + 1 && schedule == last_schedule_;
    const double step_s = at_s - last_s_;
    last_ = number, last_schedule_ = schedule, last_s_ = at_s;
    if (!follows || schedule != current_) return;
    if (skipped_[schedule] < warm) {
        ++skipped_[schedule];
        return;
    }
    steps_s_[schedule].push_back(step_s);
    if (int64_t(steps_s_[schedule].size()) < timed) return;
    if (++current_ < steps_s_.size()) return;
    over_ = true;
    current_ = size_t(std::min_element(steps_s_.begin(), steps_s_.end(),
                                       [](const auto& a, const auto& b) { return median(a) < median(b); }) -
                      steps_s_.begin());
}

}  // namespace tessera
