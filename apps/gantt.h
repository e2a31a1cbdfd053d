// A run as an SVG picture fit for a paper: what every worker did when, what went over the links.
#pragma once
#include <cmath>
#include <string>

#include "core/trace.h"

namespace tessera {

struct GanttOptions {
    std::string title = {};
    double width = 1000;                           // pixels, at least 480
    double from_us = -INFINITY, to_us = INFINITY;  // the part that is drawn, in the trace's time
};

// Rows of workers, GPUs first, coloured by op (the seven that take longest, the rest as "other"); grey: fetching data
// while nothing runs; white: idle. Links below: each transfer, or the mean rate as a height where only sums are known.
// Dashed lines: the first start of each step. At the right the share of time that a worker was busy, and the bytes
// that went over a link. Tasks too thin to see share a bar, so that any number of them gives at most about 2 MB.
std::string gantt_svg(const TraceData&, const GanttOptions& = {});

}  // namespace tessera
