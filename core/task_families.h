// core/task_families.h - tasks of a step that want to be in one memory: those of one layer, forward, backward and
// update.
#pragma once
#include <vector>

#include "core/plan.h"

namespace tessera {

// Every task in one family, families and their tasks in the plan's order. What is kept from step to step (weights,
// moments, statistics) makes a family of all tasks that use it; each other task belongs to the one with which it shares
// most bytes, over several tasks where there is no nearer way.
std::vector<std::vector<int>> task_families(const Plan&);

}  // namespace tessera
