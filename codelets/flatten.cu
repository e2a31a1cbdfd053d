// flatten: maps [N H W x C] as one row of features per image, y(n, (h W + w) C + c) = x(n, h, w, c), [N x H W C];
// maps_of: the reverse. Copies of contiguous pieces, one task per tile of the result. f32, f64, bf16.
#include <algorithm>

#include "codelets/elementwise.h"
#include "codelets/maps_grid.h"
#include "codelets/ops.h"

namespace tessera {
namespace {

// Column `col0 + j` of pixel `i % pixels` of image `i / pixels` is column (i % pixels) channels + col0 + j of its row.
struct PixelArgs {
    int64_t pixels, channels, col0;
};

#ifdef TESSERA_CUDA
template <bool Flat, class Pixels, class Features>
__global__ void pixels_kernel(PixelArgs a, Pixels x, Features y) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < x.size(); k += stride) {
        const int64_t i = k / x.cols, j = k % x.cols, at = i % a.pixels * a.channels + a.col0 + j;
        if constexpr (Flat) y(i / a.pixels, at) = x(i, j);
        else x(i, j) = y(i / a.pixels, at);
    }
}
#endif

// x: the column tiles of some images, y: their rows.
template <class T>
struct Flatten {
    static constexpr auto name = "flatten", formula = "y(n, (h W + w) C + c) = x(n, h, w, c)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = PixelArgs;
    static Cost cost(Args, InList<T>, Out<T> y) { return {0, 2 * bytes_of_views(y)}; }
    static void cpu(Args a, InList<T> tiles, Out<T> y) {
        for (const In<T>& x : tiles) {
            const bool whole = tiles.count == 1 && x.ld == x.cols;  // an image is one piece
            const int64_t pieces = whole ? 1 : a.pixels, length = whole ? y.cols : x.cols;
            for (int64_t n = 0; n < y.rows; ++n)
                for (int64_t p = 0; p < pieces; ++p)
                    std::copy_n(x.row(n * a.pixels + p), length, y.row(n) + p * a.channels + a.col0);
            a.col0 += x.cols;
        }
    }
    static void cuda(Args a, InList<T> tiles, Out<T> y, Stream stream);
};

// x: rows of some images, y: a column tile of their pixels.
template <class T>
struct MapsOf {
    static constexpr auto name = "maps_of", formula = "y(n, h, w, c) = x(n, (h W + w) C + c)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = PixelArgs;
    static Cost cost(Args, In<T>, Out<T> y) { return {0, 2 * bytes_of_views(y)}; }
    static void cpu(Args a, In<T> x, Out<T> y) {
        const bool whole = y.cols == a.channels && y.ld == y.cols;
        const int64_t pieces = whole ? 1 : a.pixels, length = whole ? x.cols : y.cols;
        for (int64_t n = 0; n < x.rows; ++n)
            for (int64_t p = 0; p < pieces; ++p)
                std::copy_n(x.row(n) + p * a.channels + a.col0, length, y.row(n * a.pixels + p));
    }
    static void cuda(Args a, In<T> x, Out<T> y, Stream stream);
};
#ifdef TESSERA_CUDA
template <class T>
void Flatten<T>::cuda(Args a, InList<T> tiles, Out<T> y, Stream stream) {
    for (const In<T>& x : tiles) {
        launch(name, stream, blocks_for(x.size()), pixels_kernel<true, In<T>, Out<T>>, a, x, y);
        a.col0 += x.cols;
    }
}
template <class T>
void MapsOf<T>::cuda(Args a, In<T> x, Out<T> y, Stream stream) {
    launch(name, stream, blocks_for(y.size()), pixels_kernel<false, Out<T>, In<T>>, a, y, x);
}
#endif
const Register<Flatten<float>, Flatten<double>, Flatten<bf16>, MapsOf<float>, MapsOf<double>, MapsOf<bf16>> codelets;
// A few pixels and many channels, as at the end of a network.
const Example example(codelets, activation_sizes, [](ExampleGraph& e, Shape s) {
    const Tensor x = e.input({s.rows * 16, s.cols / 2});
    e.keep_with_gradients(flatten({x, 4, 4}), {x});
});

Maps unflatten(Tensor x, int64_t height, int64_t width, const std::vector<int64_t>& channel_cuts) {
    Graph& g = *x.graph;
    const int64_t pixels = height * width, channels = x.shape().cols / pixels;
    x = on_grid(x, {x.grid().row_extents, {x.shape().cols}});
    Tensor y = g.value("maps_of", {x.shape().rows * pixels, channels}, x.dtype(),
                       {rows_of_images(x.grid().row_extents, pixels), channel_cuts});
    Node node;
    node.op = "maps_of", node.inputs = {x}, node.outputs = {y};
    node.attributes = to_string(Extent2d(height, width));
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "maps_of", [&]<class T>() {
            for (int64_t i = 0; i < y.grid().rows(); ++i) {
                int64_t col = 0;
                for (int64_t j = 0; j < y.grid().cols(); col += y.grid().col_extents[size_t(j++)])
                    to.task<MapsOf<T>>({pixels, channels, col}, to.tile(x, i, 0), to.tile(y, i, j));
            }
        });
    };
    node.vjp = [=](const auto& d) {
        const Tensor dy = on_grid(d[0], {y.grid().row_extents, d[0].grid().col_extents});
        return std::vector{flatten({dy, height, width})};
    };
    g.add(std::move(node));
    return {y, height, width};
}

}  // namespace

Tensor flatten(Maps maps) {
    const Tensor x = maps.tensor;
    const auto images = image_extents("flatten", maps);
    const int64_t pixels = maps.height * maps.width, channels = maps.channels();
    if (pixels == 1) return x;
    require_type<float, double, bf16>(x.dtype(), "flatten");
    Graph& g = *x.graph;
    const int64_t features = pixels * channels;
    Tensor y = g.value("flatten", {x.shape().rows / pixels, features}, x.dtype(), {images, {features}});
    Node node;
    node.op = "flatten", node.inputs = {x}, node.outputs = {y};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "flatten", [&]<class T>() {
            for (int64_t i = 0; i < y.grid().rows(); ++i) {
                std::vector<Lowering::Ref> tiles;
                for (int64_t j = 0; j < x.grid().cols(); ++j) tiles.push_back(to.tile(x, i, j));
                to.task<Flatten<T>>({pixels, channels, 0}, tiles, to.tile(y, i, 0));
            }
        });
    };
    node.vjp = [=](const auto& d) {
        const Tensor dy = on_grid(d[0], y.grid());
        return std::vector{unflatten(dy, maps.height, maps.width, x.grid().col_extents).tensor};
    };
    g.add(std::move(node));
    return y;
}

Maps maps_of(Tensor x, int64_t height, int64_t width) {
    const int64_t pixels = height * width;
    require(height > 0 && width > 0 && x.shape().cols % pixels == 0, "maps_of",
            "needs a whole number of channels of " + to_string(Extent2d(height, width)) + " pixels", {x});
    require_type<float, double, bf16>(x.dtype(), "maps_of");
    if (pixels == 1) return {x, 1, 1};
    const Shape shape{x.shape().rows * pixels, x.shape().cols / pixels};
    return unflatten(x, height, width, x.graph->default_grid(shape).col_extents);
}

}  // namespace tessera
