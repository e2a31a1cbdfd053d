// y = A^T ((G w G^T) . (B^T x B)) A for every 4 x 4 tile of y and the 6 x 6 of x that it sees; summed over channels the
// elementwise products are 36 products of matrices. The gradients: of x the same with w turned and transposed, of w
// G^T ((A dz A^T) . (B^T x B)) G. Channels lie side by side, so that a transform works on a vector of them.
#include "codelets/winograd.h"

#include <cstring>

#include "codelets/blas.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed within this file only

namespace tessera::winograd {
namespace {

#ifdef __AVX512F__
constexpr int64_t lanes = 16;
#else
constexpr int64_t lanes = 8;
#endif
using Lanes = float __attribute__((vector_size(lanes * sizeof(float))));
constexpr int64_t points = 6, tile = 4, planes = points * points;
constexpr int64_t block_bytes = 2 << 20, least_tiles = 64;  // transformed at a time

// The first n of them, if there are not as many. Whole vectors apart: their copy is one instruction.
Lanes load(const float* from, int64_t n) {
    Lanes v{};
    if (n >= lanes) std::memcpy(&v, from, sizeof v);
    else std::memcpy(&v, from, size_t(n) * sizeof(float));
    return v;
}
void store(float* to, Lanes v, int64_t n) {
    if (n >= lanes) std::memcpy(to, &v, sizeof v);
    else std::memcpy(to, &v, size_t(n) * sizeof(float));
}

// The matrices, as functions of one column.
struct TransposedB {
    static constexpr int in = 6, out = 6;
    static void of(const Lanes* d, Lanes* v) {
        const Lanes a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
        v[0] = 4 * d[0] - 5 * d[2] + d[4], v[1] = a + b, v[2] = a - b, v[3] = c + e, v[4] = c - e;
        v[5] = 4 * d[1] - 5 * d[3] + d[5];
    }
};
struct G {
    static constexpr int in = 3, out = 6;
    static void of(const Lanes* g, Lanes* u) {
        const Lanes a = (g[0] + g[2]) * (-1 / 6.f), b = g[1] * (1 / 6.f);
        const Lanes c = g[0] * (1 / 24.f) + g[2] * (1 / 6.f), d = g[1] * (1 / 12.f);
        u[0] = g[0] * 0.25f, u[1] = a - b, u[2] = a + b, u[3] = c + d, u[4] = c - d, u[5] = g[2];
    }
};
struct TransposedG {
    static constexpr int in = 6, out = 3;
    static void of(const Lanes* u, Lanes* g) {
        const Lanes a = (u[1] + u[2]) * (1 / 6.f), b = u[3] + u[4];
        g[0] = u[0] * 0.25f - a + b * (1 / 24.f);
        g[1] = (u[2] - u[1]) * (1 / 6.f) + (u[3] - u[4]) * (1 / 12.f);
        g[2] = b * (1 / 6.f) - a + u[5];
    }
};
struct A {
    static constexpr int in = 4, out = 6;
    static void of(const Lanes* y, Lanes* z) {
        const Lanes a = y[0] + y[2], b = y[1] + y[3], c = y[0] + 4 * y[2], d = 2 * y[1] + 8 * y[3];
        z[0] = y[0], z[1] = a + b, z[2] = a - b, z[3] = c + d, z[4] = c - d, z[5] = y[3];
    }
};
struct TransposedA {
    static constexpr int in = 6, out = 4;
    static void of(const Lanes* m, Lanes* y) {
        const Lanes a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
        y[0] = m[0] + a + c, y[1] = b + 2 * d, y[2] = a + 4 * c, y[3] = b + 8 * d + m[5];
    }
};
// M from M^T, M from(i, j) to(i, j).
template <class M, class From, class To>
void transform(From&& from, To&& to) {
    Lanes half[M::out][M::in];
    for (int j = 0; j < M::in; ++j) {
        Lanes column[M::in], result[M::out];
        for (int i = 0; i < M::in; ++i) column[i] = from(i, j);
        M::of(column, result);
        for (int i = 0; i < M::out; ++i) half[i][j] = result[i];
    }
    for (int i = 0; i < M::out; ++i) {
        Lanes result[M::out];
        M::of(half[i], result);
        for (int j = 0; j < M::out; ++j) to(i, j, result[j]);
    }
}

// Maps of `to` pixels in tiles of 4 x 4, whose patches in maps of `from` pixels begin `before` above and left of them.
struct Tiling {
    Extent2d from, to, before;
    int64_t across() const { return (to.width + tile - 1) / tile; }
    int64_t per_image() const { return (to.height + tile - 1) / tile * across(); }
    int64_t top(int64_t t) const { return t % per_image() / across() * tile; }
    int64_t left(int64_t t) const { return t % across() * tile; }
};
// Row of a map with `map` pixels, counted over images, or -1 outside.
int64_t pixel(Extent2d map, int64_t image, int64_t h, int64_t w) {
    return h < 0 || w < 0 || h >= map.height || w >= map.width ? -1 : (image * map.height + h) * map.width + w;
}

// planes(i j)(t, c) = M patch M^T of tiles [first, first + n): patches of M::in x M::in pixels of `map`, 0 outside.
template <class M>
void spread(const Tiling& g, Extent2d map, Extent2d before, InList<float> x, int64_t first, int64_t n, int64_t channels,
            float* plane) {
    for (int64_t t = 0; t < n; ++t) {
        int64_t rows[M::in][M::in];
        const int64_t image = (first + t) / g.per_image(), top = g.top(first + t) - before.height;
        const int64_t left = g.left(first + t) - before.width;
        for (int i = 0; i < M::in; ++i)
            for (int j = 0; j < M::in; ++j) rows[i][j] = pixel(map, image, top + i, left + j);
        float* to = plane + t * channels;
        for (const In<float>& part : x) {
            for (int64_t c = 0; c < part.cols; c += lanes)
                transform<M>(
                    [&](int i, int j) {
                        return rows[i][j] < 0 ? Lanes{} : load(part.row(rows[i][j]) + c, part.cols - c);
                    },
                    [&](int i, int j, Lanes v) { store(to + (i * points + j) * n * channels + c, v, part.cols - c); });
            to += part.cols;
        }
    }
}
// The tiles of y from the planes of products.
void gather(const Tiling& g, const float* plane, int64_t first, int64_t n, Out<float> y) {
    for (int64_t t = 0; t < n; ++t) {
        const int64_t image = (first + t) / g.per_image(), top = g.top(first + t), left = g.left(first + t);
        for (int64_t k = 0; k < y.cols; k += lanes)
            transform<TransposedA>(
                [&](int i, int j) { return load(plane + ((i * points + j) * n + t) * y.cols + k, y.cols - k); },
                [&](int i, int j, Lanes v) {
                    const int64_t row = pixel(g.to, image, top + i, left + j);
                    if (row >= 0) store(y.row(row) + k, v, y.cols - k);
                });
    }
}

// planes(i j)(c, k) = G w G^T of all channels, as the right factor of a product over channels.
void spread_weights(In<float> w, float* plane) {
    const int64_t channels = w.cols / 9, filters = w.rows;
    for (int64_t k = 0; k < filters; k += lanes)
        for (int64_t c = 0; c < channels; ++c)
            transform<G>(
                [&](int i, int j) {
                    Lanes v{};
                    const float* from = w.row(k) + (i * 3 + j) * channels + c;
                    for (int64_t l = 0; l < lanes && k + l < filters; ++l) v[l] = from[l * w.ld];
                    return v;
                },
                [&](int i, int j, Lanes v) {
                    store(plane + ((i * points + j) * channels + c) * filters + k, v, filters - k);
                });
}
// planes(i j)(k, c), of some channels, for a product over filters: the taps are turned by half a circle.
void spread_turned_weights(In<float> w, int64_t channel0, int64_t channels, float* plane) {
    for (int64_t k = 0; k < w.rows; ++k)
        for (int64_t c = 0; c < channels; c += lanes)
            transform<G>(
                [&](int i, int j) {
                    const float* from = w.row(k) + (8 - (i * 3 + j)) * (w.cols / 9) + channel0 + c;
                    return load(from, channels - c);
                },
                [&](int i, int j, Lanes v) {
                    store(plane + ((i * points + j) * w.rows + k) * channels + c, v, channels - c);
                });
}
void gather_weights(const float* plane, bool add, Acc<float> dw) {
    const int64_t channels = dw.cols / 9;
    for (int64_t k = 0; k < dw.rows; ++k)
        for (int64_t c = 0; c < channels; c += lanes)
            transform<TransposedG>(
                [&](int i, int j) {
                    return load(plane + ((i * points + j) * dw.rows + k) * channels + c, channels - c);
                },
                [&](int i, int j, Lanes v) {
                    float* to = dw.row(k) + (i * 3 + j) * channels + c;
                    store(to, add ? v + load(to, channels - c) : v, channels - c);
                });
}

bool applies(const ConvShape& s) {
    return s.kernel == Extent2d(3) && s.stride == Extent2d(1) && s.dilation == Extent2d(1) && s.groups == 1;
}
// One workspace: `fixed` elements, then as many tiles of `per_tile` elements as are worth it, all in `memory`.
struct Blocks {
    int64_t tiles = 0;
    float* memory = nullptr;
};
Blocks blocks(int64_t fixed, int64_t per_tile, int64_t tiles) {
    const int64_t bytes = int64_t(sizeof(float));
    const int64_t wanted = std::min(tiles, std::max(least_tiles, block_bytes / (per_tile * bytes)));
    const int64_t fit = rows_that_fit(wanted, per_tile * bytes, fixed * bytes);
    return {fit, fit ? static_cast<float*>(workspace((aligned(fixed) + fit * per_tile) * bytes)) : nullptr};
}

// y = the convolution of x, of `inner` channels, with the planes [inner x y's channels] that `weights` makes.
template <class Weights>
bool convolve(const Tiling& g, InList<float> x, int64_t inner, Weights&& weights, Out<float> y) {
    const int64_t tiles = y.rows / (g.to.height * g.to.width) * g.per_image(), size = inner * y.cols;
    const auto [block, u] = blocks(planes * size, planes * (inner + y.cols), tiles);
    if (block == 0) return false;
    float *v = u + aligned(planes * size), *m = v + planes * block * inner;
    weights(u);
    for (int64_t t = 0; t < tiles; t += block) {
        const int64_t n = std::min(block, tiles - t);
        spread<TransposedB>(g, g.from, g.before, x, t, n, inner, v);
        for (int64_t p = 0; p < planes; ++p)
            blas::onednn({false, false, n, y.cols, inner, 1, v + p * n * inner, inner, u + p * size, y.cols, 0,
                          m + p * n * y.cols, y.cols});
        gather(g, m, t, n, y);
    }
    return true;
}

}  // namespace

bool forward(const ConvArgs& a, InList<float> x, In<float> w, In<float> b, Out<float> y) {
    const ConvShape& s = a.shape;
    if (!applies(s)) return false;
    const auto weights = [&](float* plane) { spread_weights(w, plane); };
    if (!convolve({s.in, s.out, s.padding}, x, columns_of(x), weights, y)) return false;
    finish<float>(a.activation, y.data, y.ld, a.bias ? b.data : nullptr, y);
    return true;
}

bool data_gradient(const ConvGradientArgs& a, In<float> dz, In<float> w, Out<float> dx) {
    const ConvShape& s = a.shape;
    if (!applies(s)) return false;
    const Tiling tiling{s.out, s.in, {2 - s.padding.height, 2 - s.padding.width}};
    const auto weights = [&](float* plane) { spread_turned_weights(w, a.channel0, dx.cols, plane); };
    return convolve(tiling, {&dz, 1}, dz.cols, weights, dx);
}

bool weight_gradient(const ConvGradientArgs& a, InList<float> x, In<float> dz, Acc<float> dw) {
    const ConvShape& s = a.shape;
    if (!applies(s)) return false;
    const Tiling g{s.in, s.out, s.padding};
    const int64_t channels = columns_of(x), filters = dz.cols, size = filters * channels;
    const int64_t tiles = dz.rows / s.outputs() * g.per_image();
    const auto [block, u] = blocks(planes * size, planes * (channels + filters), tiles);
    if (block == 0) return false;
    float *v = u + aligned(planes * size), *z = v + planes * block * channels;
    for (int64_t t = 0; t < tiles; t += block) {
        const int64_t n = std::min(block, tiles - t);
        spread<TransposedB>(g, g.from, g.before, x, t, n, channels, v);
        spread<A>(g, g.to, {0, 0}, {&dz, 1}, t, n, filters, z);
        for (int64_t p = 0; p < planes; ++p)
            blas::onednn({true, false, filters, channels, n, 1, z + p * n * filters, filters, v + p * n * channels,
                          channels, t > 0 ? 1.0 : 0.0, u + p * size, channels});
    }
    gather_weights(u, !a.first, dw);
    return true;
}

}  // namespace tessera::winograd
