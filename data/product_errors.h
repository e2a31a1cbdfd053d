// data/product_errors.h - what the checks of data/freivalds.h share: how large an error may be, and loops over doubles.
#pragma once
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/threads.h"
#include "data/freivalds.h"

namespace tessera {

inline constexpr int64_t lanes = 8;  // independent sums; fixed, so that the compiler makes them vectors

// body(part, begin, end) for contiguous parts of [0, count), each in a thread.
template <class Body>
void in_parts(int64_t count, int64_t parts, Body body) {
    in_threads(parts, [&](int64_t part) { body(part, count * part / parts, count * (part + 1) / parts); });
}

inline int64_t parts_for(int64_t pieces) {
    return std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, std::clamp<int64_t>(pieces, 1, 16));
}

inline double dot(const double* v, const double* w, int64_t count) {
    double sums[lanes] = {}, sum = 0;
    int64_t j = 0;
    for (; j + lanes <= count; j += lanes)
        for (int64_t l = 0; l < lanes; ++l) sums[l] += v[j + l] * w[j + l];
    for (; j < count; ++j) sum += v[j] * w[j];
    for (const double s : sums) sum += s;
    return sum;
}

// out += s v, and out += (s v)^2.
inline void add_scaled(double s, const double* __restrict v, double* __restrict out, int64_t count) {
    int64_t j = 0;
    for (; j + lanes <= count; j += lanes)
        for (int64_t l = 0; l < lanes; ++l) out[j + l] += s * v[j + l];
    for (; j < count; ++j) out[j] += s * v[j];
}
inline void add_squares(double s, const double* __restrict v, double* __restrict out, int64_t count) {
    int64_t j = 0;
    for (; j + lanes <= count; j += lanes)
        for (int64_t l = 0; l < lanes; ++l) out[j + l] += (s * v[j + l]) * (s * v[j + l]);
    for (; j < count; ++j) out[j] += (s * v[j]) * (s * v[j]);
}

inline double sum_of_squares(const double* v, const double* scales, int64_t count) {
    double sums[lanes] = {}, sum = 0;
    int64_t j = 0;
    for (; j + lanes <= count; j += lanes)
        for (int64_t l = 0; l < lanes; ++l) sums[l] += (scales[j + l] * v[j + l]) * (scales[j + l] * v[j + l]);
    for (; j < count; ++j) sum += (scales[j] * v[j]) * (scales[j] * v[j]);
    for (const double s : sums) sum += s;
    return sum;
}

inline std::string size_text(const RowMatrix& m) { return std::to_string(m.rows) + " x " + std::to_string(m.cols); }

struct Sizes {
    int64_t m, n, k;
    bool has_ab, has_c0;
};

inline Sizes sizes_of(const CheckedProduct& p) {
    Sizes s{p.c.rows, p.c.cols, p.ta ? p.a.rows : p.a.cols, p.alpha != 0, p.beta != 0};
    const bool ab_fits = (p.ta ? p.a.cols : p.a.rows) == s.m && (p.tb ? p.b.cols : p.b.rows) == s.k &&
                         (p.tb ? p.b.rows : p.b.cols) == s.n;
    const bool c0_fits = p.c0.rows == s.m && p.c0.cols == s.n;
    if (s.m < 0 || s.n < 0 || s.k < 0 || (s.has_ab && !ab_fits) || (s.has_c0 && !c0_fits))
        throw std::invalid_argument("product check: A " + size_text(p.a) + (p.ta ? " transposed" : "") + ", B " +
                                    size_text(p.b) + (p.tb ? " transposed" : "") + ", C0 " + size_text(p.c0) +
                                    " and C " + size_text(p.c) + " do not fit");
    if (p.dtype != DType::f32 && p.dtype != DType::f64 && p.dtype != DType::bf16)
        throw std::invalid_argument("product check: C of type " + std::string(name_of(p.dtype)));
    if (!s.has_ab) s.k = 0;
    return s;
}

// The formulas of freivalds.h; `width`: the elements of C that one error sums over.
struct Bound {
    Bound(const CheckedProduct& p, const Sizes& s, int64_t width) {
        const bool wide = p.dtype == DType::f64;
        const double k = double(s.k);
        times = double(std::max<int64_t>(p.times_stored, 1));
        epsilon = facts(wide ? DType::f64 : DType::f32).epsilon;
        const double along_k = epsilon * k, own = 4 * 0x1p-52 * std::sqrt(double(width));
        const double stored = 4 * facts(p.dtype).epsilon * std::sqrt(times), factors = p.tf32 ? 0x1p-7 : 0;
        others_per_product = factors + (times > 1 ? stored : 0) + own * std::sqrt(k);
        others_per_result = factors + stored + own;
        per_product = 2 * along_k + others_per_product;
        per_result = along_k + others_per_result;
        tiny = (std::abs(p.alpha) * k + 1) * double(width) * (wide ? DBL_MIN : FLT_MIN);
        steps = std::sqrt(k), alpha = std::abs(p.alpha);
        root = steps * std::max(alpha, 1.0);
        largest = wide ? DBL_MAX / double(std::max<int64_t>(width, 1)) : p.dtype == DType::f32 ? FLT_MAX : 0x1.fep127;
    }
    // `terms`: the 2-norm of the products a b; `start`, `result`: |beta C0| and |C|.
    double allowed(double terms, double start, double result) const {
        return per_product * alpha * terms + per_result * (start + result) + tiny;
    }
    // Of signs that are random as far as the sums on the way to a result, of up to `partial`, let them be.
    double tight(double terms, double partial, double start, double result) const {
        const double one_way = terms > 0 ? partial * partial / terms : 0;
        return epsilon * steps * (alpha * (2 * terms + one_way) + 2 * (start + result)) + epsilon * times * start +
               others_per_product * alpha * terms + others_per_result * (start + result) + tiny;
    }
    // Sums on the way to a result are at most `root` times the norm of their terms.
    bool may_overflow(double terms, double start) const {
        return std::isfinite(terms) && std::isfinite(start) && !(root * terms + start <= largest);
    }
    double times, epsilon, steps, others_per_product, others_per_result;
    double per_product, per_result, tiny, root, alpha, largest;
};

// The error of a result: 0 if it cannot be judged, infinite if one is finite and the other is not.
inline double error_of(double result, double reference, bool may_overflow) {
    const bool finite = std::isfinite(result);
    if (finite && std::isfinite(reference)) return std::abs(result - reference);
    return finite == std::isfinite(reference) || may_overflow ? 0 : std::numeric_limits<double>::infinity();
}

// Keeps the error that is largest relative to what is allowed.
struct Worst {
    ProductCheck check;
    double ratio = 0;
    void add(double error, double allowed, int64_t row, int64_t col = -1) {
        if (std::isinf(error)) allowed = 0;  // the values that give the bound are not finite either
        const double r = error == 0 ? 0 : allowed > 0 ? error / allowed : INFINITY;
        if (r <= ratio) return;
        ratio = r, check = {error, allowed, row, col};
    }
};

// Adds the largest error of single elements in these rows of C, compared with Bound::tight.
void check_elements(const CheckedProduct&, const Sizes&, const std::vector<int64_t>& rows, Worst&);

}  // namespace tessera
