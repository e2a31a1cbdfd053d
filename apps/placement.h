// apps/placement.h - where the tasks of a plan run, from a machine's models and links (core/list_schedule.h).
#pragma once
#include "core/list_schedule.h"
#include "core/runtime.h"
#include "models/machine.h"

namespace tessera {

// Of this runtime's workers, by the fastest known time of every task on each kind of them: measured, else estimated
// (models/estimate.h), else rough (core/plan.h), a GPU counting as twenty cores.
ListScheduler list_scheduler(const Runtime&, const Plan&, const Machine&, bool ordered);

// Writes the turns of the tasks into the plan, by their longest path to the end, and where workers have more than one
// memory the best of `tries` schedules: TaskSpec::turn and place. Returns the seconds that it gives a step, NaN for one
// memory.
double place(Plan&, const Runtime&, const Machine&, bool ordered, int tries);

}  // namespace tessera
