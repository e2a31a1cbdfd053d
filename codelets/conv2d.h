// codelets/conv2d.h - what the tasks of conv2d and of its gradients share: the extents that travel with them, where
// taps fall, keys, memory for intermediate results, and what comes after the product.
#pragma once
#include <algorithm>
#include <array>
#include <string>
#include <type_traits>

#include "codelets/activation.h"
#include "codelets/maps.h"
#include "core/body.h"
#include "core/error.h"
#include "core/random.h"

namespace tessera {

// A convolution but for what the tiles say: images, channels, filters. Maps [n in C] and [n out K], channels last.
struct ConvShape {
    Extent2d in, out, kernel, stride, padding, dilation;
    int64_t groups;

    HD int64_t taps() const { return kernel.height * kernel.width; }
    HD int64_t inputs() const { return in.height * in.width; }  // pixels of an image
    HD int64_t outputs() const { return out.height * out.width; }
    // The row of x under tap r of output row p, likewise its column; outside of the map is the padding.
    HD int64_t row(int64_t p, int64_t r) const { return p * stride.height - padding.height + r * dilation.height; }
    HD int64_t col(int64_t q, int64_t s) const { return q * stride.width - padding.width + s * dilation.width; }
    // The row of x, counted over images, that output pixel m sees under a tap; -1 in the padding.
    HD int64_t input_of(int64_t m, int64_t tap) const {
        const int64_t h = row(m / out.width % out.height, tap / kernel.width),
                      w = col(m % out.width, tap % kernel.width);
        const bool inside = h >= 0 && h < in.height && w >= 0 && w < in.width;
        return inside ? (m / outputs() * in.height + h) * in.width + w : -1;
    }
    // The output pixel that sees row i of x under a tap, or -1.
    HD int64_t output_of(int64_t i, int64_t tap) const {
        const int64_t p = i / in.width % in.height - row(0, tap / kernel.width),
                      q = i % in.width - col(0, tap % kernel.width);
        const bool sees = p >= 0 && q >= 0 && p % stride.height == 0 && q % stride.width == 0;
        const bool inside = sees && p / stride.height < out.height && q / stride.width < out.width;
        return inside ? (i / inputs() * out.height + p / stride.height) * out.width + q / stride.width : -1;
    }
    // A product of matrices as it stands: y = x w^T.
    HD bool pointwise() const {
        return taps() == 1 && stride.height == 1 && stride.width == 1 && padding.height == 0 && padding.width == 0;
    }
    std::array<int64_t, 13> numbers() const {
        return {in.height,       in.width,       out.height,   out.width,      kernel.height,
                kernel.width,    stride.height,  stride.width, padding.height, padding.width,
                dilation.height, dilation.width, groups};
    }
    uint32_t key(uint64_t flags) const {
        for (int64_t x : numbers()) flags = mix64(flags ^ uint64_t(x));
        return uint32_t(flags);
    }
};

struct ConvArgs {
    ConvShape shape;
    Activation activation;
    bool bias;  // without one the tile in its place is not looked at
};
struct ConvGradientArgs {
    ConvShape shape;
    int64_t channel0;  // of x's tile within x
    bool first;        // contribution to an accumulated tile: written, not added
};

// Of w [K x R S C/groups].
template <class V>
HD int64_t channels_per_group(const ConvShape& s, const V& w) {
    return w.cols / s.taps();
}
template <class V, class W>
HD bool depthwise(const ConvShape& s, const V& w, const W& maps_of_filters) {
    return s.groups == maps_of_filters.cols && channels_per_group(s, w) == 1;
}

// Rows without gaps, as cuDNN and oneDNN want them.
template <class V>
bool dense(const V& v) {
    return v.ld == v.cols;
}

template <class T>
int64_t columns_of(InList<T> x) {
    int64_t n = 0;
    for (const In<T>& tile : x) n += tile.cols;
    return n;
}
template <class T>
double bytes_of_list(InList<T> x) {
    double bytes = 0;
    for (const In<T>& tile : x) bytes += bytes_of_views(tile);
    return bytes;
}

// --- memory ---

inline int64_t aligned(int64_t elements) { return (elements + 63) / 64 * 64; }  // to whole cache lines, any type
inline constexpr int64_t workspace_slack = 4 * 64 * int64_t(sizeof(double));    // what rounding adds to four arrays

// How many rows to treat at once that need `row_bytes` each beside `fixed_bytes`: `wanted`, or as many as
// TESSERA_WORKSPACE allows; 0 if that is not one.
inline int64_t rows_that_fit(int64_t wanted, int64_t row_bytes, int64_t fixed_bytes) {
    const int64_t room = workspace_limit() - fixed_bytes - workspace_slack;
    return room < row_bytes ? 0 : std::min(wanted, room / row_bytes);
}

// --- bias and activation on the host ---

template <Activation A, class T, class C>
void finish_row(int64_t n, const C* __restrict z, const T* __restrict b, T* __restrict y) {
    if (b)
        for (int64_t j = 0; j < n; ++j) y[j] = T(apply(A, z[j] + C(b[j])));
    else
        for (int64_t j = 0; j < n; ++j) y[j] = T(apply(A, z[j]));
}
template <Activation A, class T>
void finish_row(int64_t n, const T* __restrict b, T* __restrict y) {
    if (b)
        for (int64_t j = 0; j < n; ++j) y[j] = apply(A, y[j] + b[j]);
    else if (A != Activation::none)
        for (int64_t j = 0; j < n; ++j) y[j] = apply(A, y[j]);
}
// y = act(z + b), rows of z being ldz apart; b may be null. If z needs no rounding to T it is y itself.
template <class T>
void finish(Activation activation, const Compute<T>* z, int64_t ldz, const T* b, Out<T> y) {
    const auto rows = [&]<Activation A>() {  // a constant in each loop, so that it is vectorized
        for (int64_t i = 0; i < y.rows; ++i)
            if constexpr (std::is_same_v<T, Compute<T>>) finish_row<A>(y.cols, b, y.row(i));
            else finish_row<A>(y.cols, z + i * ldz, b, y.row(i));
    };
    switch (activation) {
        case Activation::relu:
            return rows.template operator()<Activation::relu>();
        case Activation::tanh:
            return rows.template operator()<Activation::tanh>();
        case Activation::sigmoid:
            return rows.template operator()<Activation::sigmoid>();
        default:
            return rows.template operator()<Activation::none>();
    }
}

}  // namespace tessera
