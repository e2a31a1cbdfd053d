// models/regression.h - time of a task as a sum: overhead, flops, bytes.
#pragma once
#include <optional>
#include <vector>

namespace tessera {

struct TimePoint {
    double flops = 0, bytes = 0, time_us = 0;
};
struct TimeModel {
    double overhead_us = 0, us_per_flop = 0, us_per_byte = 0;
    double at(double flops, double bytes) const { return overhead_us + us_per_flop * flops + us_per_byte * bytes; }
};

// t = a + b flops + c bytes with a, b, c >= 0 that minimizes the sum of ((t - time) / time)^2: relative, because times
// of one op reach over several powers of ten. Nothing if there are fewer than three different sizes, or all times are
// 0.
std::optional<TimeModel> fit_times(const std::vector<TimePoint>&);

// Sum of the squared relative differences between model and points.
double misfit(const TimeModel&, const std::vector<TimePoint>&);

}  // namespace tessera
