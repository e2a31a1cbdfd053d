// codelets/conv2d_im2col.h - conv2d and its gradients on the host as products with a matrix of columns: row m holds
// what the filters see at output pixel m, ordered (group, tap, channel) as w is. Built a block of rows at a time, which
// stays in cache. f32 and f64 as they are, bf16 widened to f32. Chellapilla, Puri, Simard 2006.
#pragma once
#include <algorithm>
#include <type_traits>

#include "codelets/blas.h"
#include "codelets/conv2d.h"
#include "codelets/conv2d_depthwise.h"

namespace tessera::im2col {

inline constexpr int64_t block_bytes = 1 << 20, least_rows = 256;  // of columns in one block

template <class C>
void multiply(const blas::Product<C>& p) {
    if constexpr (std::is_same_v<C, float>) blas::onednn(p);
    else blas::openblas(p);
}

// One workspace as arrays of C.
template <class C, class... N>
std::array<C*, sizeof...(N)> arrays(N... lengths) {
    C* next = static_cast<C*>(workspace((aligned(lengths) + ...) * int64_t(sizeof(C))));
    return {std::exchange(next, next + aligned(lengths))...};
}

struct Operands {  // of what, for the message
    const char* op;
    Shape a, b;
};
// Rows of a block, each of which needs `row` elements of C beside `fixed`.
template <class C>
int64_t block_rows(const Operands& of, int64_t rows, int64_t row, int64_t fixed) {
    const int64_t bytes = int64_t(sizeof(C)), wanted = std::max(least_rows, block_bytes / (row * bytes));
    const int64_t fit = rows_that_fit(std::min(rows, wanted), row * bytes, fixed * bytes);
    if (fit == 0)
        throw Error(std::string(of.op) + " of " + to_string(of.a) + " and " + to_string(of.b) +
                        " needs a workspace of at least " + std::to_string((row + fixed) * bytes + workspace_slack) +
                        " bytes, more than TESSERA_WORKSPACE allows (" + std::to_string(workspace_limit()) + ")",
                    "set TESSERA_WORKSPACE to more, 64M for example");
    return fit;
}

// Calls f(m, tap, pixel) for output pixels [first, first + rows), counted over images; m counts from 0. The pixel is a
// row of x, or -1 in the padding.
template <class F>
void for_each_tap(const ConvShape& s, int64_t first, int64_t rows, F&& f) {
    int64_t image = first / s.outputs(), p = first % s.outputs() / s.out.width, q = first % s.out.width;
    for (int64_t m = 0; m < rows; ++m) {
        for (int64_t r = 0; r < s.kernel.height; ++r) {
            const int64_t h = s.row(p, r), from = (image * s.in.height + h) * s.in.width;
            const bool inside = h >= 0 && h < s.in.height;
            for (int64_t t = 0; t < s.kernel.width; ++t) {
                const int64_t w = s.col(q, t);
                f(m, r * s.kernel.width + t, inside && w >= 0 && w < s.in.width ? from + w : -1);
            }
        }
        if (++q < s.out.width) continue;
        q = 0;
        if (++p == s.out.height) p = 0, ++image;
    }
}

// columns(m, (g, tap, c)) = x(pixel of m under tap, c), 0 in the padding. Several tiles of x: one group.
template <class T, class C>
void gather(const ConvShape& s, InList<T> x, int64_t first, int64_t rows, int64_t depth, C* columns) {
    const int64_t channels = depth / s.taps() / s.groups, group_depth = depth / s.groups;
    for_each_tap(s, first, rows, [&](int64_t m, int64_t tap, int64_t pixel) {
        C* to = columns + m * depth + tap * channels;
        if (s.groups == 1 && pixel >= 0)
            for (const In<T>& tile : x) to = std::copy_n(tile.row(pixel), tile.cols, to);
        else
            for (int64_t g = 0; g < s.groups; ++g, to += group_depth)
                if (pixel < 0) std::fill_n(to, channels, C(0));
                else std::copy_n(x[0].row(pixel) + g * channels, channels, to);
    });
}

// The reverse: target(pixel, c) += columns(m, (g, tap, c)), rows of the target being `ld` apart.
template <class C>
void scatter(const ConvShape& s, const C* columns, int64_t first, int64_t rows, int64_t depth, C* target, int64_t ld) {
    const int64_t channels = depth / s.taps() / s.groups, group_depth = depth / s.groups;
    for_each_tap(s, first, rows, [&](int64_t m, int64_t tap, int64_t pixel) {
        if (pixel < 0) return;
        const C* from = columns + m * depth + tap * channels;
        C* to = target + pixel * ld;
        for (int64_t g = 0; g < s.groups; ++g, from += group_depth, to += channels)
            for (int64_t c = 0; c < channels; ++c) to[c] += from[c];
    });
}

template <class T, class C>
void widen(const T* from, int64_t ld, int64_t rows, int64_t cols, C* to) {
    for (int64_t i = 0; i < rows; ++i) std::copy_n(from + i * ld, cols, to + i * cols);
}

// y = act(x w^T + b) for one pixel wide filters over one tile: no columns.
template <class T>
void pointwise(const ConvArgs& a, In<T> x, In<T> w, const T* b, Out<T> y) {
    const int64_t groups = a.shape.groups, filters = y.cols / groups, channels = x.cols / groups;
    for (int64_t g = 0; g < groups; ++g)
        multiply<T>({false, true, y.rows, filters, channels, 1, x.data + g * channels, x.ld, w.row(g * filters), w.ld,
                     0, y.data + g * filters, y.ld});
    finish(a.activation, y.data, y.ld, b, y);
}

template <class T>
void forward(const ConvArgs& a, InList<T> x, In<T> w, In<T> bias, Out<T> y) {
    using C = Compute<T>;
    constexpr bool widened = !std::is_same_v<T, C>;
    const ConvShape& s = a.shape;
    const T* b = a.bias ? bias.data : nullptr;
    if (depthwise(s, w, y)) return depthwise_forward(a, x[0], w, b, y);
    if constexpr (!widened)
        if (s.pointwise() && x.count == 1) return pointwise(a, x[0], w, b, y);
    const int64_t depth = s.taps() * columns_of(x), filters = y.cols / s.groups;
    const int64_t packed = widened ? w.size() : 0, row = depth + (widened ? y.cols : 0);
    const int64_t block = block_rows<C>({"conv2d", {x[0].rows, columns_of(x)}, {w.rows, w.cols}}, y.rows, row, packed);
    const auto [columns, weights, z] = arrays<C>(block * depth, packed, widened ? block * y.cols : 0);
    if constexpr (widened) widen(w.data, w.ld, w.rows, w.cols, weights);
    for (int64_t m = 0; m < y.rows; m += block) {
        const int64_t rows = std::min(block, y.rows - m);
        gather(s, x, m, rows, depth, columns);
        for (int64_t g = 0; g < s.groups; ++g) {
            const auto product = [&](const C* from, int64_t ldw, C* to, int64_t ldz) {
                multiply<C>({false, true, rows, filters, w.cols, 1, columns + g * w.cols, depth,
                             from + g * filters * ldw, ldw, 0, to + g * filters, ldz});
            };
            if constexpr (widened) product(weights, w.cols, z, y.cols);
            else product(w.data, w.ld, y.row(m), y.ld);
        }
        const Out<T> finished{y.row(m), rows, y.cols, y.ld};
        if constexpr (widened) finish(a.activation, z, y.cols, b, finished);
        else finish(a.activation, finished.data, y.ld, b, finished);
    }
}

// w's columns of the channels of one tile of x, [K x taps channels].
template <class T, class C>
void slice_of_weights(const ConvShape& s, In<T> w, int64_t channel0, int64_t channels, C* to) {
    const int64_t all = channels_per_group(s, w);
    for (int64_t k = 0; k < w.rows; ++k)
        for (int64_t tap = 0; tap < s.taps(); ++tap) to = std::copy_n(w.row(k) + tap * all + channel0, channels, to);
}

// dx = the columns of dz w, added up where they came from. A block is part of an image, or several images.
template <class T>
void data_gradient(const ConvGradientArgs& a, In<T> dz, In<T> w, Out<T> dx) {
    using C = Compute<T>;
    constexpr bool widened = !std::is_same_v<T, C>;
    const ConvShape& s = a.shape;
    if (depthwise(s, w, dz)) return depthwise_data_gradient(a, dz, w, dx);
    const int64_t channels = dx.cols / s.groups, depth = s.taps() * dx.cols, filters = dz.cols / s.groups;
    const bool direct = !widened && s.pointwise();  // the columns are dx itself
    const bool packs = widened || (channels != channels_per_group(s, w) && !direct);
    const int64_t packed = packs ? w.rows * s.taps() * channels : 0, sums = widened ? s.inputs() * dx.cols : 0;
    const int64_t row = direct ? 0 : depth + (widened ? dz.cols : 0);
    const int64_t block = direct ? dz.rows
                                 : block_rows<C>({"conv2d_backward_data", {dz.rows, dz.cols}, {w.rows, w.cols}},
                                                 dz.rows, row, packed + sums);
    const auto [columns, weights, sum, z] =
        arrays<C>(direct ? 0 : block * depth, packed, sums, widened ? block * dz.cols : 0);
    if (packs) slice_of_weights(s, w, a.channel0, channels, weights);
    const auto product = [&](const C* from, int64_t ldz, int64_t rows, const C* by, int64_t ldw, C* to, int64_t ld) {
        for (int64_t g = 0; g < s.groups; ++g)
            multiply<C>({false, false, rows, s.taps() * channels, filters, 1, from + g * filters, ldz,
                         by + g * filters * ldw, ldw, 0, to + g * s.taps() * channels, ld});
    };
    if constexpr (widened) {  // image by image: their sums are wide, too
        for (int64_t image = 0; image < dz.rows / s.outputs(); ++image) {
            std::fill_n(sum, sums, C(0));
            for (int64_t m = 0; m < s.outputs(); m += block) {
                const int64_t rows = std::min(block, s.outputs() - m);
                widen(dz.row(image * s.outputs() + m), dz.ld, rows, dz.cols, z);
                product(z, dz.cols, rows, weights, s.taps() * channels, columns, depth);
                scatter(s, columns, m, rows, depth, sum, dx.cols);
            }
            const Out<T> rounded{dx.row(image * s.inputs()), s.inputs(), dx.cols, dx.ld};
            finish<T>(Activation::none, sum, dx.cols, nullptr, rounded);
        }
    } else {
        const C* by = packs ? weights : w.data + a.channel0;
        const int64_t ldw = packs ? s.taps() * channels : w.ld;
        if (direct) return product(dz.data, dz.ld, dz.rows, by, ldw, dx.data, dx.ld);
        for (int64_t i = 0; i < dx.rows; ++i) std::fill_n(dx.row(i), dx.cols, T(0));
        for (int64_t m = 0; m < dz.rows; m += block) {
            const int64_t rows = std::min(block, dz.rows - m);
            product(dz.row(m), dz.ld, rows, by, ldw, columns, depth);
            scatter(s, columns, m, rows, depth, dx.data, dx.ld);
        }
    }
}

// dw = dz^T columns, or that added to dw.
template <class T>
void weight_gradient(const ConvGradientArgs& a, InList<T> x, In<T> dz, Acc<T> dw) {
    using C = Compute<T>;
    constexpr bool widened = !std::is_same_v<T, C>;
    const ConvShape& s = a.shape;
    if (depthwise(s, dw, dz)) return depthwise_weight_gradient(a, x[0], dz, dw);
    const int64_t filters = dz.cols / s.groups;
    if constexpr (!widened)
        if (s.pointwise() && x.count == 1) {
            for (int64_t g = 0; g < s.groups; ++g)
                multiply<C>({true, false, filters, dw.cols, dz.rows, 1, dz.data + g * filters, dz.ld,
                             x[0].data + g * dw.cols, x[0].ld, a.first ? 0.0 : 1.0, dw.row(g * filters), dw.ld});
            return;
        }
    const int64_t depth = s.taps() * columns_of(x), sums = widened ? dw.size() : 0;
    const int64_t block = block_rows<C>({"conv2d_backward_weights", {x[0].rows, columns_of(x)}, {dz.rows, dz.cols}},
                                        dz.rows, depth + (widened ? dz.cols : 0), sums);
    const auto [columns, sum, z] = arrays<C>(block * depth, sums, widened ? block * dz.cols : 0);
    for (int64_t m = 0; m < dz.rows; m += block) {
        const int64_t rows = std::min(block, dz.rows - m);
        gather(s, x, m, rows, depth, columns);
        if constexpr (widened) widen(dz.row(m), dz.ld, rows, dz.cols, z);
        const bool adds = m > 0 || (!widened && !a.first);
        for (int64_t g = 0; g < s.groups; ++g) {
            const auto product = [&](const C* from, int64_t ldz, C* to, int64_t ldw) {
                multiply<C>({true, false, filters, dw.cols, rows, 1, from + g * filters, ldz, columns + g * dw.cols,
                             depth, adds ? 1.0 : 0.0, to + g * filters * ldw, ldw});
            };
            if constexpr (widened) product(z, dz.cols, sum, dw.cols);
            else product(dz.row(m), dz.ld, dw.data, dw.ld);
        }
    }
    if constexpr (widened)
        for (int64_t k = 0; k < dw.rows; ++k)
            for (int64_t j = 0; j < dw.cols; ++j) dw(k, j) = T(sum[k * dw.cols + j] + (a.first ? C(0) : C(dw(k, j))));
}

}  // namespace tessera::im2col
