// codelets/moments.h - mean and variance of the columns of a tile, in one reading of memory, and how those of several
// tiles become those of all.
#pragma once
#include <algorithm>

#include "codelets/columns.h"

namespace tessera {

// How many, their mean and the sum of their squared distances from it. Chan, Golub, LeVeque 1979, "Updating formulae
// and a pairwise algorithm for computing sample variances".
template <class C>
struct Moments {
    C count, mean, m2;
    HD void add(const Moments& o) {
        if (!(o.count > 0)) return;
        const C total = count + o.count, delta = o.mean - mean, share = o.count / total;
        m2 += o.m2 + delta * delta * count * share;
        mean += delta * share;
        count = total;
    }
};

// Of columns j0 ... j0 + cols of x, into arrays: in chunks of rows that stay in cache for the second pass over them.
template <class T, class C = Compute<T>>
void column_moments(In<T> x, int64_t j0, int64_t cols, C* mean, C* m2) {
    C first[columns_at_once], sum[columns_at_once], squares[columns_at_once];
    const int64_t most = rows_at_once<T>(cols);
    for (int64_t i0 = 0; i0 < x.rows; i0 += most) {
        const int64_t rows = std::min(most, x.rows - i0), ld = x.ld;
        const T* from = x.row(i0) + j0;
        std::fill_n(sum, cols, C(0));
        std::fill_n(squares, cols, C(0));
        std::copy_n(from, cols, first);  // sums of distances from it stay small where the mean is large
        sum_columns(rows, cols, sum, [&](int64_t i, int64_t j) { return C(from[i * ld + j]) - first[j]; });
        for (int64_t j = 0; j < cols; ++j) sum[j] = first[j] + sum[j] / C(rows);
        sum_columns(rows, cols, squares, [&](int64_t i, int64_t j) {
            const C d = C(from[i * ld + j]) - sum[j];
            return d * d;
        });
        for (int64_t j = 0; j < cols; ++j) {
            Moments<C> all{C(i0), i0 ? mean[j] : C(0), i0 ? m2[j] : C(0)};
            all.add({C(rows), sum[j], squares[j]});
            mean[j] = all.mean, m2[j] = all.m2;
        }
    }
}

#ifdef TESSERA_CUDA
// What sum_columns_on_cuda adds up.
template <class T, class C>
struct OneValue {
    In<T> x;
    __device__ Moments<C> operator()(int64_t i, int64_t j) const { return {C(1), C(x(i, j)), C(0)}; }
};
#endif

}  // namespace tessera
