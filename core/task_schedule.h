// core/task_schedule.h - where and when a planner has the tasks of a plan run, and which of several to keep.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tessera {

struct TaskSchedule {
    struct Task {
        int place = -1;       // memory node whose workers should run it, or -1
        int turn = 0;         // among the plan's tasks
        double starts_s = 0;  // of a step that takes step_s: when it starts there,
        double takes_s = 0;   // and how long it is at work
    };
    std::vector<Task> tasks;
    double step_s = 0;  // 0: turns alone
};

// A few steps by each of several schedules, whose estimates err by more than they differ; then by the one whose steps
// were the shortest. A step takes the time from the end of the one before; what is timed are steps that follow others
// by the same schedule.
class ScheduleTrial {
 public:
    static constexpr int64_t warm = 3, timed = 5;  // steps by each: tiles lie otherwise at first
    explicit ScheduleTrial(size_t schedules = 1) : steps_s_(schedules), skipped_(schedules) {}

    size_t current() const { return current_; }  // by which the next step goes
    bool over() const { return over_ || steps_s_.size() < 2; }
    // `number` counts the steps of all plans.
    void ended(int64_t number, size_t schedule, double at_s);

 private:
    std::vector<std::vector<double>> steps_s_;
    std::vector<int64_t> skipped_;
    size_t current_ = 0;
    bool over_ = false;
    int64_t last_ = -2;  // the step that ended before
    size_t last_schedule_ = 0;
    double last_s_ = 0;
};

}  // namespace tessera
