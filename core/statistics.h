// core/statistics.h - order statistics of measured values. `v` must not be empty.
#pragma once
#include <algorithm>
#include <vector>

namespace tessera {

// The value below which `share` of `v` lies.
inline double quantile(std::vector<double> v, double share) {
    std::sort(v.begin(), v.end());
    return v[std::min(v.size() - 1, size_t(double(v.size()) * share))];
}
inline double median(std::vector<double> v) { return quantile(std::move(v), 0.5); }

}  // namespace tessera
