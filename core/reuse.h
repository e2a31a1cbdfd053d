// core/reuse.h - tiles that take each other's memory within a step: an activation's once nothing needs it any more.
#pragma once
#include "core/plan.h"

namespace tessera {

// Sets PlanTile::reuses. A tile may take the memory of another of its extents and type if
// - both are written before they are read, and belong to no parameter, no buffered and no kept value;
// - the plan's tasks on the other come before those on it, so that it is a matter of waiting only; and
// - with a worker for every task the others would have ended before it is written: no longest path becomes longer, by
//   `times` (a task's seconds), and so operators that can run side by side still can.
// Of several, the one that ends last: its memory is still in a cache. Returns the bytes that are saved.
int64_t reuse_memory(Plan&, const std::vector<double>& times, bool ordered);
void forget_reuse(Plan&);

// Bytes of the tiles that have memory of their own and are used; parameters' included.
int64_t memory_bytes(const Plan&);

}  // namespace tessera
