// data/freivalds.h - is C = alpha op(A) op(B) + beta C0? Checked in double, by random vectors (any size, matrices in
// memory or in files, each read once) or element by element (small sizes). op(A) is m x k, op(B) k x n.
#pragma once
#include <functional>

#include "core/types.h"
#include "data/matrix_file.h"

namespace tessera {

// Whole rows as doubles, row-major and dense. Called by several threads at once.
using RowSource = std::function<void(int64_t row, int64_t rows, double* to)>;

RowSource rows_of(const void* data, int64_t ld, int64_t cols, DType dtype);  // f32, f64 or bf16; the memory must stay
RowSource rows_of(const MatrixReader& reader);                               // which must outlive the source

struct RowMatrix {
    int64_t rows = 0, cols = 0;
    RowSource read;
};

// As in BLAS, A and B are not read if alpha = 0, nor C0 if beta = 0: NaN in them has no effect then.
struct CheckedProduct {
    double alpha = 1;
    RowMatrix a;  // m x k, or k x m if ta
    bool ta = false;
    RowMatrix b;  // k x n, or n x k if tb
    bool tb = false;
    double beta = 0;
    RowMatrix c0, c;           // c0 may stay empty if beta = 0
    DType dtype = DType::f32;  // C's type: f32, f64 or bf16
    bool tf32 = false;         // products of factors rounded to 10 bits of mantissa
    int64_t times_stored = 1;  // how often an element of C was rounded to dtype, say once per tile along k
};

struct ProductCheck {
    double worst = 0, tolerance = 0;                // the largest error compared with what is allowed there
    int64_t row = -1, col = -1;                     // where that is; col -1: the row times random signs
    bool ok() const { return worst <= tolerance; }  // false for NaN
};

// Freivalds' check (R. Freivalds, Probabilistic machines can use less running time, 1977): for `rounds` vectors x of
// random signs, row i of C x is compared with row i of alpha op(A) (op(B) x) + beta C0 x. Allowed is the sum of
//   e k (2 q + r)            rounding along k. sqrt(k) q bounds row i of |alpha| |op(A)| |op(B)|, so this is the usual
//                            c e sqrt(k) |A| |B|, right for errors of random signs (Higham, Mary 2019, A new approach
//                            to probabilistic rounding error analysis), and e k |C|, where signs are not random
//   4 s sqrt(T) (q' + r)     rounding to dtype, T = times_stored times; q' = q, but 0 if T = 1
//   2^-7 (q + r), if tf32    factors rounded or cut to 10 bits
//   2^-50 sqrt(n) (sqrt(k) q + r) + (|alpha| k + 1) n tiny    this check's own rounding; underflow
// with q = |alpha| |op(A)_i diag(|op(B)_1|, ..., |op(B)_k|)|, r = |beta| |C0_i| + |C_i|, all 2-norms of rows,
// e = 2^-23 or, for f64, 2^-52, s = epsilon of dtype, tiny = its smallest normal number: each row has its own bound.
// C with an element that is wrong by more than its row's bound passes with probability at most 2^-rounds; if it is the
// only one in its row, no luck is needed. Where the reference is Inf or NaN, C x must be either; where sums may
// overflow dtype, it may be.
// A row's bound grows with its length. So the rows that stand out most, 16 at most, are then compared element by
// element, with e sqrt(k) (2 q + P^2 / q + 2 r) + e T |beta C0_ij| in place of the first line, P being the largest of
// 16 or more sums on the way to the element: errors have random signs as far as P, up to sqrt(k) q, lets them.
ProductCheck freivalds(const CheckedProduct& product, int rounds, uint64_t seed);

// Element by element, 4 m n k operations; allowed is the same with n = 1, q = |alpha| sqrt(sum over l of
// (op(A)_il op(B)_lj)^2), and elements of C0 and C instead of rows. Holds all matrices in memory.
ProductCheck exact_product(const CheckedProduct& product);

}  // namespace tessera
