// argmax: column of each row's largest value, the first if equal, -1 for a row with NaN. x [N x C] -> [N x 1] i32.
// count_correct: number of rows whose argmax is the label, [1 x 1] f32. f32, f64, bf16.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "codelets/reduce.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
HD int32_t row_argmax(const T* x, int64_t n) {
    int64_t best = 0;
    for (int64_t j = 0; j < n; ++j) {
        if (!(Compute<T>(x[j]) == Compute<T>(x[j]))) return -1;
        if (Compute<T>(x[j]) > Compute<T>(x[best])) best = j;
    }
    return int32_t(best);
}

template <class T>
struct Argmax {
    static constexpr auto name = "argmax", formula = "y(i, 0) = argmax over j of x(i, j)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = NoArgs;
    static Cost cost(Args, In<T> x, Out<int32_t> y) { return {double(x.size()), bytes_of_views(x, y)}; }
    static void cpu(Args, In<T> x, Out<int32_t> y) {
        for (int64_t i = 0; i < x.rows; ++i) y(i, 0) = row_argmax(x.row(i), x.cols);
    }
    static void cuda(Args, In<T> x, Out<int32_t> y, Stream stream);
};

struct CountArgs {
    bool first;
};
template <class T>
struct CountCorrect {
    static constexpr auto name = "count_correct", formula = "count += number of rows with argmax x(i, :) = label(i)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = CountArgs;
    static Cost cost(Args, In<T> x, In<int32_t> labels, Acc<float> count) {
        return {double(x.size()), bytes_of_views(x, labels, count)};
    }
    static void cpu(Args a, In<T> x, In<int32_t> labels, Acc<float> count) {
        int64_t correct = 0;
        for (int64_t i = 0; i < x.rows; ++i) correct += row_argmax(x.row(i), x.cols) == labels(i, 0);
        count(0, 0) = (a.first ? 0.f : count(0, 0)) + float(correct);
    }
    static void cuda(Args a, In<T> x, In<int32_t> labels, Acc<float> count, Stream stream);
};
#ifdef TESSERA_CUDA
template <class T>
__global__ void argmax_kernel(In<T> x, Out<int32_t> y) {
    const int64_t stride = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < x.rows; i += stride)
        y(i, 0) = row_argmax(x.row(i), x.cols);
}
template <class T>
struct IsCorrect {
    In<T> x;
    In<int32_t> labels;
    __device__ int64_t operator()(int64_t i) const { return row_argmax(x.row(i), x.cols) == labels(i, 0); }
};
struct AddCount {
    CountArgs a;
    Acc<float> count;
    __device__ void operator()(int64_t correct) const { count(0, 0) = (a.first ? 0.f : count(0, 0)) + float(correct); }
};
template <class T>
void Argmax<T>::cuda(Args, In<T> x, Out<int32_t> y, Stream stream) {
    launch(name, stream, blocks_for(x.rows), argmax_kernel<T>, x, y);
}
template <class T>
void CountCorrect<T>::cuda(Args a, In<T> x, In<int32_t> labels, Acc<float> count, Stream stream) {
    sum_on_cuda<int64_t>(x.rows, 1, IsCorrect<T>{x, labels}, AddCount{a, count}, stream, name);
}
#endif
const Register<Argmax<float>, Argmax<double>, Argmax<bf16>, CountCorrect<float>, CountCorrect<double>,
               CountCorrect<bf16>>
    codelets;
const Example example(codelets, logit_sizes, [](ExampleGraph& e, Shape s) {
    const Tensor x = e.input(s);
    e.keep(argmax(x));
    e.keep(count_correct(x, e.input({s.rows, 1}, DType::i32)));
});

}  // namespace

Tensor argmax(Tensor x) {
    require_type<float, double, bf16>(x.dtype(), "argmax");
    x = on_grid(x, {x.grid().row_extents, {x.shape().cols}});
    Tensor y = x.graph->value("argmax", {x.shape().rows, 1}, DType::i32, {x.grid().row_extents, {1}});
    Node node;
    node.op = "argmax", node.inputs = {x}, node.outputs = {y};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "argmax", [&]<class T>() {
            for (int64_t i = 0; i < x.grid().rows(); ++i) to.task<Argmax<T>>({}, to.tile(x, i, 0), to.tile(y, i, 0));
        });
    };
    x.graph->add(std::move(node));
    return y;
}

Tensor count_correct(Tensor x, Tensor labels) {
    require(labels.shape() == Shape{x.shape().rows, 1} && labels.dtype() == DType::i32, "count_correct",
            "needs logits [N x C] and i32 labels [N x 1]", {x, labels});
    require_type<float, double, bf16>(x.dtype(), "count_correct");
    x = on_grid(x, {x.grid().row_extents, {x.shape().cols}});
    labels = on_grid(labels, {x.grid().row_extents, {1}});
    Tensor count = x.graph->value("correct", {1, 1}, DType::f32, Grid::whole({1, 1}));
    Node node;
    node.op = "count_correct", node.inputs = {x, labels}, node.outputs = {count};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "count_correct", [&]<class T>() {
            for (int64_t i = 0; i < x.grid().rows(); ++i)
                to.task<CountCorrect<T>>({i == 0}, to.tile(x, i, 0), to.tile(labels, i, 0),
                                         i == 0 ? Lowering::first(to.tile(count, 0, 0)) : to.tile(count, 0, 0));
        });
    };
    x.graph->add(std::move(node));
    return count;
}

}  // namespace tessera
