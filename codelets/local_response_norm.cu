// local_response_norm: y(i, c) = x(i, c) s(i, c)^-beta, s = k + alpha / size * sum of x(i, d)^2 over the channels d in
// [c - size / 2, c + (size - 1) / 2]. f32, f64, bf16. A task needs all channels: columns are retiled into one tile.
// Krizhevsky, Sutskever, Hinton 2012, section 3.3 (there alpha is divided already); alpha, beta, k as in PyTorch.
#include <algorithm>
#include <cmath>
#include <limits>

#include "codelets/elementwise.h"
#include "codelets/maps_grid.h"
#include "codelets/ops.h"
#include "codelets/windows.h"
#include "core/body.h"

namespace tessera {
namespace {

struct ResponseArgs {
    int64_t size;
    double alpha, beta, k;

    HD int64_t before() const { return size / 2; }       // channels of the window before its own,
    HD int64_t after() const { return (size - 1) / 2; }  // and after it
    uint32_t key() const { return key_of({size, beta == 0.75}); }
};

// What forward and backward compute from the sum of squares.
template <class C>
struct Response {
    ResponseArgs a;
    HD C base(C squares) const { return C(a.k) + C(a.alpha / double(a.size)) * squares; }
    // base^-beta; the usual beta of 3/4 without a power, so that loops are vectorized.
    template <bool three_quarters>
    HD C power(C base) const {
        if constexpr (three_quarters) return C(1) / (std::sqrt(base) * std::sqrt(std::sqrt(base)));
        else return std::pow(base, C(-a.beta));
    }
    // dx from x, dy, base and its power, and the sum over windows with this channel of dy x power / base.
    HD C gradient(C x, C dy, C power, C sum) const {
        return dy * power - C(2 * a.beta * a.alpha / double(a.size)) * x * sum;
    }
};

// to(j) = sum over d from -before to after of from(j + d), as far as it goes.
template <class C>
void window_sums(int64_t n, int64_t before, int64_t after, const C* __restrict from, C* __restrict to) {
    std::fill_n(to, n, C(0));
    for (int64_t d = std::max(-before, 1 - n); d <= std::min(after, n - 1); ++d)
        for (int64_t j = std::max<int64_t>(0, -d); j < std::min(n, n - d); ++j) to[j] += from[j + d];
}

template <class T>
struct LocalResponseNorm {
    static constexpr auto name = "local_response_norm",
                          formula = "y(i, c) = x(i, c) (k + alpha / size * sum over d near c of x(i, d)^2)^-beta";
    static constexpr DType dtype = dtype_of<T>;
    using Args = ResponseArgs;
    using C = Compute<T>;
    static uint32_t key(Args a) { return a.key(); }
    static Cost cost(Args a, In<T> x, Out<T> y) {
        return {double(a.size + 6) * double(y.size()), bytes_of_views(x, y)};
    }
    static void cpu(Args a, In<T> x, Out<T> y) {
        if (a.beta == 0.75) rows<true>(a, x, y);
        else rows<false>(a, x, y);
    }
    static void cuda(Args a, In<T> x, Out<T> y, Stream stream);

 private:
    template <bool three_quarters>
    static void rows(Args a, In<T> x, Out<T> y) {
        const Response<C> r{a};
        const int64_t n = x.cols;
        C* __restrict squares = static_cast<C*>(workspace(2 * n * int64_t(sizeof(C))));
        C* __restrict sums = squares + n;
        for (int64_t i = 0; i < x.rows; ++i) {
            const T* __restrict from = x.row(i);
            T* __restrict to = y.row(i);
            for (int64_t j = 0; j < n; ++j) squares[j] = C(from[j]) * C(from[j]);
            window_sums(n, a.before(), a.after(), squares, sums);
            for (int64_t j = 0; j < n; ++j) to[j] = T(C(from[j]) * r.template power<three_quarters>(r.base(sums[j])));
        }
    }
};

template <class T>
struct LocalResponseNormBackward {
    static constexpr auto name = "local_response_norm_backward",
                          formula = "dx = dy s^-beta - 2 beta alpha / size x sum over windows of dy x s^(-beta - 1)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = ResponseArgs;
    using C = Compute<T>;
    static uint32_t key(Args a) { return a.key(); }
    static Cost cost(Args a, In<T> x, In<T> dy, Out<T> dx) {
        return {double(2 * a.size + 13) * double(x.size()), bytes_of_views(x, dy, dx)};
    }
    static void cpu(Args a, In<T> x, In<T> dy, Out<T> dx) {
        if (a.beta == 0.75) rows<true>(a, x, dy, dx);
        else rows<false>(a, x, dy, dx);
    }
    static void cuda(Args a, In<T> x, In<T> dy, Out<T> dx, Stream stream);

 private:
    template <bool three_quarters>
    static void rows(Args a, In<T> x, In<T> dy, Out<T> dx) {
        const Response<C> r{a};
        const int64_t n = x.cols;
        C* __restrict terms = static_cast<C*>(workspace(3 * n * int64_t(sizeof(C))));
        C* __restrict sums = terms + n, * __restrict powers = sums + n;
        for (int64_t i = 0; i < x.rows; ++i) {
            const T* __restrict from = x.row(i), * __restrict d = dy.row(i);
            T* __restrict to = dx.row(i);
            for (int64_t j = 0; j < n; ++j) terms[j] = C(from[j]) * C(from[j]);
            window_sums(n, a.before(), a.after(), terms, sums);
            for (int64_t j = 0; j < n; ++j) {
                const C base = r.base(sums[j]);
                powers[j] = r.template power<three_quarters>(base);
                terms[j] = C(d[j]) * C(from[j]) * powers[j] / base;
            }
            window_sums(n, a.after(), a.before(), terms, sums);  // channel c is in the windows of these
            for (int64_t j = 0; j < n; ++j) to[j] = T(r.gradient(C(from[j]), C(d[j]), powers[j], sums[j]));
        }
    }
};

#ifdef TESSERA_CUDA
template <class T>
__device__ Compute<T> base_at(const Response<Compute<T>>& r, In<T> x, int64_t i, int64_t c) {
    const int64_t first = c - r.a.before(), last = c + r.a.after();
    Compute<T> squares = 0;
    for (int64_t d = first > 0 ? first : 0; d <= last && d < x.cols; ++d)
        squares += Compute<T>(x(i, d)) * Compute<T>(x(i, d));
    return r.base(squares);
}
template <bool three_quarters, class T>
__global__ void local_response_norm_kernel(ResponseArgs a, In<T> x, Out<T> y) {
    using C = Compute<T>;
    const Response<C> r{a};
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;  // one thread per element
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < y.size(); k += stride) {
        const int64_t i = k / y.cols, c = k % y.cols;
        y(i, c) = T(C(x(i, c)) * r.template power<three_quarters>(base_at(r, x, i, c)));
    }
}
template <bool three_quarters, class T>
__global__ void local_response_norm_backward_kernel(ResponseArgs a, In<T> x, In<T> dy, Out<T> dx) {
    using C = Compute<T>;
    const Response<C> r{a};
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;  // one thread per element
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < dx.size(); k += stride) {
        const int64_t i = k / dx.cols, c = k % dx.cols, first = c - a.after(), last = c + a.before();
        C sum = 0, own = 0;
        for (int64_t d = first > 0 ? first : 0; d <= last && d < x.cols; ++d) {  // windows with channel c
            const C base = base_at(r, x, i, d), power = r.template power<three_quarters>(base);
            sum += C(dy(i, d)) * C(x(i, d)) * power / base;
            if (d == c) own = power;
        }
        dx(i, c) = T(r.gradient(C(x(i, c)), C(dy(i, c)), own, sum));
    }
}
template <class T>
void LocalResponseNorm<T>::cuda(Args a, In<T> x, Out<T> y, Stream stream) {
    const auto kernel = a.beta == 0.75 ? local_response_norm_kernel<true, T> : local_response_norm_kernel<false, T>;
    launch(name, stream, blocks_for(y.size()), kernel, a, x, y);
}
template <class T>
void LocalResponseNormBackward<T>::cuda(Args a, In<T> x, In<T> dy, Out<T> dx, Stream stream) {
    const auto kernel =
        a.beta == 0.75 ? local_response_norm_backward_kernel<true, T> : local_response_norm_backward_kernel<false, T>;
    launch(name, stream, blocks_for(dx.size()), kernel, a, x, dy, dx);
}
#endif
const Register<LocalResponseNorm<float>, LocalResponseNorm<double>, LocalResponseNorm<bf16>,
               LocalResponseNormBackward<float>, LocalResponseNormBackward<double>, LocalResponseNormBackward<bf16>>
    codelets;
const Example example(codelets, maps_sizes, [](ExampleGraph& e, MapsSize s) {
    const Maps x = input_maps(e, s);
    e.keep_with_gradients(local_response_norm(x, 5, 1e-4, 0.75, 2).tensor, {x.tensor});
});

}  // namespace

Maps local_response_norm(Maps maps, int64_t size, double alpha, double beta, double k) {
    const std::string name = "local_response_norm";
    const Tensor given = maps.tensor;
    image_extents(name, maps);
    require(size >= 1 && size <= std::numeric_limits<int32_t>::max(), name,
            "the size must be at least 1 and less than 2^31, not " + std::to_string(size), {given});
    require(alpha >= 0 && k > 0 && std::isfinite(alpha + beta + k), name,
            "needs alpha >= 0, k > 0 and a finite beta, not " + std::to_string(alpha) + ", " + std::to_string(k) +
                " and " + std::to_string(beta),
            {given});
    const Tensor x = on_grid(given, {given.grid().row_extents, {maps.channels()}});
    const ResponseArgs args{size, alpha, beta, k};
    Tensor y = map_tiles<LocalResponseNorm, float, double, bf16>(
        args, {x},
        [=](const auto& d) {
            return std::vector{map_tiles<LocalResponseNormBackward, float, double, bf16>(args, {x, d[0]}, {})};
        },
        "size=" + std::to_string(size) + " alpha=" + std::to_string(alpha) + " beta=" + std::to_string(beta) +
            " k=" + std::to_string(k));
    return {y, maps.height, maps.width};
}

}  // namespace tessera
