// clip_by_global_norm: every gradient times min(1, max_norm / (norm + 1e-6)), norm = sqrt of the sum of the squares of
// all elements of all gradients. f32, f64. Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, section 3.2.
// The coefficient counts as a constant: no gradient flows through the norm.
#include <cmath>

#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "codelets/reduce.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct SumSquaresArgs {
    bool first;
};

template <class T>
struct SumSquares {
    static constexpr auto name = "sum_squares", formula = "total(0, 0) += sum over i, j of g(i, j)^2";
    static constexpr DType dtype = dtype_of<T>;
    using Args = SumSquaresArgs;
    static Cost cost(Args, In<T> g, Acc<T> total) { return {2 * double(g.size()), bytes_of_views(g, total)}; }
    static void cpu(Args a, In<T> g, Acc<T> total) {
        T sum = a.first ? T(0) : total(0, 0);
        for (int64_t i = 0; i < g.rows; ++i) {
            const T* __restrict row = g.row(i);
            sum += sum_of<T>(g.cols, [=](int64_t j) { return row[j] * row[j]; });
        }
        total(0, 0) = sum;
    }
    static void cuda(Args a, In<T> g, Acc<T> total, Stream stream);
};
#ifdef TESSERA_CUDA
template <class T>
struct Square {
    In<T> g;
    __device__ T operator()(int64_t k) const {
        const T x = g(k / g.cols, k % g.cols);
        return x * x;
    }
};
template <class T>
struct AddSquares {
    SumSquaresArgs a;
    Acc<T> total;
    __device__ void operator()(T sum) const { total(0, 0) = sum + (a.first ? T(0) : total(0, 0)); }
};
template <class T>
void SumSquares<T>::cuda(Args a, In<T> g, Acc<T> total, Stream stream) {
    sum_on_cuda<T>(g.size(), elements_per_thread, Square<T>{g}, AddSquares<T>{a, total}, stream, name);
}
#endif

struct ClipArgs {
    double max_norm;
};

template <class T>
struct ClipCoefficient : Unary<ClipCoefficient<T>, T, ClipArgs> {
    static constexpr auto name = "clip_coefficient", formula = "y = min(1, max_norm / (sqrt(x) + 1e-6))";
    static constexpr double flops_per_element = 4;
    HD static T f(ClipArgs a, T total) {
        const T ratio = T(a.max_norm) / (std::sqrt(total) + T(1e-6));
        return ratio > 1 ? T(1) : ratio;  // NaN stays NaN
    }
};
const Register<SumSquares<float>, SumSquares<double>, ClipCoefficient<float>, ClipCoefficient<double>> codelets;
const Example example(codelets, weight_sizes,
                      [](ExampleGraph& e, Shape s) { e.keep(clip_by_global_norm({e.input(s)}, 1)[0]); });

Tensor sum_squares(const std::vector<Tensor>& all) {
    Graph& g = *all[0].graph;
    Tensor total = g.value("sum_squares", {1, 1}, all[0].dtype(), Grid::whole({1, 1}));
    Node node;
    node.op = "sum_squares", node.inputs = all, node.outputs = {total};
    node.lower = [=](Lowering& to) {
        dispatch<float, double>(total.dtype(), "sum_squares", [&]<class T>() {
            bool first = true;
            const auto sum = to.tile(total, 0, 0);
            for (Tensor t : all)
                for (int64_t i = 0; i < t.grid().rows(); ++i)
                    for (int64_t j = 0; j < t.grid().cols(); ++j, first = false)
                        to.task<SumSquares<T>>({first}, to.tile(t, i, j), first ? Lowering::first(sum) : sum);
        });
    };
    g.add(std::move(node));
    return total;
}

}  // namespace

// Invalid tensors ("no gradient") are passed over and stay where they are.
std::vector<Tensor> clip_by_global_norm(const std::vector<Tensor>& gradients, double max_norm) {
    const std::string op = "clip_by_global_norm";
    require(max_norm > 0, op, "max_norm must be positive, not " + std::to_string(max_norm), gradients);
    std::vector<Tensor> clipped = gradients, all;
    for (Tensor t : gradients)
        if (t) all.push_back(t);
    if (all.empty()) return clipped;
    require_type<float, double>(all[0].dtype(), op);
    for (Tensor t : all) require(t.dtype() == all[0].dtype(), op, "needs one type", all);
    Tensor coefficient = map_tiles<ClipCoefficient, float, double>(ClipArgs{max_norm}, {sum_squares(all)}, {},
                                                                   "max_norm=" + std::to_string(max_norm));
    for (Tensor& t : clipped)
        if (t) t = scale_by(t, coefficient);
    return clipped;
}

}  // namespace tessera
