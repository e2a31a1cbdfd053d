#include "data/freivalds.h"

#include <numeric>

#include "core/random.h"
#include "data/product_errors.h"

namespace tessera {
namespace {
constexpr int64_t block_elements = 1 << 18;             // read at once by each thread
constexpr int64_t most_rows = 16, looked_at = 1 << 20;  // rows and elements that are compared one by one
constexpr int64_t strip = 1024;  // columns of a block against which all vectors are held while in the cache

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
    std::vector<double> stands_out(static_cast<size_t>(s.m));
    for (int64_t i = 0; i < s.m; ++i) {
        const double terms = ab.norms[size_t(i)], start = std::abs(p.beta) * c0.norms[size_t(i)],
                     result = c.norms[size_t(i)];
        const double allowed = bound.allowed(terms, start, result), usual = bound.tight(terms, 0, start, result);
        for (int r = 0; r < rounds; ++r) {
            const size_t e = size_t(r * s.m + i);
            const double reference =
                (s.has_ab ? p.alpha * ab.products[e] : 0) + (s.has_c0 ? p.beta * c0.products[e] : 0);
            const double error = error_of(c.products[e], reference, bound.may_overflow(terms, start));
            worst.add(error, allowed, i);
            if (error > 0) stands_out[size_t(i)] = std::max(stands_out[size_t(i)], error / usual);
        }
    }
    // A row's bound grows with its length, and one wrong element may hide below it.
    std::vector<int64_t> rows(static_cast<size_t>(s.m));
    std::iota(rows.begin(), rows.end(), int64_t(0));
    const int64_t some = std::min(s.m, std::clamp<int64_t>(looked_at / std::max<int64_t>(s.n, 1), 1, most_rows));
    std::partial_sort(rows.begin(), rows.begin() + some, rows.end(),
                      [&](int64_t x, int64_t y) { return stands_out[size_t(x)] > stands_out[size_t(y)]; });
    rows.resize(size_t(some));
    std::erase_if(rows, [&](int64_t i) { return stands_out[size_t(i)] == 0; });
    check_elements(p, s, rows, worst);
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
                                        bound.allowed(terms, std::abs(start), std::abs(c[e])), i, j);
            }
        }
    });
    for (const Worst& w : worst)
        if (w.ratio > worst[0].ratio) worst[0] = w;
    return worst[0].check;
}

}  // namespace tessera
