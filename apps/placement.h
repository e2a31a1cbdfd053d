// apps/placement.h - where the tasks of a plan run, from a machine's models and links (core/list_schedule.h).
#pragma once
#include "core/list_schedule.h"
#include "core/runtime.h"
#include "models/machine.h"

namespace tessera {

// Of this runtime's workers, by the fastest known time of every task on each kind of them: measured, else estimated
// (models/estimate.h), else rough (core/plan.h), a GPU counting as twenty cores.
ListScheduler list_scheduler(const Runtime&, const Plan&, const Machine&, bool ordered, bool sent_on);

// Gives the plan schedules. Where workers have one memory: turns, by the longest path to the end. Else the best of
// `tries`, counted as if a tile were sent when its reader waits for nothing else, and as if it were sent when it is
// written. The first counts too little on what overlaps, the second too much; two of each, from other random numbers.
// Steps show which is the fastest (ScheduleTrial).
void place(Plan&, const Runtime&, const Machine&, bool ordered, int tries);

}  // namespace tessera
