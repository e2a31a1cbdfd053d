// Line charts as SVG, with up to two vertical axes; colours that colour-blind readers can tell apart (Okabe and Ito).
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tessera {

// Points in the order of the line. NaN, infinite, or (on a logarithmic axis) not positive: a gap.
struct Series {
    std::string name;  // empty: not in the legend
    std::vector<double> x, y;
    bool right_axis = false;
    bool faint = false;                                            // thin and light: raw values behind a smoothed line
    int color = -1;                                                // index into the palette; -1: the next one
    enum { few_marked, unmarked, only_marks } marks = few_marked;  // few: up to 40 points; only: no line
};

struct Chart {
    std::string title, x_label, y_label, right_label;
    bool log_y = false;  // the left axis
    std::vector<Series> series;
    std::optional<std::pair<double, double>> right_range;  // the right axis shows at least this
    bool log_x = false;
};

// A whole SVG document. Throws std::invalid_argument if a series has not as many x as y.
std::string svg(const Chart& chart);

// Exponential moving average over about `window` points, corrected for its start (as Adam does); gaps stay gaps.
Series smoothed(const Series& raw, double window, std::string name);

// Multiples of 1, 2 or 5 times a power of ten, about `count` of them, from the first <= low to the first >= high.
std::vector<double> nice_ticks(double low, double high, int count);

// Powers of ten that enclose [low, high], low > 0; with 2 and 5 times them where there are fewer than three.
std::vector<double> log_ticks(double low, double high);

}  // namespace tessera
