// softmax_cross_entropy: loss = 1/N sum over rows of -sum_c t_c log softmax(x)_c, with
// t = (1 - s) onehot(label) + s / C (label smoothing s, Szegedy et al. 2016). x [N x C], labels [N x 1] i32, loss [1 x
// 1]. Its backward is fused: dx = (softmax(x) - t) / N * dloss. f32, f64, bf16 logits; loss in f32 (f64 for f64).
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "codelets/reduce.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct CrossEntropyArgs {
    double smoothing, weight;  // weight = 1 / N
    bool first;
};
template <class T>
using Loss = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
struct SoftmaxCrossEntropy {
    static constexpr auto name = "softmax_cross_entropy",
                          formula = "loss += weight sum over rows of -t . log softmax(x)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = CrossEntropyArgs;
    using C = Compute<T>;
    static Cost cost(Args, In<T> x, In<int32_t> labels, Acc<Loss<T>> loss) {
        return {5 * double(x.size()), bytes_of_views(x, labels, loss)};
    }
    // Of one row, from its log-sum-exp, its sum and its value at the label.
    HD static C row_loss(Args a, C log_sum_exp, C sum, C at_label, int64_t classes) {
        return log_sum_exp - C(1 - a.smoothing) * at_label - C(a.smoothing) * sum / C(classes);
    }
    static void cpu(Args a, In<T> x, In<int32_t> labels, Acc<Loss<T>> loss) {
        C total = 0;
        for (int64_t i = 0; i < x.rows; ++i) {
            const int32_t label = labels(i, 0);
            if (label < 0 || label >= x.cols)
                throw std::out_of_range("label " + std::to_string(label) + " is not in 0.." +
                                        std::to_string(x.cols - 1));
            const C log_sum_exp = row_log_sum_exp(x.row(i), x.cols);
            C sum = 0;
            for (int64_t j = 0; j < x.cols; ++j) sum += C(x(i, j));
            total += row_loss(a, log_sum_exp, sum, C(x(i, label)), x.cols);
        }
        loss(0, 0) = (a.first ? Loss<T>(0) : loss(0, 0)) + Loss<T>(C(a.weight) * total);
    }
    HD static C row_log_sum_exp(const T* x, int64_t n) {
        C most = C(x[0]);
        for (int64_t j = 1; j < n; ++j) most = C(x[j]) > most ? C(x[j]) : most;
        C sum = 0;
        for (int64_t j = 0; j < n; ++j) sum += std::exp(C(x[j]) - most);  // NaN anywhere makes the sum NaN
        return most + std::log(sum);
    }
    static void cuda(Args a, In<T> x, In<int32_t> labels, Acc<Loss<T>> loss, Stream stream);
};

template <class T>
struct SoftmaxCrossEntropyBackward {
    static constexpr auto name = "softmax_cross_entropy_backward", formula = "dx = (softmax(x) - t) weight dloss";
    static constexpr DType dtype = dtype_of<T>;
    using Args = CrossEntropyArgs;
    using C = Compute<T>;
    static Cost cost(Args, In<T> x, In<int32_t> labels, In<Loss<T>> dloss, Out<T> dx) {
        return {5 * double(x.size()), bytes_of_views(x, labels, dloss, dx)};
    }
    HD static T gradient(Args a, C x, C log_sum_exp, bool at_label, int64_t n, C dloss) {
        const C target = (at_label ? C(1 - a.smoothing) : C(0)) + C(a.smoothing) / C(n);
        return T((std::exp(x - log_sum_exp) - target) * C(a.weight) * dloss);
    }
    HD static void row(Args a, const T* x, int32_t label, int64_t n, C dloss, T* dx) {
        const C log_sum_exp = SoftmaxCrossEntropy<T>::row_log_sum_exp(x, n);
        for (int64_t j = 0; j < n; ++j) dx[j] = gradient(a, C(x[j]), log_sum_exp, j == label, n, dloss);
    }
    static void cpu(Args a, In<T> x, In<int32_t> labels, In<Loss<T>> dloss, Out<T> dx) {
        for (int64_t i = 0; i < x.rows; ++i) row(a, x.row(i), labels(i, 0), x.cols, C(dloss(0, 0)), dx.row(i));
    }
    static void cuda(Args a, In<T> x, In<int32_t> labels, In<Loss<T>> dloss, Out<T> dx, Stream stream);
};

#ifdef TESSERA_CUDA
constexpr int64_t narrow = 32;  // classes, up to which a row is one thread's; above, a block's

// A label out of range has no row to point at here: it makes the loss NaN, which stops the training.
template <class T>
__device__ Compute<T> value_at_label(In<T> x, In<int32_t> labels, int64_t row) {
    const int32_t label = labels(row, 0);
    return label >= 0 && label < x.cols ? Compute<T>(x(row, label)) : Compute<T>(NAN);
}

template <class T>
struct RowLoss {
    CrossEntropyArgs a;
    In<T> x;
    In<int32_t> labels;
    __device__ Compute<T> operator()(int64_t i) const {
        using Op = SoftmaxCrossEntropy<T>;
        Compute<T> sum = 0;
        for (int64_t j = 0; j < x.cols; ++j) sum += Compute<T>(x(i, j));
        return Op::row_loss(a, Op::row_log_sum_exp(x.row(i), x.cols), sum, value_at_label(x, labels, i), x.cols);
    }
};
template <class T>
struct AddLoss {
    CrossEntropyArgs a;
    Acc<Loss<T>> loss;
    __device__ void operator()(Compute<T> total) const {
        loss(0, 0) = (a.first ? Loss<T>(0) : loss(0, 0)) + Loss<T>(Compute<T>(a.weight) * total);
    }
};
// Of a whole block: every thread calls it and has the result.
template <class T>
__device__ Compute<T> block_log_sum_exp(const T* x, int64_t n) {
    using C = Compute<T>;
    C most = C(-INFINITY), sum = 0;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) most = C(x[j]) > most ? C(x[j]) : most;
    most = block_max(most);
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) sum += std::exp(C(x[j]) - most);
    return most + std::log(block_sum(sum));
}
template <class T>
__global__ void wide_rows_loss_kernel(CrossEntropyArgs a, In<T> x, In<int32_t> labels, Compute<T>* of_blocks) {
    using C = Compute<T>;
    C total = 0;
    for (int64_t i = blockIdx.x; i < x.rows; i += gridDim.x) {
        const C log_sum_exp = block_log_sum_exp(x.row(i), x.cols);
        C sum = 0;
        for (int64_t j = threadIdx.x; j < x.cols; j += blockDim.x) sum += C(x(i, j));
        sum = block_sum(sum);
        total += SoftmaxCrossEntropy<T>::row_loss(a, log_sum_exp, sum, value_at_label(x, labels, i), x.cols);
    }
    if (threadIdx.x == 0) of_blocks[blockIdx.x] = total;
}
template <class T>
__global__ void wide_rows_backward_kernel(CrossEntropyArgs a, In<T> x, In<int32_t> labels, In<Loss<T>> dloss,
                                          Out<T> dx) {
    using C = Compute<T>;
    for (int64_t i = blockIdx.x; i < x.rows; i += gridDim.x) {
        const C log_sum_exp = block_log_sum_exp(x.row(i), x.cols);
        for (int64_t j = threadIdx.x; j < x.cols; j += blockDim.x)
            dx(i, j) = SoftmaxCrossEntropyBackward<T>::gradient(a, C(x(i, j)), log_sum_exp, j == labels(i, 0), x.cols,
                                                                C(dloss(0, 0)));
    }
}
template <class T>
__global__ void cross_entropy_backward_kernel(CrossEntropyArgs a, In<T> x, In<int32_t> labels, In<Loss<T>> dloss,
                                              Out<T> dx) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < x.rows; i += stride)
        SoftmaxCrossEntropyBackward<T>::row(a, x.row(i), labels(i, 0), x.cols, Compute<T>(dloss(0, 0)), dx.row(i));
}
template <class T>
void SoftmaxCrossEntropy<T>::cuda(Args a, In<T> x, In<int32_t> labels, Acc<Loss<T>> loss, Stream stream) {
    if (x.cols <= narrow) return sum_on_cuda<C>(x.rows, 1, RowLoss<T>{a, x, labels}, AddLoss<T>{a, loss}, stream, name);
    const unsigned blocks = unsigned(std::min<int64_t>(x.rows, threads_per_block));
    C* const of_blocks = static_cast<C*>(device::workspace(threads_per_block * int64_t(sizeof(C)), stream));
    launch(name, stream, blocks, wide_rows_loss_kernel<T>, a, x, labels, of_blocks);
    sum_on_cuda<C>(blocks, 1, BlockSums<C>{of_blocks}, AddLoss<T>{a, loss}, stream, name);  // by one block
}
template <class T>
void SoftmaxCrossEntropyBackward<T>::cuda(Args a, In<T> x, In<int32_t> labels, In<Loss<T>> dloss, Out<T> dx,
                                          Stream stream) {
    if (x.cols <= narrow)
        launch(name, stream, blocks_for(x.rows), cross_entropy_backward_kernel<T>, a, x, labels, dloss, dx);
    else launch(name, stream, blocks_for_rows(x.rows), wide_rows_backward_kernel<T>, a, x, labels, dloss, dx);
}
#endif
const Register<SoftmaxCrossEntropy<float>, SoftmaxCrossEntropy<double>, SoftmaxCrossEntropy<bf16>,
               SoftmaxCrossEntropyBackward<float>, SoftmaxCrossEntropyBackward<double>,
               SoftmaxCrossEntropyBackward<bf16>>
    codelets;
const Example example(codelets, logit_sizes, [](ExampleGraph& e, Shape s) {
    const Tensor x = e.input(s);
    e.keep_with_gradients(softmax_cross_entropy(x, e.input({s.rows, 1}, DType::i32)), {x});
});

}  // namespace

Tensor softmax_cross_entropy(Tensor x, Tensor labels, double smoothing) {
    const std::string name = "softmax_cross_entropy";
    require(labels.shape() == Shape{x.shape().rows, 1} && labels.dtype() == DType::i32, name,
            "needs logits [N x C] and i32 labels [N x 1]", {x, labels});
    require(smoothing >= 0 && smoothing < 1, name,
            "label smoothing must be in [0, 1), got " + std::to_string(smoothing));
    require_type<float, double, bf16>(x.dtype(), name);
    x = on_grid(x, {x.grid().row_extents, {x.shape().cols}});
    labels = on_grid(labels, {x.grid().row_extents, {1}});
    Graph& g = *x.graph;
    Tensor loss = g.value("loss", {1, 1}, x.dtype() == DType::f64 ? DType::f64 : DType::f32, Grid::whole({1, 1}));
    const double weight = 1.0 / double(x.shape().rows);
    Node node;
    node.op = name, node.inputs = {x, labels}, node.outputs = {loss};
    node.attributes = "label_smoothing=" + std::to_string(smoothing);
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), name, [&]<class T>() {
            for (int64_t i = 0; i < x.grid().rows(); ++i)
                to.task<SoftmaxCrossEntropy<T>>({smoothing, weight, i == 0}, to.tile(x, i, 0), to.tile(labels, i, 0),
                                                i == 0 ? Lowering::first(to.tile(loss, 0, 0)) : to.tile(loss, 0, 0));
        });
    };
    node.vjp = [=](const std::vector<Tensor>& d) {
        Graph& graph = *x.graph;
        Tensor dx = graph.value("dlogits", x.shape(), x.dtype(), x.grid());
        Node back;
        back.op = name + "_backward", back.inputs = {x, labels, d[0]}, back.outputs = {dx};
        back.lower = [=, dloss = d[0]](Lowering& to) {
            dispatch<float, double, bf16>(x.dtype(), name, [&]<class T>() {
                for (int64_t i = 0; i < x.grid().rows(); ++i)
                    to.task<SoftmaxCrossEntropyBackward<T>>({smoothing, weight, false}, to.tile(x, i, 0),
                                                            to.tile(labels, i, 0), to.tile(dloss, 0, 0),
                                                            to.tile(dx, i, 0));
            });
        };
        graph.add(std::move(back));
        return std::vector{dx, Tensor{}};
    };
    g.add(std::move(node));
    return loss;
}

}  // namespace tessera
