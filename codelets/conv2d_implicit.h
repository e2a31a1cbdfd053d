// codelets/conv2d_implicit.h - conv2d and its gradients as products whose operands are read where they are needed:
// element (i, j) of group g's result is the sum over l of a(g, i, l) b(g, l, j). No workspace. Formulas for host and
// device; on the device a kernel with tiles in shared memory, and two for filters too small to fill those.
#pragma once
#include "codelets/conv2d.h"
#include "codelets/cuda.h"

namespace tessera::implicit {

// Neighbouring column tiles of x as one.
template <class T>
struct Tiles {
    static constexpr int64_t most = 64;  // a kernel's arguments have 4 KiB
    In<T> of[most];
    int64_t count = 0, cols = 0;

    void add(In<T> tile) { of[count++] = tile, cols += tile.cols; }
    HD T operator()(int64_t pixel, int64_t c) const {
        int64_t t = 0;
        for (; c >= of[t].cols; ++t) c -= of[t].cols;
        return of[t](pixel, c);
    }
};

// y over output pixels i and filters j of a group: l counts (tap, channel of the group in these tiles of x).
template <class T>
struct Forward {
    using C = Compute<T>;
    ConvShape s;
    Tiles<T> x;
    In<T> w;
    Out<T> y;
    int64_t channel0;  // of the first tile
    bool add, last;    // to the result of the tiles before; the last ones add the bias and apply the activation
    const T* bias;     // or null
    Activation activation;

    HD int64_t channels() const { return x.cols / s.groups; }
    HD int64_t rows() const { return y.rows; }
    HD int64_t cols() const { return y.cols / s.groups; }
    HD int64_t depth() const { return s.taps() * channels(); }
    HD C a(int64_t g, int64_t i, int64_t l) const {
        const int64_t pixel = s.input_of(i, l / channels());
        return pixel < 0 ? C(0) : C(x(pixel, g * channels() + l % channels()));
    }
    HD C b(int64_t g, int64_t l, int64_t j) const {
        return C(w(g * cols() + j, l / channels() * channels_per_group(s, w) + channel0 + l % channels()));
    }
    HD void store(int64_t g, int64_t i, int64_t j, C sum) const {
        const int64_t k = g * cols() + j;
        T& to = y(i, k);
        if (add) sum += C(to);
        if (last) sum = apply(activation, bias ? sum + C(bias[k]) : sum);
        to = T(sum);
    }
};

// dx over pixels i and channels j of a group: l counts (tap, filter of the group).
template <class T>
struct DataGradient {
    using C = Compute<T>;
    ConvShape s;
    In<T> dz, w;
    Out<T> dx;
    int64_t channel0;

    HD int64_t filters() const { return dz.cols / s.groups; }
    HD int64_t rows() const { return dx.rows; }
    HD int64_t cols() const { return dx.cols / s.groups; }
    HD int64_t depth() const { return s.taps() * filters(); }
    HD C a(int64_t g, int64_t i, int64_t l) const {
        const int64_t output = s.output_of(i, l / filters());
        return output < 0 ? C(0) : C(dz(output, g * filters() + l % filters()));
    }
    HD C b(int64_t g, int64_t l, int64_t j) const {
        return C(w(g * filters() + l % filters(), l / filters() * channels_per_group(s, w) + channel0 + j));
    }
    HD void store(int64_t g, int64_t i, int64_t j, C sum) const { dx(i, g * cols() + j) = T(sum); }
};

// dw over filters i of a group and (tap, channel of the group in this tile of x) j: l counts output pixels.
template <class T>
struct WeightGradient {
    using C = Compute<T>;
    ConvShape s;
    In<T> x, dz;
    Acc<T> dw;
    int64_t channel0;
    bool add;

    HD int64_t channels() const { return x.cols / s.groups; }
    HD int64_t rows() const { return dz.cols / s.groups; }
    HD int64_t cols() const { return s.taps() * channels(); }
    HD int64_t depth() const { return dz.rows; }
    HD C a(int64_t g, int64_t i, int64_t l) const { return C(dz(l, g * rows() + i)); }
    HD C b(int64_t g, int64_t l, int64_t j) const {
        const int64_t pixel = s.input_of(l, j / channels());
        return pixel < 0 ? C(0) : C(x(pixel, g * channels() + j % channels()));
    }
    HD void store(int64_t g, int64_t i, int64_t j, C sum) const {
        T& to = dw(g * rows() + i, j / channels() * channels_per_group(s, dw) + channel0 + j % channels());
        to = T(add ? C(to) + sum : sum);
    }
};

#ifdef TESSERA_CUDA
inline constexpr int tile = 64, slab = 16, per_thread = 4;  // a block's part of the result, and of the sum at a time
static_assert(threads_per_block * per_thread * per_thread == tile * tile);
static_assert(threads_per_block * per_thread == tile * slab);

// One tile of the result per block and turn. A thread has the elements (row + 16 u, col + 16 v) of it.
template <class P>
__global__ void __launch_bounds__(threads_per_block) tiled_kernel(P p) {
    using C = typename P::C;
    __shared__ C a[slab][tile + 1], b[slab][tile + 1];
    constexpr int spread = tile / per_thread;  // 16
    const int row = threadIdx.x / spread, col = threadIdx.x % spread;
    const int64_t down = (p.rows() + tile - 1) / tile, across = (p.cols() + tile - 1) / tile;
    for (int64_t t = blockIdx.x; t < p.s.groups * down * across; t += gridDim.x) {
        const int64_t g = t / (down * across), i0 = t / across % down * tile, j0 = t % across * tile;
        C sum[per_thread][per_thread] = {};
        for (int64_t l0 = 0; l0 < p.depth(); l0 += slab) {
            for (int e = threadIdx.x; e < tile * slab; e += threads_per_block) {  // what lies outside counts as 0
                const int64_t l = l0 + e % slab, i = i0 + e / slab, j = j0 + e / slab;
                a[e % slab][e / slab] = l < p.depth() && i < p.rows() ? p.a(g, i, l) : C(0);
                b[e % slab][e / slab] = l < p.depth() && j < p.cols() ? p.b(g, l, j) : C(0);
            }
            __syncthreads();
            for (int l = 0; l < slab; ++l)
                for (int u = 0; u < per_thread; ++u)
                    for (int v = 0; v < per_thread; ++v) sum[u][v] += a[l][row + spread * u] * b[l][col + spread * v];
            __syncthreads();  // before the next slab overwrites
        }
        for (int u = 0; u < per_thread; ++u)
            for (int v = 0; v < per_thread; ++v) {
                const int64_t i = i0 + row + spread * u, j = j0 + col + spread * v;
                if (i < p.rows() && j < p.cols()) p.store(g, i, j, sum[u][v]);
            }
    }
}
// One thread per element: neighbours have neighbouring groups, whose channels lie side by side.
template <class P>
__global__ void thread_kernel(P p) {
    const int64_t elements = p.rows() * p.cols() * p.s.groups, step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < elements; e += step) {
        const int64_t g = e % p.s.groups, j = e / p.s.groups % p.cols(), i = e / p.s.groups / p.cols();
        typename P::C sum = 0;
        for (int64_t l = 0; l < p.depth(); ++l) sum += p.a(g, i, l) * p.b(g, l, j);
        p.store(g, i, j, sum);
    }
}
// One block per element: for few elements with long sums.
template <class P>
__global__ void block_kernel(P p) {
    const int64_t elements = p.rows() * p.cols() * p.s.groups;
    for (int64_t e = blockIdx.x; e < elements; e += gridDim.x) {
        const int64_t g = e % p.s.groups, j = e / p.s.groups % p.cols(), i = e / p.s.groups / p.cols();
        typename P::C sum = 0;
        for (int64_t l = threadIdx.x; l < p.depth(); l += blockDim.x) sum += p.a(g, i, l) * p.b(g, l, j);
        sum = block_sum(sum);
        if (threadIdx.x == 0) p.store(g, i, j, sum);
    }
}

template <class P>
void multiply(const P& p, cudaStream_t stream) {
    const int64_t elements = p.rows() * p.cols() * p.s.groups;
    const bool few = p.cols() < tile / 4 || p.rows() * p.cols() < tile * tile / 16, small = few && p.s.groups > 1;
    constexpr auto name = "conv2d, implicit";
    if (small && p.depth() >= 4 * threads_per_block)
        return launch(name, stream, blocks_for_rows(elements), block_kernel<P>, p);
    if (small) return launch(name, stream, blocks_for(elements), thread_kernel<P>, p);
    const int64_t tiles = p.s.groups * ((p.rows() + tile - 1) / tile) * ((p.cols() + tile - 1) / tile);
    launch(name, stream, blocks_for_rows(tiles), tiled_kernel<P>, p);
}

template <class T>
void forward(ConvArgs a, InList<T> x, In<T> w, In<T> b, Out<T> y, cudaStream_t stream) {
    int64_t channel = 0;
    for (int64_t t = 0; t < x.count;) {
        Forward<T> p{a.shape, {}, w, y, channel, t > 0, false, a.bias ? b.data : nullptr, a.activation};
        while (t < x.count && p.x.count < p.x.most) p.x.add(x[t++]);
        p.last = t == x.count;
        multiply(p, stream);
        channel += p.x.cols;
    }
}
template <class T>
void data_gradient(ConvGradientArgs a, In<T> dz, In<T> w, Out<T> dx, cudaStream_t stream) {
    multiply(DataGradient<T>{a.shape, dz, w, dx, a.channel0}, stream);
}
template <class T>
void weight_gradient(ConvGradientArgs a, InList<T> x, In<T> dz, Acc<T> dw, cudaStream_t stream) {
    int64_t channel = 0;
    for (int64_t t = 0; t < x.count; channel += x[t++].cols)
        multiply(WeightGradient<T>{a.shape, x[t], dz, dw, channel, !a.first}, stream);
}
#endif

}  // namespace tessera::implicit
