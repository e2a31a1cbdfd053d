// What the writers of traces and pictures share: orders, names and steps of a TraceData whose numbers may lie.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/trace.h"

namespace tessera {

// Workers as rows are ordered: GPUs first, else by number. Covers every worker that has a name or events.
std::vector<size_t> worker_order(const TraceData&);
std::string worker_name(const TraceData&, size_t worker);
const std::vector<TaskEvent>& tasks_of(const TraceData&, size_t worker);
const TraceData::Task& task_of(const TraceData&, const TaskEvent&);  // op "unknown" if there is none

std::string node_name(const TraceData&, int node);
std::string link_name(const TraceData&, int from, int to);  // "RAM to CUDA 0"
// The events of each pair (from, to), in order of their starts.
std::map<std::pair<int, int>, std::vector<const LinkEvent*>> links_by_pair(const TraceData&);

// Each step's number and the first start of one of its tasks, in order of the starts.
std::vector<std::pair<int64_t, double>> step_starts(const TraceData&);

// Finite, and ends not before it starts.
bool is_sound(double start_us, double end_us);

}  // namespace tessera
