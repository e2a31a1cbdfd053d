// apps/placement.h - where the tasks of a plan run, from a machine's models and links (core/list_schedule.h).
#pragma once
#include "core/plan.h"
#include "core/runtime.h"
#include "models/machine.h"

namespace tessera {

// Gives the plan schedules of this runtime's workers. Where workers have one memory: turns, by the longest path to the
// end. Else the best of `tries` counted the first way and of as many counted the second way, all from the best of half
// as many counted the third way, and the best of those. The first counts too little on what overlaps, the second too
// much: steps show which is the fastest (ScheduleTrial). What was found is kept in the cache folder for the next run
// (apps/found_schedules.h).
void place(Plan&, const Runtime&, const Machine&, bool ordered, int tries);

}  // namespace tessera
