// apps/placement.h - where the tasks of a plan run, from a machine's models and links (core/list_schedule.h).
#pragma once
#include "core/plan.h"
#include "core/runtime.h"
#include "models/machine.h"

namespace tessera {

// Gives the plan schedules of this runtime's workers. Where they have one memory: turns, by the longest path to the
// end. Else what four searches of `tries` found: counted as if a tile were sent when its reader waits for nothing
// else, and as if it were sent when it is written; both from nothing, and from where a search with insertion ended.
// The first counts too little on what overlaps, the second too much: steps show which is the fastest
// (ScheduleTrial). What was found is kept in the cache folder for the next run (apps/found_schedules.h).
void place(Plan&, const Runtime&, const Machine&, bool ordered, int tries);

}  // namespace tessera
