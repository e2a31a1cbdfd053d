#include "data/freivalds.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/random.h"
#include "core/threads.h"

namespace tessera {
namespace {
constexpr int64_t block_elements = 1 << 18;  // read at once by each thread
constexpr int64_t strip = 1024;              // columns of a block against which all vectors are held while in the cache
constexpr int64_t lanes = 8;                 // independent sums; fixed, so that the compiler makes them vectors

// body(part, begin, end) for contiguous parts of [0, count), each in a thread.
template <class Body>
void in_parts(int64_t count, int64_t parts, Body body) {
    in_threads(parts, [&](int64_t part) { body(part, count * part / parts, count * (part + 1) / parts); });
}

int64_t parts_for(int64_t pieces) {
    return std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, std::clamp<int64_t>(pieces, 1, 16));
}

double dot(const double* v, const double* w, int64_t count) {
    double sums[lanes] = {}, sum = 0;
    int64_t j = 0;
    for (; j + lanes <= count; j += lanes)
        for (int64_t l = 0; l < lanes; ++l) sums[l] += v[j + l] * w[j + l];
    for (; j < count; ++j) sum += v[j] * w[j];
    for (const double s : sums) sum += s;
    return sum;
}

// out += s v, and out += (s v)^2.
void add_scaled(double s, const double* __restrict v, double* __restrict out, int64_t count) {
    int64_t j = 0;
    for (; j + lanes <= count; j += lanes)
        for (int64_t l = 0; l < lanes; ++l) out[j + l] += s * v[j + l];
    for (; j < count; ++j) out[j] += s * v[j];
}
void add_squares(double s, const double* __restrict v, double* __restrict out, int64_t count) {
    int64_t j = 0;
    for (; j + lanes <= count; j += lanes)
        for (int64_t l = 0; l < lanes; ++l) out[j + l] += (s * v[j + l]) * (s * v[j + l]);
    for (; j < count; ++j) out[j] += (s * v[j]) * (s * v[j]);
}

double sum_of_squares(const double* v, const double* scales, int64_t count) {
    double sums[lanes] = {}, sum = 0;
    int64_t j = 0;
    for (; j + lanes <= count; j += lanes)
        for (int64_t l = 0; l < lanes; ++l) sums[l] += (scales[j + l] * v[j + l]) * (scales[j + l] * v[j + l]);
    for (; j < count; ++j) sum += (scales[j] * v[j]) * (scales[j] * v[j]);
    for (const double s : sums) sum += s;
    return sum;
}

// The 2-norm of scales[i] v[i stride], whose squares add up to `squares` if those neither overflowed nor vanished.
double norm(double squares, const double* v, const double* scales, int64_t count, int64_t stride) {
    if ((squares > 1e-200 && squares < 1e200) || std::isnan(squares)) return std::sqrt(squares);
    double largest = 0, sum = 0;
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(scales[i] * v[i * stride]));
    if (largest == 0 || std::isinf(largest)) return largest;
    for (int64_t i = 0; i < count; ++i) {
        const double part = scales[i] * v[i * stride] / largest;
        sum += part * part;
    }
    return largest * std::sqrt(sum);
}

// What op(M) is multiplied with: vectors x, rounds x width, and scales of op(M)'s columns for the norms of its rows.
struct Vectors {
    int rounds;
    int64_t width;
    std::vector<double> x, scales;
};

struct Applied {
    Applied(int64_t length_, int rounds)
        : length(length_), products(size_t(length * rounds)), norms(static_cast<size_t>(length)) {}
    int64_t length;
    std::vector<double> products;  // op(M) x, rounds x length
    std::vector<double> norms;     // 2-norms of the rows of op(M), its columns scaled
};

// Rows [first, first + rows) of M, `v`, when op(M) = M.
void apply_rows(const double* v, int64_t first, int64_t rows, const Vectors& in, Applied& out) {
    const int64_t cols = in.width;
    for (int64_t c = 0; c < cols; c += strip) {
        const int64_t width = std::min(strip, cols - c);
        for (int64_t i = 0; i < rows; ++i)
            for (int r = 0; r < in.rounds; ++r)
                out.products[size_t(r * out.length + first + i)] +=
                    dot(v + i * cols + c, &in.x[size_t(r * cols + c)], width);
    }
    for (int64_t i = 0; i < rows; ++i) {
        const double *row = v + i * cols, *scales = in.scales.data();
        out.norms[size_t(first + i)] = norm(sum_of_squares(row, scales, cols), row, scales, cols, 1);
    }
}

// When op(M) is the transpose: these rows add their part to every product and norm.
void apply_transposed(const double* v, int64_t first, int64_t rows, const Vectors& in, Applied& out) {
    const int64_t cols = out.length;
    const double* scales = &in.scales[size_t(first)];
    for (int64_t c = 0; c < cols; c += strip) {
        const int64_t width = std::min(strip, cols - c);
        for (int r = 0; r < in.rounds; ++r)
            for (int64_t i = 0; i < rows; ++i)
                add_scaled(in.x[size_t(r * in.width + first + i)], v + i * cols + c,
                           &out.products[size_t(r * cols + c)], width);
        double squares[strip] = {};
        for (int64_t i = 0; i < rows; ++i) add_squares(scales[i], v + i * cols + c, squares, width);
        for (int64_t j = 0; j < width; ++j) {
            double& sum = out.norms[size_t(c + j)];
            sum = std::hypot(sum, norm(squares[j], v + c + j, scales, rows, cols));
        }
    }
}

Applied apply(const RowMatrix& m, bool transposed, const Vectors& in) {
    const int64_t length = transposed ? m.cols : m.rows;
    const int64_t block =
        std::clamp<int64_t>(block_elements / std::max<int64_t>(m.cols, 1), 1, std::max<int64_t>(m.rows, 1));
    const int64_t parts = parts_for((m.rows + block - 1) / block);
    // Transposed, each part has sums of its own; otherwise the parts write different rows of one result.
    std::vector<Applied> sums(size_t(transposed ? parts : 1), Applied(length, in.rounds));
    if (m.rows == 0 || m.cols == 0) return sums[0];
    in_parts(m.rows, parts, [&](int64_t part, int64_t begin, int64_t end) {
        std::vector<double> rows(size_t(block * m.cols));
        for (int64_t row = begin; row < end; row += block) {
            const int64_t count = std::min(block, end - row);
            m.read(row, count, rows.data());
            if (transposed) apply_transposed(rows.data(), row, count, in, sums[size_t(part)]);
            else apply_rows(rows.data(), row, count, in, sums[0]);
        }
    });
    for (size_t p = 1; p < sums.size(); ++p) {
        for (size_t i = 0; i < sums[0].products.size(); ++i) sums[0].products[i] += sums[p].products[i];
        for (size_t i = 0; i < sums[0].norms.size(); ++i)
            sums[0].norms[i] = std::hypot(sums[0].norms[i], sums[p].norms[i]);
    }
    return sums[0];
}

std::string size_text(const RowMatrix& m) { return std::to_string(m.rows) + " x " + std::to_string(m.cols); }

struct Sizes {
    int64_t m, n, k;
    bool has_ab, has_c0;
};

Sizes sizes_of(const CheckedProduct& p) {
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

// The formula of the header; `width`: the elements of C that one error sums over.
struct Bound {
    Bound(const CheckedProduct& p, const Sizes& s, int64_t width) {
        const bool wide = p.dtype == DType::f64;
        const double k = double(s.k), times = double(std::max<int64_t>(p.times_stored, 1));
        const double along_k = facts(wide ? DType::f64 : DType::f32).epsilon * k,
                     own = 4 * 0x1p-52 * std::sqrt(double(width));
        const double stored = 4 * facts(p.dtype).epsilon * std::sqrt(times), factors = p.tf32 ? 0x1p-7 : 0;
        per_product = 2 * along_k + factors + (times > 1 ? stored : 0) + own * std::sqrt(k);
        per_result = along_k + factors + stored + own;
        tiny = (std::abs(p.alpha) * k + 1) * double(width) * (wide ? DBL_MIN : FLT_MIN);
        root = std::sqrt(k) * std::max(std::abs(p.alpha), 1.0), alpha = std::abs(p.alpha);
        largest = wide ? DBL_MAX / double(std::max<int64_t>(width, 1)) : p.dtype == DType::f32 ? FLT_MAX : 0x1.fep127;
    }
    // `terms`: the 2-norm of the products a b; `start`, `result`: |beta C0| and |C|.
    double allowed(double terms, double start, double result) const {
        return per_product * alpha * terms + per_result * (start + result) + tiny;
    }
    // Sums on the way to a result are at most `root` times the norm of their terms.
    bool may_overflow(double terms, double start) const {
        return std::isfinite(terms) && std::isfinite(start) && !(root * terms + start <= largest);
    }
    double per_product, per_result, tiny, root, alpha, largest;
};

// The error of a result: 0 if it cannot be judged, infinite if one is finite and the other is not.
double error_of(double result, double reference, bool may_overflow) {
    const bool finite = std::isfinite(result);
    if (finite && std::isfinite(reference)) return std::abs(result - reference);
    return finite == std::isfinite(reference) || may_overflow ? 0 : std::numeric_limits<double>::infinity();
}

// Keeps the error that is largest relative to what is allowed.
struct Worst {
    ProductCheck check;
    double ratio = 0;
    void add(double error, double allowed, int64_t row) {
        if (std::isinf(error)) allowed = 0;  // the values that give the bound are not finite either
        const double r = error == 0 ? 0 : allowed > 0 ? error / allowed : INFINITY;
        if (r <= ratio) return;
        ratio = r, check = {error, allowed, row};
    }
};

// A matrix as doubles, transposed if asked for.
std::vector<double> whole(const RowMatrix& m, bool transposed) {
    std::vector<double> rows(size_t(m.rows * m.cols));
    if (rows.empty()) return rows;
    m.read(0, m.rows, rows.data());
    if (!transposed) return rows;
    std::vector<double> result(rows.size());
    for (int64_t i = 0; i < m.rows; ++i)
        for (int64_t j = 0; j < m.cols; ++j) result[size_t(j * m.rows + i)] = rows[size_t(i * m.cols + j)];
    return result;
}

template <class T>
void widen(const T* from, double* __restrict to, int64_t count) {
    int64_t j = 0;
    for (; j + lanes <= count; j += lanes)
        for (int64_t l = 0; l < lanes; ++l) to[j + l] = double(from[j + l]);
    for (; j < count; ++j) to[j] = double(from[j]);
}

template <class T>
RowSource memory_rows(const void* data, int64_t ld, int64_t cols) {
    return [=](int64_t row, int64_t rows, double* to) {
        for (int64_t i = 0; i < rows; ++i) widen(static_cast<const T*>(data) + (row + i) * ld, to + i * cols, cols);
    };
}
}  // namespace

RowSource rows_of(const void* data, int64_t ld, int64_t cols, DType dtype) {
    if (cols < 0 || ld < cols)
        throw std::invalid_argument("rows of " + std::to_string(cols) + " elements with leading dimension " +
                                    std::to_string(ld));
    if (dtype == DType::f32) return memory_rows<float>(data, ld, cols);
    if (dtype == DType::f64) return memory_rows<double>(data, ld, cols);
    if (dtype == DType::bf16) return memory_rows<bf16>(data, ld, cols);
    throw std::invalid_argument("rows of type " + std::string(name_of(dtype)));
}

RowSource rows_of(const MatrixReader& reader) {
    const int64_t cols = reader.cols();
    if (reader.dtype() == DType::f64)
        return [&reader, cols](int64_t row, int64_t rows, double* to) { reader.read(row, 0, rows, cols, to, cols); };
    return [&reader, cols](int64_t row, int64_t rows, double* to) {
        constexpr int64_t most = 1 << 14;  // in pieces that stay in the first cache
        float piece[most];
        const int64_t high = std::max<int64_t>(most / std::max<int64_t>(cols, 1), 1), wide = std::min(cols, most);
        for (int64_t i = 0; i < rows; i += high)
            for (int64_t j = 0; j < cols; j += wide) {
                const int64_t h = std::min(high, rows - i), w = std::min(wide, cols - j);
                reader.read(row + i, j, h, w, piece, w);
                widen(piece, to + i * cols + j, h * w);  // h > 1 only for whole rows
            }
    };
}

ProductCheck freivalds(const CheckedProduct& p, int rounds, uint64_t seed) {
    const Sizes s = sizes_of(p);
    if (rounds < 1) throw std::invalid_argument("Freivalds' check of " + std::to_string(rounds) + " rounds");
    Vectors by_n{rounds, s.n, std::vector<double>(size_t(rounds * s.n)), std::vector<double>(size_t(s.n), 1.0)};
    for (int r = 0; r < rounds; ++r)
        for (int64_t j = 0; j < s.n; ++j)
            by_n.x[size_t(r * s.n + j)] = random_bits(seed, uint64_t(r), uint64_t(j)) >> 63 ? 1 : -1;
    const Applied c = apply(p.c, false, by_n);
    const Applied c0 = s.has_c0 ? apply(p.c0, false, by_n) : Applied(s.m, rounds);
    Applied ab(s.m, rounds);
    if (s.has_ab) {
        Applied b = apply(p.b, p.tb, by_n);
        ab = apply(p.a, p.ta, {rounds, s.k, std::move(b.products), std::move(b.norms)});
    }
    const Bound bound(p, s, s.n);
    Worst worst;
    for (int64_t i = 0; i < s.m; ++i) {
        const double terms = ab.norms[size_t(i)], start = std::abs(p.beta) * c0.norms[size_t(i)];
        const double allowed = bound.allowed(terms, start, c.norms[size_t(i)]);
        for (int r = 0; r < rounds; ++r) {
            const size_t e = size_t(r * s.m + i);
            const double reference =
                (s.has_ab ? p.alpha * ab.products[e] : 0) + (s.has_c0 ? p.beta * c0.products[e] : 0);
            worst.add(error_of(c.products[e], reference, bound.may_overflow(terms, start)), allowed, i);
        }
    }
    return worst.check;
}

ProductCheck exact_product(const CheckedProduct& p) {
    const Sizes s = sizes_of(p);
    const auto c = whole(p.c, false), c0 = s.has_c0 ? whole(p.c0, false) : std::vector<double>();
    const auto a = s.has_ab ? whole(p.a, p.ta) : std::vector<double>(), b = s.has_ab ? whole(p.b, p.tb) : a;
    const Bound bound(p, s, 1);
    const int64_t parts = parts_for(s.m * s.n * s.k >> 20);
    std::vector<Worst> worst(static_cast<size_t>(parts));
    in_parts(s.m, parts, [&](int64_t part, int64_t begin, int64_t end) {
        std::vector<double> sum(static_cast<size_t>(s.n)), squares(sum.size());
        for (int64_t i = begin; i < end; ++i) {
            std::fill(sum.begin(), sum.end(), 0.0), std::fill(squares.begin(), squares.end(), 0.0);
            const double* row = a.data() + i * s.k;
            for (int64_t l = 0; l < s.k; ++l) {
                add_scaled(row[l], b.data() + l * s.n, sum.data(), s.n);
                add_squares(row[l], b.data() + l * s.n, squares.data(), s.n);
            }
            for (int64_t j = 0; j < s.n; ++j) {
                const size_t e = size_t(i * s.n + j);
                const double start = s.has_c0 ? p.beta * c0[e] : 0;
                const double terms = norm(squares[size_t(j)], b.data() + j, row, s.k, s.n);
                const double reference = (s.has_ab ? p.alpha * sum[size_t(j)] : 0) + start;
                worst[size_t(part)].add(error_of(c[e], reference, bound.may_overflow(terms, std::abs(start))),
                                        bound.allowed(terms, std::abs(start), std::abs(c[e])), i);
            }
        }
    });
    for (const Worst& w : worst)
        if (w.ratio > worst[0].ratio) worst[0] = w;
    return worst[0].check;
}

}  // namespace tessera
