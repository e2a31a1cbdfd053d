// codelets/pixel_sums.h - y(n, o, c) = sum over the pixels i of weight x(n, i, c), where the pixels i that belong to
// pixel o are a rectangle: averages over windows, repetition of pixels, and the gradients of both, which are the same
// the other way round. CPU and CUDA bodies and the graph side; f32, f64, bf16 (sums in f32).
#pragma once
#include <algorithm>

#include "codelets/elementwise.h"
#include "codelets/maps_grid.h"
#include "codelets/windows.h"

namespace tessera {

// W says what belongs to what, from the images of x to those of y: axes h and w, and divisor(p, q), by which the sum
// of output (p, q) is divided. `back` is the transposed map, from y to x.
template <class W, bool back>
struct PixelMap {
    W windows;

    HD int64_t from_height() const { return back ? windows.h.output : windows.h.input; }
    HD int64_t from_width() const { return back ? windows.w.output : windows.w.input; }
    HD int64_t to_height() const { return back ? windows.h.input : windows.h.output; }
    HD int64_t to_width() const { return back ? windows.w.input : windows.w.output; }
    HD int64_t from_pixels() const { return from_height() * from_width(); }
    HD int64_t to_pixels() const { return to_height() * to_width(); }
    HD Range rows(int64_t p) const { return back ? windows.h.outputs(p) : windows.h.inputs(p); }
    HD Range cols(int64_t q) const { return back ? windows.w.outputs(q) : windows.w.inputs(q); }
    // Forward the sum is divided at the end, so that the mean of equal values is that value; backward each term is.
    template <class C>
    HD C weight(int64_t h, int64_t w) const {
        return back ? C(1) / C(windows.divisor(h, w)) : C(1);
    }
    template <class C>
    HD C divisor(int64_t p, int64_t q) const {
        return back ? C(1) : C(windows.divisor(p, q));
    }
    // Terms of all sums of one image and channel.
    double terms() const {
        int64_t vertical = 0, horizontal = 0;
        for (int64_t p = 0; p < to_height(); ++p) vertical += std::max<int64_t>(rows(p).end - rows(p).begin, 0);
        for (int64_t q = 0; q < to_width(); ++q) horizontal += std::max<int64_t>(cols(q).end - cols(q).begin, 0);
        return double(vertical) * double(horizontal);
    }
};

template <class W, bool back, class T>
struct PixelSums {
    static constexpr auto name = back ? W::backward_name : W::name, formula = back ? W::backward_formula : W::formula;
    static constexpr DType dtype = dtype_of<T>;
    using Args = PixelMap<W, back>;
    using C = Compute<T>;
    static uint32_t key(Args m) { return m.windows.key(); }
    static Cost cost(Args m, In<T> x, Out<T> y) {
        return {2 * m.terms() * double(x.rows / m.from_pixels() * x.cols), bytes_of_views(x, y)};
    }
    static void cpu(Args m, In<T> x, Out<T> y) {
        std::vector<Range> cols;
        for (int64_t q = 0; q < m.to_width(); ++q) cols.push_back(m.cols(q));
        std::vector<C> weights;
        for (int64_t h = 0; h < m.from_height(); ++h)
            for (int64_t w = 0; w < m.from_width(); ++w) weights.push_back(m.template weight<C>(h, w));
        int64_t row = 0;
        for (int64_t image = 0; image < x.rows; image += m.from_pixels())
            for (int64_t p = 0; p < m.to_height(); ++p) {
                const Range rows = m.rows(p);
                for (int64_t q = 0; q < m.to_width(); ++q)
                    sum({rows, cols[size_t(q)], m.from_width(), weights.data(), m.template divisor<C>(p, q)},
                        In<T>{x.row(image), 0, x.cols, x.ld}, y.row(row++));
            }
    }
    static void cuda(Args m, In<T> x, Out<T> y, Stream stream);

 private:
    static constexpr int64_t block = 256;  // channels summed at once, in first-level cache
    static constexpr int terms = 4;        // pixels added in one pass over them
    static constexpr T zeros[block] = {};
    struct Pixel {
        Range rows, cols;
        int64_t width;     // of the images of x
        const C* weights;  // of their pixels
        C divisor;
    };
    struct Group {
        const T* from[terms];
        C weight[terms];
        int count = 0;
    };

    // Of all channels of one pixel, from the image that starts at x.
    static void sum(const Pixel& to, In<T> x, T* y) {
        for (int64_t j0 = 0; j0 < x.cols; j0 += block) {
            const int64_t n = std::min(block, x.cols - j0);
            C partial[block];
            Group group;
            bool first = true;
            const auto flush = [&](bool last) {
                for (; group.count < terms; ++group.count)
                    group.from[group.count] = zeros, group.weight[group.count] = 1;
                if (last) (first ? add<true, true> : add<false, true>)(group, n, to.divisor, partial, y + j0);
                else (first ? add<true, false> : add<false, false>)(group, n, to.divisor, partial, y + j0);
                first = false, group.count = 0;
            };
            for (int64_t h = to.rows.begin; h < to.rows.end; ++h)
                for (int64_t w = to.cols.begin; w < to.cols.end; ++w) {
                    if (group.count == terms) flush(false);
                    const int64_t from = h * to.width + w;
                    group.from[group.count] = x.row(from) + j0;
                    group.weight[group.count++] = to.weights[from];
                }
            flush(true);
        }
    }
    template <bool first, bool last>
    static void add(const Group& group, int64_t n, C divisor, C* __restrict partial, T* __restrict y) {
        for (int64_t j = 0; j < n; ++j) {
            C sum = first ? C(0) : partial[j];
            for (int k = 0; k < terms; ++k) sum += group.weight[k] * C(group.from[k][j]);
            if constexpr (last) y[j] = T(back ? sum : sum / divisor);
            else partial[j] = sum;
        }
    }
};
#ifdef TESSERA_CUDA
template <class M, class T>
__global__ void pixel_sums_kernel(M m, In<T> x, Out<T> y) {  // one thread per element of y
    using C = Compute<T>;
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < y.size(); k += stride) {
        const int64_t row = k / y.cols, j = k % y.cols;
        const int64_t image = row / m.to_pixels(), pixel = row % m.to_pixels();
        const int64_t p = pixel / m.to_width(), q = pixel % m.to_width();
        const Range rows = m.rows(p), cols = m.cols(q);
        C sum = 0;
        for (int64_t h = rows.begin; h < rows.end; ++h)
            for (int64_t w = cols.begin; w < cols.end; ++w)
                sum += m.template weight<C>(h, w) * C(x(image * m.from_pixels() + h * m.from_width() + w, j));
        y(row, j) = T(sum / m.template divisor<C>(p, q));
    }
}
template <class W, bool back, class T>
void PixelSums<W, back, T>::cuda(Args m, In<T> x, Out<T> y, Stream stream) {
    launch(name, stream, blocks_for(y.size()), pixel_sums_kernel<Args, T>, m, x, y);
}
#endif
template <class W>
using PixelSumCodelets = Register<PixelSums<W, false, float>, PixelSums<W, false, double>, PixelSums<W, false, bf16>,
                                  PixelSums<W, true, float>, PixelSums<W, true, double>, PixelSums<W, true, bf16>>;

// One task per tile of x, which holds the given images in each of its tile rows.
template <class W, bool back = false>
Tensor pixel_sums(Tensor x, const W& windows, const std::vector<int64_t>& images, const std::string& attributes = {}) {
    const std::string name = PixelSums<W, back, float>::name;
    const PixelMap<W, back> map{windows};
    require_type<float, double, bf16>(x.dtype(), name);
    Graph& g = *x.graph;
    Tensor y = g.value(name, {x.shape().rows / map.from_pixels() * map.to_pixels(), x.shape().cols}, x.dtype(),
                       {rows_of_images(images, map.to_pixels()), x.grid().col_extents});
    Node node;
    node.op = name, node.inputs = {x}, node.outputs = {y}, node.attributes = attributes;
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(y.dtype(), name, [&]<class T>() {
            for (int64_t i = 0; i < y.grid().rows(); ++i)
                for (int64_t j = 0; j < y.grid().cols(); ++j)
                    to.task<PixelSums<W, back, T>>(map, to.tile(x, i, j), to.tile(y, i, j));
        });
    };
    node.vjp = [=](const auto& d) {
        return std::vector{pixel_sums<W, !back>(on_grid(d[0], y.grid()), windows, images, attributes)};
    };
    g.add(std::move(node));
    return y;
}

}  // namespace tessera
