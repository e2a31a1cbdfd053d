// apps/placement.h - where the tasks of a plan run, from a machine's models and links (core/list_schedule.h).
#pragma once
#include "core/list_schedule.h"
#include "core/runtime.h"
#include "models/machine.h"

namespace tessera {

// Of this runtime's workers, by the fastest known time of every task on each kind of them. Throws Error if one is not
// known.
ListScheduler list_scheduler(const Runtime&, const Plan&, const Machine&, bool ordered);

// Writes the best of `tries` schedules into the plan: TaskSpec::place and turn. Returns the seconds that it gives a
// step; NaN, and nothing is written, where all workers share one memory, or where an op's time is not known.
double place(Plan&, const Runtime&, const Machine&, bool ordered, int tries);

}  // namespace tessera
