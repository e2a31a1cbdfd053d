// core/sends.h - what a placed plan moves between memories, known before it runs.
#pragma once
#include <cstdint>
#include <vector>

#include "core/plan.h"
#include "core/task_schedule.h"

namespace tessera {

// The tile at that position among a task's goes to `node`, once written: a task placed there reads it.
struct Send {
    uint32_t position;
    int node;
    int reader;      // the first such task
    bool next_step;  // which is one of the step after
    bool operator==(const Send&) const = default;
};

// For every task of a plan. Empty for tasks that have no place, and where only such read what they write.
std::vector<std::vector<Send>> sends_of(const Plan&, const TaskSchedule&);

}  // namespace tessera
