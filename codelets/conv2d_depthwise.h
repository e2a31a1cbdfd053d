// codelets/conv2d_depthwise.h - conv2d with one filter per channel on the host: loops over the channels, which lie side
// by side. w [C x taps] is transposed first. f32, f64; bf16 summed in f32.
#pragma once
#include <algorithm>

#include "codelets/conv2d.h"

namespace tessera::im2col {

// Workspace for w transposed and, in front of it, `rows` rows of sums.
template <class C>
C* channel_rows(const ConvShape& s, int64_t rows, int64_t channels) {
    return static_cast<C*>(workspace((rows + s.taps()) * channels * int64_t(sizeof(C))));
}
template <class T, class C>
void transpose_weights(In<T> w, C* to) {
    for (int64_t tap = 0; tap < w.cols; ++tap)
        for (int64_t c = 0; c < w.rows; ++c) *to++ = C(w(c, tap));
}
template <class T, class C>
void add_product(int64_t n, const T* __restrict a, const C* __restrict b, C* __restrict sum) {
    for (int64_t c = 0; c < n; ++c) sum[c] += C(a[c]) * b[c];
}

// Calls f(tap, pixel of x) for the taps of output (p, q) that lie in the map.
template <class F>
void for_taps_inside(const ConvShape& s, int64_t p, int64_t q, F&& f) {
    for (int64_t r = 0; r < s.kernel.height; ++r) {
        const int64_t h = s.row(p, r);
        if (h < 0 || h >= s.in.height) continue;
        for (int64_t t = 0; t < s.kernel.width; ++t) {
            const int64_t w = s.col(q, t);
            if (w >= 0 && w < s.in.width) f(r * s.kernel.width + t, h * s.in.width + w);
        }
    }
}
// Calls f(tap, output pixel) for the outputs that see pixel (h, w) of x.
template <class F>
void for_outputs_of(const ConvShape& s, int64_t h, int64_t w, F&& f) {
    for (int64_t r = 0; r < s.kernel.height; ++r) {
        const int64_t p = h - s.row(0, r);
        if (p < 0 || p % s.stride.height != 0 || p / s.stride.height >= s.out.height) continue;
        for (int64_t t = 0; t < s.kernel.width; ++t) {
            const int64_t q = w - s.col(0, t);
            if (q < 0 || q % s.stride.width != 0 || q / s.stride.width >= s.out.width) continue;
            f(r * s.kernel.width + t, p / s.stride.height * s.out.width + q / s.stride.width);
        }
    }
}

template <class T>
void depthwise_forward(const ConvArgs& a, In<T> x, In<T> w, const T* b, Out<T> y) {
    using C = Compute<T>;
    const ConvShape& s = a.shape;
    const int64_t n = y.cols;
    C *sum = channel_rows<C>(s, 1, n), *weights = sum + n;
    transpose_weights(w, weights);
    for (int64_t i = 0; i < y.rows; ++i) {
        const int64_t image = i / s.outputs(), m = i % s.outputs();
        if constexpr (std::is_same_v<T, C>) sum = y.row(i);
        std::fill_n(sum, n, C(0));
        for_taps_inside(s, m / s.out.width, m % s.out.width, [&](int64_t tap, int64_t pixel) {
            add_product(n, x.row(image * s.inputs() + pixel), weights + tap * n, sum);
        });
        finish<T>(a.activation, sum, n, b, {y.row(i), 1, n, y.ld});
    }
}

template <class T>
void depthwise_data_gradient(const ConvGradientArgs& a, In<T> dz, In<T> w, Out<T> dx) {
    using C = Compute<T>;
    const ConvShape& s = a.shape;
    const int64_t n = dx.cols;
    C *sum = channel_rows<C>(s, 1, n), *weights = sum + n;
    transpose_weights(w, weights);
    for (int64_t i = 0; i < dx.rows; ++i) {
        const int64_t image = i / s.inputs(), pixel = i % s.inputs();
        std::fill_n(sum, n, C(0));
        for_outputs_of(s, pixel / s.in.width, pixel % s.in.width, [&](int64_t tap, int64_t output) {
            add_product(n, dz.row(image * s.outputs() + output), weights + tap * n, sum);
        });
        for (int64_t c = 0; c < n; ++c) dx(i, c) = T(sum[c]);
    }
}

template <class T>
void depthwise_weight_gradient(const ConvGradientArgs& a, In<T> x, In<T> dz, Acc<T> dw) {
    using C = Compute<T>;
    const ConvShape& s = a.shape;
    const int64_t n = dz.cols;
    C *wide = channel_rows<C>(s, 1, n), *sums = wide + n;
    std::fill_n(sums, s.taps() * n, C(0));
    for (int64_t i = 0; i < dz.rows; ++i) {
        const int64_t image = i / s.outputs(), m = i % s.outputs();
        std::copy_n(dz.row(i), n, wide);
        for_taps_inside(s, m / s.out.width, m % s.out.width, [&](int64_t tap, int64_t pixel) {
            add_product(n, x.row(image * s.inputs() + pixel), wide, sums + tap * n);
        });
    }
    for (int64_t c = 0; c < n; ++c)
        for (int64_t tap = 0; tap < s.taps(); ++tap)
            dw(c, tap) = T(sums[tap * n + c] + (a.first ? C(0) : C(dw(c, tap))));
}

}  // namespace tessera::im2col
