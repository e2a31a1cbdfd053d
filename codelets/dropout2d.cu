// dropout2d: y(n, h, w, c) = x(n, h, w, c) / (1 - p) for a whole map (n, c) with probability 1 - p, else 0; the
// gradient gets the very same mask. f32, f64, bf16. The mask is a function of (seed, node, step, n C + c): tiling and
// workers do not matter. Tompson et al. 2015, arXiv:1411.4280.
#include "codelets/dropout.h"
#include "codelets/maps_grid.h"
#include "codelets/ops.h"
#include "core/body.h"

namespace tessera {
namespace {

struct Dropout2dArgs {
    double p;
    uint64_t stream;           // of this node
    int64_t image0, channel0;  // of the tile's first element
    int64_t channels, pixels;  // of the whole tensor, of an image
    uint64_t seed = 0, step = 0;
};

template <class T>
struct Dropout2d {
    static constexpr auto name = "dropout2d", formula = "y = keep(n, c) x / (1 - p)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = Dropout2dArgs;
    using C = Compute<T>;
    static Cost cost(Args, In<T> x, Out<T> y) { return {double(y.size()), bytes_of_views(x, y)}; }
    static void at_step(Args& a, const Step& step) { a.seed = step.seed, a.step = uint64_t(step.number); }
    // Of the tile's map: 1 / (1 - p), or 0 where it is dropped.
    HD static C factor(const Args& a, int64_t image, int64_t channel) {
        const uint64_t index = uint64_t((a.image0 + image) * a.channels + a.channel0 + channel);
        return kept(a, index) ? C(1 / (1 - a.p)) : C(0);
    }
    // A chosen zero, not a product: what is dropped may be infinite.
    HD static C f(C factor, C x) {
        const C scaled = factor * x;  // both are computed first: no branch
        return factor != 0 ? scaled : C(0);
    }
    static void cpu(Args a, In<T> x, Out<T> y) {
        C* factors = static_cast<C*>(workspace(y.cols * int64_t(sizeof(C))));
        for (int64_t i = 0; i < y.rows; ++i) {
            if (i % a.pixels == 0)
                for (int64_t j = 0; j < y.cols; ++j) factors[j] = factor(a, i / a.pixels, j);
            row(y.cols, factors, x.row(i), y.row(i));
        }
    }
    static void cuda(Args a, In<T> x, Out<T> y, Stream stream);

 private:
    static void row(int64_t n, const C* __restrict factors, const T* __restrict x, T* __restrict y) {
        for (int64_t j = 0; j < n; ++j) y[j] = T(f(factors[j], x[j]));
    }
};
#ifdef TESSERA_CUDA
template <class T>
__global__ void dropout2d_kernel(Dropout2dArgs a, In<T> x, Out<T> y) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < y.size(); k += stride) {
        const int64_t i = k / y.cols, j = k % y.cols;
        y(i, j) = T(Dropout2d<T>::f(Dropout2d<T>::factor(a, i / a.pixels, j), x(i, j)));
    }
}
template <class T>
void Dropout2d<T>::cuda(Args a, In<T> x, Out<T> y, Stream stream) {
    launch(name, stream, blocks_for(y.size()), dropout2d_kernel<T>, a, x, y);
}
#endif
const Register<Dropout2d<float>, Dropout2d<double>, Dropout2d<bf16>> codelets;
const Example example(codelets, maps_sizes, [](ExampleGraph& e, MapsSize s) {
    const Maps x = input_maps(e, s);
    e.keep_with_gradients(dropout2d(x, 0.5).tensor, {x.tensor});
});

Tensor masked(Tensor x, const std::vector<int64_t>& images, Dropout2dArgs args) {
    Graph& g = *x.graph;
    Tensor y = g.value("dropout2d", x.shape(), x.dtype(), x.grid());
    Node node;
    node.op = "dropout2d", node.inputs = {x}, node.outputs = {y};
    node.attributes = "p=" + std::to_string(args.p) + " stream=" + std::to_string(args.stream);
    node.lower = [=](Lowering& to) {
        const Grid& grid = y.grid();
        dispatch<float, double, bf16>(y.dtype(), "dropout2d", [&]<class T>() {
            Dropout2dArgs of_tile = args;
            for (int64_t i = 0; i < grid.rows(); of_tile.image0 += images[size_t(i++)]) {
                of_tile.channel0 = 0;
                for (int64_t j = 0; j < grid.cols(); of_tile.channel0 += grid.col_extents[size_t(j++)])
                    to.task<Dropout2d<T>>(of_tile, to.tile(x, i, j), to.tile(y, i, j));
            }
        });
    };
    node.vjp = [=](const auto& d) { return std::vector{masked(on_grid(d[0], y.grid()), images, args)}; };
    g.add(std::move(node));
    return y;
}

}  // namespace

Maps dropout2d(Maps x, double p) {
    const auto images = image_extents("dropout2d", x);
    require(p >= 0 && p < 1, "dropout2d", "needs a probability in [0, 1), not " + std::to_string(p), {x.tensor});
    require_type<float, double, bf16>(x.tensor.dtype(), "dropout2d");
    if (p == 0) return x;
    const uint64_t stream = x.tensor.graph->nodes().size();
    return {masked(x.tensor, images, {p, stream, 0, 0, x.channels(), x.height * x.width}), x.height, x.width};
}

}  // namespace tessera
