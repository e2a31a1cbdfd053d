// mse: y(0, 0) = mean over i, j of (x - target)^2; dx = 2 (x - target) dy / n, dtarget = -dx, n the number of elements.
// f32, f64, bf16; each tile is summed in the computing type, tiles add up in the result's type.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "codelets/reduce.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct MseArgs {
    double elements;  // of the whole tensor
    bool first;
};

template <class T>
struct Mse {
    static constexpr auto name = "mse", formula = "y(0, 0) = mean over i, j of (x(i, j) - target(i, j))^2";
    static constexpr DType dtype = dtype_of<T>;
    using Args = MseArgs;
    using C = Compute<T>;
    static Cost cost(Args, In<T> x, In<T> target, Acc<T> y) {
        return {3 * double(x.size()), bytes_of_views(x, target, y)};
    }
    HD static C finish(Args a, C sum, Acc<T> y) { return C(sum / a.elements) + (a.first ? C(0) : C(y(0, 0))); }
    static void cpu(Args a, In<T> x, In<T> target, Acc<T> y) {
        C sum = 0;
        for (int64_t i = 0; i < x.rows; ++i) {
            const T* __restrict p = x.row(i), * __restrict t = target.row(i);
            sum += sum_of<C>(x.cols, [=](int64_t j) { return (C(p[j]) - C(t[j])) * (C(p[j]) - C(t[j])); });
        }
        y(0, 0) = T(finish(a, sum, y));
    }
    static void cuda(Args a, In<T> x, In<T> target, Acc<T> y, Stream stream);
};

struct MseBackwardArgs {
    double factor;  // 2 / elements of the whole tensor
};

template <class T>
struct MseBackward {
    static constexpr auto name = "mse_backward", formula = "dx = factor (x - target) dy(0, 0)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = MseBackwardArgs;
    using C = Compute<T>;
    static Cost cost(Args, In<T> x, In<T> target, In<T> dy, Out<T> dx) {
        return {2 * double(x.size()), bytes_of_views(x, target, dy, dx)};
    }
    HD static C f(C factor, C x, C target) { return factor * (x - target); }
    static void cpu(Args a, In<T> x, In<T> target, In<T> dy, Out<T> dx) {
        const C factor = C(a.factor) * C(dy(0, 0));
        for (int64_t i = 0; i < x.rows; ++i) {
            const T* __restrict p = x.row(i), * __restrict t = target.row(i);
            T* __restrict to = dx.row(i);
            for (int64_t j = 0; j < x.cols; ++j) to[j] = T(f(factor, p[j], t[j]));
        }
    }
    static void cuda(Args a, In<T> x, In<T> target, In<T> dy, Out<T> dx, Stream stream);
};

#ifdef TESSERA_CUDA
template <class T, class C = Compute<T>>
struct SquaredDifference {
    In<T> x, target;
    __device__ C operator()(int64_t k) const {
        const C difference = C(x(k / x.cols, k % x.cols)) - C(target(k / x.cols, k % x.cols));
        return difference * difference;
    }
};
template <class T>
struct FinishMse {
    MseArgs a;
    Acc<T> y;
    __device__ void operator()(Compute<T> sum) const { y(0, 0) = T(Mse<T>::finish(a, sum, y)); }
};
template <class T>
__global__ void mse_backward_kernel(MseBackwardArgs a, In<T> x, In<T> target, In<T> dy, Out<T> dx) {
    using C = Compute<T>;
    const C factor = C(a.factor) * C(dy(0, 0));
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < x.size(); k += stride) {
        const int64_t i = k / x.cols, j = k % x.cols;
        dx(i, j) = T(MseBackward<T>::f(factor, x(i, j), target(i, j)));
    }
}
template <class T>
void Mse<T>::cuda(Args a, In<T> x, In<T> target, Acc<T> y, Stream stream) {
    sum_on_cuda<C>(x.size(), elements_per_thread, SquaredDifference<T>{x, target}, FinishMse<T>{a, y}, stream, name);
}
template <class T>
void MseBackward<T>::cuda(Args a, In<T> x, In<T> target, In<T> dy, Out<T> dx, Stream stream) {
    launch(name, stream, blocks_for(x.size()), mse_backward_kernel<T>, a, x, target, dy, dx);
}
#endif
const Register<Mse<float>, Mse<double>, Mse<bf16>, MseBackward<float>, MseBackward<double>, MseBackward<bf16>> codelets;
const Example example(codelets, mse);

Tensor mse_backward(Tensor x, Tensor target, Tensor dy) {
    Graph& g = *x.graph;
    Tensor dx = g.value("mse_backward", x.shape(), x.dtype(), x.grid());
    Node node;
    node.op = "mse_backward", node.inputs = {x, target, dy}, node.outputs = {dx};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "mse_backward", [&]<class T>() {
            for (int64_t i = 0; i < x.grid().rows(); ++i)
                for (int64_t j = 0; j < x.grid().cols(); ++j)
                    to.task<MseBackward<T>>({2.0 / double(x.shape().size())}, to.tile(x, i, j), to.tile(target, i, j),
                                            to.tile(dy, 0, 0), to.tile(dx, i, j));
        });
    };
    g.add(std::move(node));
    return dx;
}

}  // namespace

Tensor mse(Tensor x, Tensor target) {
    require(x.shape() == target.shape() && x.dtype() == target.dtype(), "mse", "needs equal shapes and types",
            {x, target});
    require_type<float, double, bf16>(x.dtype(), "mse");
    target = on_grid(target, x.grid());
    Graph& g = *x.graph;
    Tensor y = g.value("mse", {1, 1}, x.dtype(), Grid::whole({1, 1}));
    Node node;
    node.op = "mse", node.inputs = {x, target}, node.outputs = {y};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "mse", [&]<class T>() {
            bool first = true;
            for (int64_t i = 0; i < x.grid().rows(); ++i)
                for (int64_t j = 0; j < x.grid().cols(); ++j, first = false)
                    to.task<Mse<T>>({double(x.shape().size()), first}, to.tile(x, i, j), to.tile(target, i, j),
                                    first ? Lowering::first(to.tile(y, 0, 0)) : to.tile(y, 0, 0));
        });
    };
    node.vjp = [=](const auto& d) {
        Tensor dx = mse_backward(x, target, d[0]);
        return std::vector{dx, scale(dx, -1)};
    };
    g.add(std::move(node));
    return y;
}

}  // namespace tessera
