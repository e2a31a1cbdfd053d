// conv2d: y(n, p, q, k) = act(b(k) + sum over r, s, c of w(k, r, s, c) x(n, p stride - padding + r dilation, ..., c)).
// x [N H W x C] and y [N P Q x K] channels last, w [K x R S C/groups] ordered (r, s, c), b [1 x K] or none. f32, f64,
// bf16 (sums in f32). One task per row tile: it takes all column tiles of x, so that a concatenation stays a view.
#include "codelets/conv2d_backward.h"
#include "codelets/conv2d_cudnn.h"
#include "codelets/conv2d_im2col.h"
#include "codelets/convolution.h"
#include "codelets/maps_grid.h"
#include "codelets/winograd.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
struct Conv2d {
    static constexpr auto name = "conv2d", formula = "y = act(x * w + b)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = ConvArgs;
    static uint32_t key(Args a) { return a.shape.key(uint64_t(a.activation) << 1 | a.bias); }
    static Cost cost(Args a, InList<T> x, In<T> w, In<T> b, Out<T> y) {
        return {2 * double(w.cols) * double(y.size()),
                bytes_of_list(x) + bytes_of_views(w, y) + (a.bias ? bytes_of_views(b) : 0.0)};
    }
    static constexpr auto cpu_label = dtype_of<T> == DType::f32   ? "oneDNN"
                                      : dtype_of<T> == DType::f64 ? "im2col + OpenBLAS"
                                                                  : "im2col + oneDNN, widened";
    static void cpu(Args a, InList<T> x, In<T> w, In<T> b, Out<T> y) { im2col::forward(a, x, w, b, y); }
    static constexpr auto cuda_label = "im2col + cuBLAS";
    static void cuda(Args a, InList<T> x, In<T> w, In<T> b, Out<T> y, Stream stream);
#ifdef TESSERA_CUDNN
    static constexpr std::tuple cuda_alternatives{
        Named{"implicit GEMM", &implicit::forward<T>},
        Named{"cuDNN", &device::cudnn_forward<device::Choice::fastest, T>},
        Named{"cuDNN, least memory", &device::cudnn_forward<device::Choice::least_memory, T>}};
#elif defined(TESSERA_CUDA)
    static constexpr std::tuple cuda_alternatives{Named{"implicit GEMM", &implicit::forward<T>}};
#endif
};
#ifdef TESSERA_CUDA
template <class T>
void Conv2d<T>::cuda(Args a, InList<T> x, In<T> w, In<T> b, Out<T> y, Stream stream) {
    device::forward(a, x, w, b, y, stream);
}
#endif

// One convolution per column tile of x, each added to the one before. False where oneDNN has nothing fast.
bool onednn_forward(const ConvArgs& a, InList<float> x, In<float> w, In<float> b, Out<float> y) {
    using namespace convolution;
    if (!dense(y)) return false;
    thread_local std::vector<std::shared_ptr<Prepared>> parts;
    parts.clear();
    const int64_t tap_step = channels_per_group(a.shape, w);
    for (const In<float>& tile : x) {
        const bool last = int64_t(parts.size()) + 1 == x.count;
        if (!dense(tile) || !parts.emplace_back(prepare({Pass::forward, a.shape, y.rows / a.shape.outputs(), tile.cols,
                                                         y.cols, w.ld, tap_step, last && a.bias, !parts.empty()})))
            return false;
    }
    const float* weights = w.data;
    for (int64_t t = 0; t < x.count; weights += x[t++].cols)
        convolution::forward(*parts[size_t(t)], x[t].data, weights, t + 1 == x.count && a.bias ? b.data : nullptr,
                             y.data);
    finish<float>(a.activation, y.data, y.ld, nullptr, y);  // not oneDNN's: its relu makes 0 of NaN
    return true;
}

struct Conv2dF32 : Conv2d<float> {
    static void cpu(Args a, InList<float> x, In<float> w, In<float> b, Out<float> y) {
        if (!onednn_forward(a, x, w, b, y)) im2col::forward(a, x, w, b, y);
    }
    static void winograd(Args a, InList<float> x, In<float> w, In<float> b, Out<float> y) {
        if (!tessera::winograd::forward(a, x, w, b, y)) cpu(a, x, w, b, y);
    }
    static constexpr std::tuple cpu_alternatives{Named{"im2col + oneDNN product", &Conv2d<float>::cpu},
                                                 Named{"Winograd", &winograd}};
};
template <class T>
using Conv2dOf = std::conditional_t<std::is_same_v<T, float>, Conv2dF32, Conv2d<T>>;
const Register<Conv2dF32, Conv2d<double>, Conv2d<bf16>> codelets;

struct ConvSize {
    MapsSize maps;
    int64_t filters, kernel, stride, groups;
};
constexpr ConvSize conv_sizes[] = {
    {{16, 32, 16}, 16, 3, 1, 1},  {{16, 16, 64}, 64, 3, 1, 1}, {{16, 8, 128}, 128, 3, 1, 1}, {{16, 32, 3}, 16, 3, 1, 1},
    {{16, 16, 64}, 128, 3, 2, 1}, {{16, 8, 256}, 64, 1, 1, 1}, {{16, 16, 64}, 64, 3, 1, 64}};
constexpr ConvSize tiled_sizes[] = {
    {{16, 32, 8}, 16, 3, 1, 1}, {{16, 16, 32}, 64, 3, 1, 1}, {{16, 8, 128}, 64, 1, 1, 1}};
Tensor example_weights(ExampleGraph& e, const ConvSize& s) {
    return e.input({s.filters, s.kernel * s.kernel * s.maps.channels / s.groups});
}
Conv2dOptions example_options(const ConvSize& s, Activation activation) {
    return {.stride = s.stride, .padding = s.kernel / 2, .dilation = 1, .groups = s.groups, .activation = activation};
}
const Example example(codelets, conv_sizes, [](ExampleGraph& e, ConvSize s) {
    const Maps x = input_maps(e, s.maps);
    const Tensor w = example_weights(e, s), b = e.input({1, s.filters});
    e.keep(conv2d(x, w, b, s.kernel, example_options(s, Activation::relu)).tensor);
    e.keep_with_gradients(conv2d(x, w, {}, s.kernel, example_options(s, Activation::none)).tensor, {x.tensor, w});
});
// Two row tiles: the second adds to dw; two column tiles, as a concatenation makes them.
const Example tiles(codelets, tiled_sizes, [](ExampleGraph& e, ConvSize s) {
    const int64_t rows = s.maps.images * s.maps.side * s.maps.side, channels = s.maps.channels;
    const Tensor x = e.input({2 * rows, 2 * channels}, {{rows, rows}, {channels, channels}});
    const Tensor w = e.input({s.filters, s.kernel * s.kernel * 2 * channels});
    const Maps y = conv2d({x, s.maps.side, s.maps.side}, w, {}, s.kernel, example_options(s, Activation::none));
    e.keep_with_gradients(y.tensor, {x, w});
});

// --- the graph side ---

ConvShape shape_of(Maps x, Extent2d kernel, const Conv2dOptions& o, const std::vector<Tensor>& tensors) {
    constexpr int64_t limit = std::numeric_limits<int32_t>::max();  // what follows cannot overflow
    const auto check = [&](bool ok, const std::string& what) { require(ok, "conv2d", what, tensors); };
    const auto between = [&](Extent2d e, int64_t least, const std::string& what) {
        check(std::min(e.height, e.width) >= least && std::max(e.height, e.width) <= limit,
              "the " + what + " must be at least " + std::to_string(least) + ", not " + to_string(e));
    };
    between(kernel, 1, "kernel"), between(o.stride, 1, "stride"), between(o.dilation, 1, "dilation");
    between(o.padding, 0, "padding");
    const Extent2d in{x.height, x.width};
    const Extent2d out{window_outputs(x.height, kernel.height, o.stride.height, o.padding.height, o.dilation.height),
                       window_outputs(x.width, kernel.width, o.stride.width, o.padding.width, o.dilation.width)};
    check(out.height >= 1 && out.width >= 1,
          "maps of " + to_string(in) + " pixels shrink to nothing under a kernel of " + to_string(kernel) +
              " with dilation " + to_string(o.dilation) + " and padding " + to_string(o.padding));
    return {in, out, kernel, o.stride, o.padding, o.dilation, o.groups};
}

void check_channels(Maps x, Tensor w, Tensor b, Extent2d kernel, int64_t groups, const std::vector<Tensor>& tensors) {
    const auto check = [&](bool ok, const std::string& what) { require(ok, "conv2d", what, tensors); };
    const int64_t channels = x.channels(), filters = w.shape().rows;
    check(groups >= 1 && channels % groups == 0 && filters % groups == 0,
          "the " + std::to_string(channels) + " channels and " + std::to_string(filters) +
              " filters must divide into groups, not into " + std::to_string(groups));
    const int64_t columns = kernel.height * kernel.width * (channels / groups);
    check(w.shape().cols == columns, "w must have " + std::to_string(columns) + " columns for a kernel of " +
                                         to_string(kernel) + " over " + std::to_string(channels / groups) +
                                         " channels per group");
    check(!b || b.shape() == Shape{1, filters}, "b must be [1 x " + std::to_string(filters) + "]");
    check(w.dtype() == x.tensor.dtype() && (!b || b.dtype() == w.dtype()), "needs one type");
    require_type<float, double, bf16>(w.dtype(), "conv2d");
}

std::string attributes_of(const ConvShape& s, Activation activation) {
    return "kernel=" + to_string(s.kernel) + " stride=" + to_string(s.stride) + " padding=" + to_string(s.padding) +
           " dilation=" + to_string(s.dilation) + " groups=" + std::to_string(s.groups) +
           " activation=" + std::to_string(int(activation));
}

}  // namespace

Maps conv2d(Maps x, Tensor w, Tensor b, Extent2d kernel, Conv2dOptions o) {
    const auto images = image_extents("conv2d", x);
    const std::vector<Tensor> tensors = b ? std::vector{x.tensor, w, b} : std::vector{x.tensor, w};
    const ConvShape s = shape_of(x, kernel, o, tensors);
    check_channels(x, w, b, kernel, o.groups, tensors);
    if (!has_derivative_from_output(o.activation)) {
        const Activation after = std::exchange(o.activation, Activation::none);
        const Maps z = conv2d(x, w, b, kernel, o);
        return {activate(z.tensor, after), z.height, z.width};
    }
    const Tensor from = s.groups == 1 ? x.tensor  // a group may lie in several column tiles
                                      : on_grid(x.tensor, {x.tensor.grid().row_extents, {x.channels()}});
    w = on_grid(w, Grid::whole(w.shape()));
    if (b) b = on_grid(b, Grid::whole(b.shape()));
    const int64_t filters = w.shape().rows;
    const Grid grid{rows_of_images(images, s.outputs()), {filters}};
    const Tensor y = w.graph->value("conv2d", {x.batch() * s.outputs(), filters}, w.dtype(), grid);
    Node node;
    node.op = "conv2d", node.inputs = {from, w}, node.outputs = {y};
    if (b) node.inputs.push_back(b);
    node.attributes = attributes_of(s, o.activation);
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(y.dtype(), "conv2d", [&]<class T>() {
            for (int64_t i = 0; i < y.grid().rows(); ++i) {
                std::vector<Lowering::Ref> tiles;
                for (int64_t j = 0; j < from.grid().cols(); ++j) tiles.push_back(to.tile(from, i, j));
                to.task<Conv2dOf<T>>({s, o.activation, bool(b)}, tiles, to.tile(w, 0, 0), to.tile(b ? b : w, 0, 0),
                                     to.tile(y, i, 0));
            }
        });
    };
    node.vjp = [=](const std::vector<Tensor>& d) {
        const Tensor dz = on_grid(activation_backward(y, d[0], o.activation), y.grid());
        std::vector dx{conv2d_backward_data(s, from, w, dz), conv2d_backward_weights(s, from, w, dz)};
        if (b) dx.push_back(sum_rows(dz));
        return dx;
    };
    w.graph->add(std::move(node));
    return {y, s.out.height, s.out.width};
}

}  // namespace tessera
