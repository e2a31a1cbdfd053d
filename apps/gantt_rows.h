// What a Gantt chart shows, before it has a place on the page: window, colours, rows with their bars.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "apps/gantt.h"

namespace tessera {

struct GanttRow {
    enum Kind { gpu, cpu, link } kind;
    std::string label, name, share;  // shortened and whole name; "97 %", or bytes
    std::string body;                // around y = 0, from x = 0
};

struct GanttRows {
    bool empty = true;                      // no task or transfer in the window
    double run_from_us = 0, run_to_us = 0;  // of all tasks
    double from_us = 0, to_us = 1;          // of what is drawn
    double width = 1;                       // of the rows, pixels
    double label_width = 0;
    std::vector<GanttRow> rows;
    std::vector<std::pair<std::string, int>> legend;  // "gemm_f32 62 %" and its colour
    bool waits = false;                               // some worker waited for data
    std::vector<std::string> notes;                   // "12,345 tasks"

    double px(double us) const;  // in the rows; clamped to them
};

GanttRows gantt_rows(const TraceData&, const GanttOptions&);

// Pixels that rows of workers take each, by their number.
double gantt_pitch(size_t workers);

inline constexpr double gantt_font = 12, gantt_small = 10, gantt_share_width = 66;
inline constexpr const char* gantt_wait_color = "#c8c8c8";
extern const std::vector<std::string> gantt_colors;  // the last one is for all ops without their own

struct TimeUnit {
    double us;
    const char* name;
};
TimeUnit unit_of(double us);  // microseconds, milliseconds or seconds: what suits this time

}  // namespace tessera
