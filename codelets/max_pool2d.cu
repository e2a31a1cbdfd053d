// max_pool2d: y(n, p, q, c) = largest x(n, h, w, c) of window (p, q); NaN wins, of equal ones the first. f32, f64,
// bf16. Its place within the window, counted row by row, is kept as u8 [rows of y x C] for the gradient. The padding is
// never the largest.
#include <algorithm>
#include <limits>

#include "codelets/elementwise.h"
#include "codelets/maps_grid.h"
#include "codelets/ops.h"
#include "codelets/windows.h"
#include "core/body.h"

namespace tessera {
namespace {

constexpr int64_t most_places = 255;

template <class T>
struct MaxPool2d {
    static constexpr auto name = "max_pool2d", formula = "y(n, p, q, c) = max of x(n, h, w, c) over window (p, q)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = SlidingWindows;
    using C = Compute<T>;
    static uint32_t key(Args a) { return a.key(); }
    static Cost cost(Args a, In<T> x, Out<T> y, Out<uint8_t> places) {
        return {double(a.places()) * double(y.size()), bytes_of_views(x, y, places)};
    }
    HD static bool wins(C value, C most) { return value > most || value != value; }

    static void cpu(Args a, In<T> x, Out<T> y, Out<uint8_t> places) {
        const auto find = a.places() <= 4 ? pixel<4> : pixel<9>;
        int64_t row = 0;
        for (int64_t image = 0; image < x.rows; image += a.h.input * a.w.input)
            for (int64_t p = 0; p < a.h.output; ++p)
                for (int64_t q = 0; q < a.w.output; ++q, ++row)
                    find(a, p, q, In<T>{x.row(image), 0, x.cols, x.ld}, y.row(row), places.row(row));
    }
    static void cuda(Args a, In<T> x, Out<T> y, Out<uint8_t> places, Stream stream);

 private:
    using Place = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;  // as wide as C: one vector holds as many
    // Pixels of a window and their places in it; n of them are compared in one pass over the channels.
    template <int n>
    struct Group {
        const T* from[n];
        Place place[n];
        int count = 0;
    };
    // All channels of output pixel (p, q), from the image that starts at x. What was found so far lies in y and places.
    template <int n>
    static void pixel(const Args& a, int64_t p, int64_t q, In<T> x, T* y, uint8_t* places) {
        const Range rows = a.h.inputs(p), cols = a.w.inputs(q);
        Group<n> group;
        bool first = true;
        for (int64_t h = rows.begin; h < rows.end; ++h)
            for (int64_t w = cols.begin; w < cols.end; ++w) {
                group.from[group.count] = x.row(h * a.w.input + w);
                group.place[group.count++] = Place(a.place(p, q, h, w));
                const bool last = h + 1 == rows.end && w + 1 == cols.end;
                if (group.count < n && !last) continue;
                for (; group.count < n; ++group.count)  // the same pixel again changes nothing
                    group.from[group.count] = group.from[0], group.place[group.count] = group.place[0];
                (first ? compare<n, true> : compare<n, false>)(group, x.cols, y, places);
                first = false, group.count = 0;
            }
    }
    template <int n, bool first>
    static void compare(const Group<n>& group, int64_t channels, T* __restrict y, uint8_t* __restrict places) {
        for (int64_t j = 0; j < channels; ++j) {
            C most = first ? C(group.from[0][j]) : C(y[j]);
            Place at = first ? group.place[0] : Place(places[j]);
            for (int k = first; k < n; ++k) {
                const C value = C(group.from[k][j]);
                const bool better = wins(value, most);
                most = better ? value : most;
                at = better ? group.place[k] : at;
            }
            y[j] = T(most);
            places[j] = uint8_t(at);
        }
    }
};

template <class T>
struct MaxPool2dBackward {
    static constexpr auto name = "max_pool2d_backward",
                          formula = "dx(n, h, w, c) = sum of dy(n, p, q, c) over windows with their maximum there";
    static constexpr DType dtype = dtype_of<T>;
    using Args = SlidingWindows;
    using C = Compute<T>;
    static uint32_t key(Args a) { return a.key(); }
    static Cost cost(Args, In<T> dy, In<uint8_t> places, Out<T> dx) {
        return {double(dy.size()), bytes_of_views(dy, places, dx)};
    }
    // Scatters into sums of as many channels of an image as second-level cache holds. They have room for the padding,
    // too: no value of a place reaches beyond them, and what lies in the padding is dropped.
    static void cpu(Args a, In<T> dy, In<uint8_t> places, Out<T> dx) {
        const int64_t inputs = a.h.input * a.w.input, outputs = a.h.output * a.w.output;
        const int64_t rows = padded(a.h), cols = padded(a.w);
        const int64_t width = std::clamp<int64_t>(cached_bytes / (rows * cols * int64_t(sizeof(C))), 1, dy.cols);
        C* sums = static_cast<C*>(workspace(rows * cols * width * int64_t(sizeof(C))));
        int64_t offsets[most_places + 1] = {};  // of places, from the place of the window's first one
        for (int64_t r = 0, place = 0; r < a.h.window; ++r)
            for (int64_t s = 0; s < a.w.window; ++s) offsets[place++] = (r * cols + s) * width;
        const auto at = [&](int64_t h, int64_t w) {
            return sums + ((h + a.h.padding) * cols + w + a.w.padding) * width;
        };
        for (int64_t image = 0; image < dy.rows / outputs; ++image)
            for (int64_t j0 = 0; j0 < dy.cols; j0 += width) {
                const int64_t n = std::min(width, dy.cols - j0);
                std::fill_n(sums, rows * cols * width, C(0));
                int64_t row = image * outputs;
                for (int64_t p = 0; p < a.h.output; ++p)
                    for (int64_t q = 0; q < a.w.output; ++q, ++row)
                        scatter(n, dy.row(row) + j0, places.row(row) + j0, offsets, at(a.h.start(p), a.w.start(q)));
                for (int64_t i = 0; i < inputs; ++i) {
                    const C* from = at(i / a.w.input, i % a.w.input);
                    std::transform(from, from + n, dx.row(image * inputs + i) + j0, [](C sum) { return T(sum); });
                }
            }
    }
    static void cuda(Args a, In<T> dy, In<uint8_t> places, Out<T> dx, Stream stream);

 private:
    static constexpr int64_t cached_bytes = 256 << 10;

    // From the padding's begin to the end of the input or of the last window.
    static int64_t padded(const SlidingAxis& a) {
        return a.padding + std::max(a.input, a.start(a.output - 1) + a.window);
    }
    static void scatter(int64_t n, const T* __restrict dy, const uint8_t* __restrict places,
                        const int64_t* __restrict offsets, C* __restrict sums) {
        for (int64_t j = 0; j < n; ++j) sums[offsets[places[j]] + j] += C(dy[j]);
    }
};

#ifdef TESSERA_CUDA
template <class T>
__global__ void max_pool2d_kernel(SlidingWindows a, In<T> x, Out<T> y, Out<uint8_t> places) {
    using C = Compute<T>;
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;  // one thread per element of y
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < y.size(); k += stride) {
        const int64_t row = k / y.cols, j = k % y.cols;
        const int64_t outputs = a.h.output * a.w.output, image = row / outputs, pixel = row % outputs;
        const int64_t p = pixel / a.w.output, q = pixel % a.w.output;
        const Range rows = a.h.inputs(p), cols = a.w.inputs(q);
        C most = -INFINITY;
        int64_t at = a.place(p, q, rows.begin, cols.begin);
        for (int64_t h = rows.begin; h < rows.end; ++h)
            for (int64_t w = cols.begin; w < cols.end; ++w) {
                const C value = C(x((image * a.h.input + h) * a.w.input + w, j));
                if (MaxPool2d<T>::wins(value, most)) most = value, at = a.place(p, q, h, w);
            }
        y(row, j) = T(most);
        places(row, j) = uint8_t(at);
    }
}
// Every pixel asks the windows that cover it whether it was their largest: no two writers, one order of the sum.
template <class T>
__global__ void max_pool2d_backward_kernel(SlidingWindows a, In<T> dy, In<uint8_t> places, Out<T> dx) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;  // one thread per element of dx
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < dx.size(); k += stride) {
        const int64_t row = k / dx.cols, j = k % dx.cols;
        const int64_t inputs = a.h.input * a.w.input, image = row / inputs, pixel = row % inputs;
        const int64_t h = pixel / a.w.input, w = pixel % a.w.input;
        const Range rows = a.h.outputs(h), cols = a.w.outputs(w);
        Compute<T> sum = 0;
        for (int64_t p = rows.begin; p < rows.end; ++p)
            for (int64_t q = cols.begin; q < cols.end; ++q) {
                const int64_t output = (image * a.h.output + p) * a.w.output + q;
                if (places(output, j) == a.place(p, q, h, w)) sum += Compute<T>(dy(output, j));
            }
        dx(row, j) = T(sum);
    }
}
template <class T>
void MaxPool2d<T>::cuda(Args a, In<T> x, Out<T> y, Out<uint8_t> places, Stream stream) {
    launch(name, stream, blocks_for(y.size()), max_pool2d_kernel<T>, a, x, y, places);
}
template <class T>
void MaxPool2dBackward<T>::cuda(Args a, In<T> dy, In<uint8_t> places, Out<T> dx, Stream stream) {
    launch(name, stream, blocks_for(dx.size()), max_pool2d_backward_kernel<T>, a, dy, places, dx);
}
#endif
const Register<MaxPool2d<float>, MaxPool2d<double>, MaxPool2d<bf16>, MaxPool2dBackward<float>,
               MaxPool2dBackward<double>, MaxPool2dBackward<bf16>>
    codelets;
const Example example(codelets, maps_sizes, [](ExampleGraph& e, MapsSize s) {
    const Maps x = input_maps(e, s);
    for (int64_t stride : {1, 2})
        e.keep_with_gradients(max_pool2d(x, 3, {.stride = stride, .padding = 1}).tensor, {x.tensor});
});

Tensor max_pool2d_backward(const SlidingWindows& windows, Tensor dy, Tensor places, Tensor x) {
    Graph& g = *dy.graph;
    dy = on_grid(dy, places.grid());
    Tensor dx = g.value("max_pool2d_backward", x.shape(), x.dtype(), x.grid());
    Node node;
    node.op = "max_pool2d_backward", node.inputs = {dy, places}, node.outputs = {dx};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(dx.dtype(), "max_pool2d_backward", [&]<class T>() {
            for (int64_t i = 0; i < dx.grid().rows(); ++i)
                for (int64_t j = 0; j < dx.grid().cols(); ++j)
                    to.task<MaxPool2dBackward<T>>(windows, to.tile(dy, i, j), to.tile(places, i, j), to.tile(dx, i, j));
        });
    };
    g.add(std::move(node));
    return dx;
}

}  // namespace

Maps max_pool2d(Maps maps, Extent2d window, PoolOptions options) {
    const std::string name = "max_pool2d";
    const auto images = image_extents(name, maps);
    const SlidingWindows windows = sliding_windows(name, maps, window, options);
    const Tensor x = maps.tensor;
    require(!options.count_padding, name, "count_padding is for averages: padding is never the largest", {x});
    require(windows.places() <= most_places, name,
            "the window " + to_string(window) + " has more than " + std::to_string(most_places) + " places", {x});
    require_type<float, double, bf16>(x.dtype(), name);
    Graph& g = *x.graph;
    const int64_t pixels = windows.h.output * windows.w.output;
    const Shape shape{maps.batch() * pixels, maps.channels()};
    const Grid grid{rows_of_images(images, pixels), x.grid().col_extents};
    Tensor y = g.value(name, shape, x.dtype(), grid);
    Tensor places = g.value("places", shape, DType::u8, grid);
    Node node;
    node.op = name, node.inputs = {x}, node.outputs = {y, places};
    node.attributes = pool_attributes(window, options);
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), name, [&]<class T>() {
            for (int64_t i = 0; i < y.grid().rows(); ++i)
                for (int64_t j = 0; j < y.grid().cols(); ++j)
                    to.task<MaxPool2d<T>>(windows, to.tile(x, i, j), to.tile(y, i, j), to.tile(places, i, j));
        });
    };
    node.vjp = [=](const auto& d) { return std::vector{max_pool2d_backward(windows, d[0], places, x)}; };
    g.add(std::move(node));
    return {y, windows.h.output, windows.w.output};
}

}  // namespace tessera
