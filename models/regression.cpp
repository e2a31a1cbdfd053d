// models/regression.cpp - non-negative least squares in three unknowns: the best of the fits with some of them zero.
#include "models/regression.h"

#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

namespace tessera {
namespace {

using Row = std::array<double, 3>;

// Least squares of sum_k x_k row_k = 1 over the unknowns of `mask`, by the normal equations; false if singular.
bool solve(const std::vector<Row>& rows, int mask, Row& x) {
    std::array<std::array<double, 4>, 3> m{};
    for (int i = 0; i < 3; ++i) {
        if (!(mask >> i & 1)) {
            m[size_t(i)][size_t(i)] = 1;  // x_i = 0
            continue;
        }
        for (const Row& r : rows) {
            for (int j = 0; j < 3; ++j)
                if (mask >> j & 1) m[size_t(i)][size_t(j)] += r[size_t(i)] * r[size_t(j)];
            m[size_t(i)][3] += r[size_t(i)];
        }
    }
    for (size_t k = 0; k < 3; ++k) {  // positive semidefinite: no pivoting needed
        const double pivot = m[k][k];
        if (!(pivot > 1e-12 * double(rows.size()))) return false;
        for (size_t i = 0; i < 3; ++i) {
            if (i == k) continue;
            const double factor = m[i][k] / pivot;
            for (size_t j = k; j < 4; ++j) m[i][j] -= factor * m[k][j];
        }
    }
    for (size_t k = 0; k < 3; ++k) x[k] = m[k][3] / m[k][k];
    return true;
}

}  // namespace

double misfit(const TimeModel& model, const std::vector<TimePoint>& points) {
    double sum = 0;
    for (const TimePoint& p : points) {
        const double off = model.at(p.flops, p.bytes) / p.time_us - 1;
        sum += off * off;
    }
    return sum;
}

std::optional<TimeModel> fit_times(const std::vector<TimePoint>& points) {
    std::vector<Row> rows;
    std::vector<TimePoint> used;
    std::set<std::pair<double, double>> sizes;
    for (const TimePoint& p : points)
        if (p.time_us > 0) {
            used.push_back(p), sizes.insert({p.flops, p.bytes});
            rows.push_back({1 / p.time_us, p.flops / p.time_us, p.bytes / p.time_us});
        }
    if (sizes.size() < 3) return {};
    Row scale{};  // columns of equal length, so that one bound tells what is singular
    for (size_t k = 0; k < 3; ++k) {
        for (const Row& r : rows) scale[k] += r[k] * r[k] / double(rows.size());
        scale[k] = scale[k] > 0 ? std::sqrt(scale[k]) : 1;
        for (Row& r : rows) r[k] /= scale[k];
    }
    std::optional<TimeModel> best;
    double least = std::numeric_limits<double>::infinity();
    for (int mask = 1; mask < 8; ++mask) {
        Row x{};
        if (!solve(rows, mask, x) || x[0] < 0 || x[1] < 0 || x[2] < 0) continue;
        const TimeModel model{x[0] / scale[0], x[1] / scale[1], x[2] / scale[2]};
        if (const double off = misfit(model, used); off < least) least = off, best = model;
    }
    return best;
}

}  // namespace tessera
