// codelets/elementwise.h - y = f(x...) element by element: CPU and CUDA bodies from one host/device formula, and the
// graph side, one task per tile. The formula works in Compute<T>: f32 for bf16.
#pragma once
#include <string>
#include <vector>

#include "codelets/cuda.h"
#include "core/plan.h"

namespace tessera {

// The same tensor cut along `grid`: itself, or a visible retile node.
Tensor on_grid(Tensor x, const Grid& grid);

#ifdef TESSERA_CUDA
template <class F, class A, class Y, class... X>
__global__ void elementwise_kernel(A args, Y y, X... x) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < y.size(); k += stride) {
        const int64_t i = k / y.cols, j = k % y.cols;
        y(i, j) = typename Y::Element(F::f(args, Compute<typename X::Element>(x(i, j))...));
    }
}
#endif

// F: name, formula, flops_per_element, `HD static Compute<T> f(A, Compute<X>...)`.
template <class F, class T, class A, class... X>
struct Elementwise {
    using Args = A;
    static constexpr DType dtype = dtype_of<T>;
    static Cost cost(A, In<X>... x, Out<T> y) {
        return {F::flops_per_element * double(y.size()), bytes_of_views(x..., y)};
    }
    static void cpu(A args, In<X>... x, Out<T> y) {
        const bool flat = ((x.ld == x.cols) && ...) && y.ld == y.cols;  // one long row
        const int64_t rows = flat ? 1 : y.rows, cols = flat ? y.size() : y.cols;
        for (int64_t i = 0; i < rows; ++i) row(args, cols, y.row(i), x.row(i)...);
    }
    static void cuda(A args, In<X>... x, Out<T> y, Stream stream);

 private:
    static void row(A args, int64_t n, T* __restrict y, const X* __restrict... x) {
        for (int64_t j = 0; j < n; ++j) y[j] = T(F::f(args, Compute<X>(x[j])...));
    }
};
#ifdef TESSERA_CUDA
template <class F, class T, class A, class... X>
void Elementwise<F, T, A, X...>::cuda(A args, In<X>... x, Out<T> y, Stream stream) {
    launch(F::name, stream, blocks_for(y.size()), elementwise_kernel<F, A, Out<T>, In<X>...>, args, y, x...);
}
#endif
template <class F, class T, class A = NoArgs>
using Unary = Elementwise<F, T, A, T>;
template <class F, class T, class A = NoArgs>
using Binary = Elementwise<F, T, A, T, T>;

using Vjp = std::function<std::vector<Tensor>(const std::vector<Tensor>& dy)>;

// One task of Op<T> per tile of inputs of equal shape; T is the first input's type, out of Ts.
template <template <class> class Op, class... Ts, class A>
Tensor map_tiles(A args, std::vector<Tensor> inputs, const Vjp& vjp, const std::string& attributes = {}) {
    const std::string name = Op<float>::name;
    for (Tensor& x : inputs) {
        require(x.shape() == inputs[0].shape() && x.dtype() == inputs[0].dtype(), name, "needs equal shapes and types",
                inputs);
        x = on_grid(x, inputs[0].grid());
    }
    Graph& g = *inputs[0].graph;
    Tensor y = g.value(name, inputs[0].shape(), inputs[0].dtype(), inputs[0].grid());
    const auto lower = [=](Lowering& to) {
        dispatch<Ts...>(y.dtype(), name, [&]<class T>() {
            for (int64_t i = 0; i < y.grid().rows(); ++i)
                for (int64_t j = 0; j < y.grid().cols(); ++j) {
                    if constexpr (Codelet<Op<T>>::S::count == 2)
                        to.task<Op<T>>(args, to.tile(inputs[0], i, j), to.tile(y, i, j));
                    else if constexpr (Codelet<Op<T>>::S::count == 3)
                        to.task<Op<T>>(args, to.tile(inputs[0], i, j), to.tile(inputs[1], i, j), to.tile(y, i, j));
                    else
                        to.task<Op<T>>(args, to.tile(inputs[0], i, j), to.tile(inputs[1], i, j),
                                       to.tile(inputs[2], i, j), to.tile(y, i, j));
                }
        });
    };
    require_type<Ts...>(y.dtype(), name);  // refuse an unknown type now, not when lowered
    g.add({.op = name,
           .inputs = inputs,
           .outputs = {y},
           .updates = {},
           .attributes = attributes,
           .effect = false,
           .vjp = vjp,
           .lower = lower,
           .layer = {}});
    return y;
}

// For gradients that use the op's own output: sets the vjp of the node that made y.
Tensor with_vjp(Tensor y, const Vjp& vjp);

}  // namespace tessera
