// plain.h - what the references are made of: loops in double that share nothing with the ops.
#pragma once
#include <cmath>

#include "tests/op_check.h"

namespace tessera::test {

template <class F>
Matrix map(const Matrix& x, F f) {
    Matrix y = x;
    for (double& v : y.v) v = f(v);
    return y;
}
template <class F>
Matrix map(const Matrix& a, const Matrix& b, F f) {
    Matrix y = a;
    for (size_t i = 0; i < y.v.size(); ++i) y.v[i] = f(a.v[i], b.v[i]);
    return y;
}
inline Matrix transposed(const Matrix& x) {
    Matrix y(x.cols, x.rows);
    for (int64_t i = 0; i < x.rows; ++i)
        for (int64_t j = 0; j < x.cols; ++j) y(j, i) = x(i, j);
    return y;
}
inline Matrix product(const Matrix& a, const Matrix& b) {
    Matrix y(a.rows, b.cols);
    for (int64_t i = 0; i < y.rows; ++i)
        for (int64_t l = 0; l < a.cols; ++l)
            for (int64_t j = 0; j < y.cols; ++j) y(i, j) += a(i, l) * b(l, j);
    return y;
}
// log of the sum of the exponentials of row i.
inline double log_sum_exp(const Matrix& x, int64_t i) {
    double most = x(i, 0), sum = 0;
    for (int64_t j = 0; j < x.cols; ++j) most = std::max(most, x(i, j));
    for (int64_t j = 0; j < x.cols; ++j) sum += std::exp(x(i, j) - most);
    return most + std::log(sum);
}
inline double activated(Activation a, double z) {
    switch (a) {
        case Activation::relu:
            return std::max(z, 0.0);
        case Activation::gelu:
            return z / 2 * (1 + std::erf(z / std::sqrt(2.0)));
        case Activation::tanh:
            return std::tanh(z);
        case Activation::sigmoid:
            return 1 / (1 + std::exp(-z));
        case Activation::silu:
            return z / (1 + std::exp(-z));
        default:
            return z;
    }
}

// [m x n] inputs with values in [low, high].
inline std::function<std::vector<Input>(Extents)> rectangles(int count, double low = -1, double high = 1,
                                                             double away_from_zero = 0) {
    return [=](Extents e) {
        return std::vector<Input>(
            size_t(count), Input{.shape = {e.m, e.n}, .low = low, .high = high, .away_from_zero = away_from_zero});
    };
}

}  // namespace tessera::test
