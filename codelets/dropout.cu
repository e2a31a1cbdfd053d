// dropout: y = x / (1 - p) with probability 1 - p, else 0; the gradient gets the very same mask. f32, f64, bf16.
// The mask is a function of (seed, node, step, logical element index): tiling and workers do not matter.
// Srivastava et al. 2014, JMLR 15.
#include "codelets/dropout.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct DropoutArgs {
    double p;
    uint64_t stream;           // of this node
    int64_t row0, col0, cols;  // the tile's first element, and columns of the whole tensor
    uint64_t seed = 0, step = 0;
};

template <class T>
struct Dropout {
    static constexpr auto name = "dropout", formula = "y = keep(i, j) x / (1 - p)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = DropoutArgs;
    using C = Compute<T>;
    static Cost cost(Args, In<T> x, Out<T> y) { return {10 * double(y.size()), bytes_of_views(x, y)}; }
    static void at_step(Args& a, const Step& step) { a.seed = step.seed, a.step = uint64_t(step.number); }
    // A chosen zero, not a product: what is dropped may be infinite. Both are computed first: no branch.
    HD static C f(const Args& a, int64_t i, int64_t j, C x) {
        const uint64_t index = uint64_t((a.row0 + i) * a.cols + a.col0 + j);
        const C scaled = x * C(1 / (1 - a.p));
        return kept(a, index) ? scaled : C(0);
    }
    static void cpu(Args a, In<T> x, Out<T> y) {
        for (int64_t i = 0; i < y.rows; ++i) row(a, i, y.cols, x.row(i), y.row(i));
    }
    static void cuda(Args a, In<T> x, Out<T> y, Stream stream);

 private:
    static void row(Args a, int64_t i, int64_t n, const T* __restrict x, T* __restrict y) {
        for (int64_t j = 0; j < n; ++j) y[j] = T(f(a, i, j, x[j]));
    }
};
#ifdef TESSERA_CUDA
template <class T>
__global__ void dropout_kernel(DropoutArgs a, In<T> x, Out<T> y) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < y.size(); k += stride) {
        const int64_t i = k / y.cols, j = k % y.cols;
        y(i, j) = T(Dropout<T>::f(a, i, j, x(i, j)));
    }
}
template <class T>
void Dropout<T>::cuda(Args a, In<T> x, Out<T> y, Stream stream) {
    launch(name, stream, blocks_for(y.size()), dropout_kernel<T>, a, x, y);
}
#endif
const Register<Dropout<float>, Dropout<double>, Dropout<bf16>> codelets;
const Example example(codelets, activation_sizes, [](ExampleGraph& e, Shape s) {
    const Tensor x = e.input(s);
    e.keep_with_gradients(dropout(x, 0.5), {x});
});

Tensor masked(Tensor x, double p, uint64_t stream) {
    Graph& g = *x.graph;
    Tensor y = g.value("dropout", x.shape(), x.dtype(), x.grid());
    Node node;
    node.op = "dropout", node.inputs = {x}, node.outputs = {y};
    node.attributes = "p=" + std::to_string(p) + " stream=" + std::to_string(stream);
    node.lower = [=](Lowering& to) {
        const Grid& grid = y.grid();
        dispatch<float, double, bf16>(y.dtype(), "dropout", [&]<class T>() {
            int64_t row0 = 0;
            for (int64_t i = 0; i < grid.rows(); row0 += grid.row_extents[size_t(i++)]) {
                int64_t col0 = 0;
                for (int64_t j = 0; j < grid.cols(); col0 += grid.col_extents[size_t(j++)])
                    to.task<Dropout<T>>({p, stream, row0, col0, y.shape().cols}, to.tile(x, i, j), to.tile(y, i, j));
            }
        });
    };
    node.vjp = [=](const auto& d) { return std::vector{masked(d[0], p, stream)}; };
    g.add(std::move(node));
    return y;
}

}  // namespace

Tensor dropout(Tensor x, double p) {
    require(p >= 0 && p < 1, "dropout", "needs a probability in [0, 1), not " + std::to_string(p), {x});
    require_type<float, double, bf16>(x.dtype(), "dropout");
    return p == 0 ? x : masked(x, p, x.graph->nodes().size());
}

}  // namespace tessera
