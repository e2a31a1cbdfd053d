// Rows of a product element by element, in double; each matrix is read once.
#include "data/product_errors.h"

namespace tessera {
namespace {

constexpr int64_t read_elements = 1 << 21;
constexpr int64_t least_prefixes = 16;  // sums on the way that are looked at

// rows x width.
using Rows = std::vector<double>;

Rows rows_of_c(const RowMatrix& m, const std::vector<int64_t>& rows) {
    Rows result(rows.size() * size_t(m.cols));
    for (size_t r = 0; r < rows.size(); ++r) m.read(rows[r], 1, &result[r * size_t(m.cols)]);
    return result;
}

// body(first row, rows, their elements) for the matrix piece by piece, each read by several threads.
template <class Body>
void by_pieces(const RowMatrix& m, int64_t most, Body body) {
    const int64_t piece =
        std::clamp<int64_t>(read_elements / std::max<int64_t>(m.cols, 1), 1, std::max<int64_t>(most, 1));
    Rows elements(size_t(std::min(piece, m.rows) * m.cols));
    for (int64_t row = 0; row < m.rows; row += piece) {
        const int64_t count = std::min(piece, m.rows - row);
        in_parts(count, parts_for(count * m.cols >> 16), [&](int64_t, int64_t begin, int64_t end) {
            if (begin < end) m.read(row + begin, end - begin, &elements[size_t(begin * m.cols)]);
        });
        body(row, count, elements.data());
    }
}

Rows rows_of_op_a(const CheckedProduct& p, const Sizes& s, const std::vector<int64_t>& rows) {
    if (!p.ta) return rows_of_c(p.a, rows);
    Rows result(rows.size() * size_t(s.k));
    by_pieces(p.a, s.k, [&](int64_t first, int64_t count, const double* a) {
        for (size_t r = 0; r < rows.size(); ++r)
            for (int64_t l = 0; l < count; ++l) result[r * size_t(s.k) + size_t(first + l)] = a[l * s.m + rows[r]];
    });
    return result;
}

// Of every element: the sum, that of its terms' squares, and the largest sum on the way.
struct Sums {
    explicit Sums(size_t count) : sum(count), squares(count), partial(count) {}
    Rows sum, squares, partial;
};

Sums sums_of(const CheckedProduct& p, const Sizes& s, const std::vector<int64_t>& rows) {
    Sums out(rows.size() * size_t(s.n));
    if (!s.has_ab || s.k == 0 || s.n == 0) return out;
    const Rows a = rows_of_op_a(p, s, rows);
    const int64_t stretch = (s.k + least_prefixes - 1) / least_prefixes;
    const auto passed = [&](size_t e) { out.partial[e] = std::max(out.partial[e], std::abs(out.sum[e])); };
    if (p.tb) {
        by_pieces(p.b, s.n, [&](int64_t first, int64_t count, const double* b) {
            in_parts(count, parts_for(count * s.k >> 16), [&](int64_t, int64_t begin, int64_t end) {
                for (int64_t j = begin; j < end; ++j)
                    for (size_t r = 0; r < rows.size(); ++r) {
                        const size_t e = r * size_t(s.n) + size_t(first + j);
                        const double *left = &a[r * size_t(s.k)], *right = b + j * s.k;
                        for (int64_t l = 0; l < s.k; l += stretch, passed(e))
                            out.sum[e] += dot(left + l, right + l, std::min(stretch, s.k - l));
                        out.squares[e] = sum_of_squares(right, left, s.k);
                    }
            });
        });
        return out;
    }
    by_pieces(p.b, stretch, [&](int64_t first, int64_t count, const double* b) {
        in_parts(s.n, parts_for(count * s.n >> 16), [&](int64_t, int64_t begin, int64_t end) {
            for (size_t r = 0; r < rows.size(); ++r) {
                const size_t at = r * size_t(s.n);
                for (int64_t l = 0; l < count; ++l) {
                    const double factor = a[r * size_t(s.k) + size_t(first + l)];
                    add_scaled(factor, b + l * s.n + begin, &out.sum[at + size_t(begin)], end - begin);
                    add_squares(factor, b + l * s.n + begin, &out.squares[at + size_t(begin)], end - begin);
                }
                for (int64_t j = begin; j < end; ++j) passed(at + size_t(j));
            }
        });
    });
    return out;
}

}  // namespace

void check_elements(const CheckedProduct& p, const Sizes& s, const std::vector<int64_t>& rows, Worst& worst) {
    if (rows.empty()) return;
    const Sums ab = sums_of(p, s, rows);
    const Rows c = rows_of_c(p.c, rows), c0 = s.has_c0 ? rows_of_c(p.c0, rows) : Rows();
    const Bound bound(p, s, 1);
    for (size_t r = 0; r < rows.size(); ++r)
        for (int64_t j = 0; j < s.n; ++j) {
            const size_t e = r * size_t(s.n) + size_t(j);
            // Squares that over- or underflow say nothing of their terms: there only the row's bound holds.
            if (s.has_ab && (ab.squares[e] <= 1e-200 || ab.squares[e] >= 1e200)) continue;
            const double start = s.has_c0 ? p.beta * c0[e] : 0, terms = std::sqrt(ab.squares[e]);
            const double reference = (s.has_ab ? p.alpha * ab.sum[e] : 0) + start;
            worst.add(error_of(c[e], reference, bound.may_overflow(terms, std::abs(start))),
                      bound.tight(terms, ab.partial[e], std::abs(start), std::abs(c[e])), rows[r], j);
        }
}

}  // namespace tessera
