// scale: y = factor x with a factor known when the graph is built; scale_by: with one that a task computed, [1 x 1] of
// x's type. f32, f64, bf16.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct ScaleArgs {
    double factor;
};

template <class T>
struct Scale : Unary<Scale<T>, T, ScaleArgs> {
    static constexpr auto name = "scale", formula = "y = factor x";
    static constexpr double flops_per_element = 1;
    HD static Compute<T> f(ScaleArgs a, Compute<T> x) { return Compute<T>(a.factor) * x; }
};

template <class T>
struct ScaleBy {
    static constexpr auto name = "scale_by", formula = "y = x * factor(0, 0)";
    static constexpr DType dtype = dtype_of<T>;
    static Cost cost(NoArgs, In<T> x, In<T> factor, Out<T> y) {
        return {double(y.size()), bytes_of_views(x, factor, y)};
    }
    HD static Compute<T> f(NoArgs, Compute<T> x, Compute<T> factor) { return x * factor; }
    static void cpu(NoArgs a, In<T> x, In<T> factor, Out<T> y) {
        const Compute<T> by = factor(0, 0);
        for (int64_t i = 0; i < y.rows; ++i) {
            const T* __restrict from = x.row(i);
            T* __restrict to = y.row(i);
            for (int64_t j = 0; j < y.cols; ++j) to[j] = T(f(a, from[j], by));
        }
    }
    static void cuda(NoArgs, In<T> x, In<T> factor, Out<T> y, Stream stream);
};
#ifdef TESSERA_CUDA
template <class T>
__global__ void scale_by_kernel(In<T> x, In<T> factor, Out<T> y) {
    const Compute<T> by = factor(0, 0);
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < y.size(); k += stride) {
        const int64_t i = k / y.cols, j = k % y.cols;
        y(i, j) = T(ScaleBy<T>::f({}, x(i, j), by));
    }
}
template <class T>
void ScaleBy<T>::cuda(NoArgs, In<T> x, In<T> factor, Out<T> y, Stream stream) {
    launch(name, stream, blocks_for(y.size()), scale_by_kernel<T>, x, factor, y);
}
#endif
const Register<Scale<float>, Scale<double>, Scale<bf16>, ScaleBy<float>, ScaleBy<double>, ScaleBy<bf16>> codelets;
const Example example(codelets, activation_sizes, [](ExampleGraph& e, Shape s) {
    const Tensor x = e.input(s), factor = e.input({1, 1});
    e.keep_with_gradients(scale(x, 0.5), {x});
    e.keep_with_gradients(scale_by(x, factor), {x, factor});
});

}  // namespace

Tensor scale(Tensor x, double factor) {
    return map_tiles<Scale, float, double, bf16>(
        ScaleArgs{factor}, {x}, [factor](const auto& d) { return std::vector{scale(d[0], factor)}; },
        "factor=" + std::to_string(factor));
}

Tensor scale_by(Tensor x, Tensor factor) {
    require(factor.shape() == Shape{1, 1} && factor.dtype() == x.dtype(), "scale_by",
            "needs a [1 x 1] factor of x's type", {x, factor});
    require_type<float, double, bf16>(x.dtype(), "scale_by");
    Graph& g = *x.graph;
    Tensor y = g.value("scale_by", x.shape(), x.dtype(), x.grid());
    Node node;
    node.op = "scale_by", node.inputs = {x, factor}, node.outputs = {y};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(y.dtype(), "scale_by", [&]<class T>() {
            for (int64_t i = 0; i < y.grid().rows(); ++i)
                for (int64_t j = 0; j < y.grid().cols(); ++j)
                    to.task<ScaleBy<T>>({}, to.tile(x, i, j), to.tile(factor, 0, 0), to.tile(y, i, j));
        });
    };
    node.vjp = [=](const auto& d) { return std::vector{scale_by(d[0], factor), sum_all(mul(x, d[0]))}; };
    g.add(std::move(node));
    return y;
}

}  // namespace tessera
