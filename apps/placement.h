// apps/placement.h - where the tasks of a plan run, from a machine's models and links (core/list_schedule.h).
#pragma once
#include "core/list_schedule.h"
#include "core/runtime.h"
#include "models/machine.h"

namespace tessera {

// When a tile that is read elsewhere is counted to go: when its reader waits for nothing else, or when it is written;
// or as the first, but in any idle time of the links.
enum class Counting { waiting, sent_on, inserting };

// Of this runtime's workers, by the fastest known time of every task on each kind of them: measured, else estimated
// (models/estimate.h), else rough (core/plan.h), a GPU counting as twenty cores.
ListScheduler list_scheduler(const Runtime&, const Plan&, const Machine&, bool ordered, Counting);

// Gives the plan schedules. Where workers have one memory: turns, by the longest path to the end. Else the best of
// `tries` counted the first way and of as many counted the second way, all from the best of half as many counted the
// third way, and the best of those. The first counts too little on what overlaps, the second too much: steps show which
// is the fastest (ScheduleTrial).
void place(Plan&, const Runtime&, const Machine&, bool ordered, int tries);

}  // namespace tessera
