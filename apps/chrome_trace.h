// A run as a Chrome trace (JSON), for Perfetto or chrome://tracing: a row per worker and link, memory in use, steps.
#pragma once
#include <filesystem>
#include <string>

#include "core/trace.h"

namespace tessera {

// Process "workers": a row per worker with a complete event per task (category "op", named by op; args: layer, tile,
// step, implementation, GFLOP/s), and a row for the times in which a worker's inputs were fetched ("transfer").
// Process "links": a row per pair of memory nodes with each transfer, or GB/s as a counter where only sums are known.
// Process "memory in use": a counter per node. Steps are instant events. Where things overlap that should be in one
// row, a further row "name (2)" takes them: viewers accept no overlap. Events with impossible times are left out.
std::string chrome_trace(const TraceData&);

// The same into a file, a piece at a time. Throws Error if it cannot be written.
void write_chrome_trace(const TraceData&, const std::filesystem::path&);

}  // namespace tessera
