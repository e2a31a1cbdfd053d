// sum_rows, sum_cols, sum_all: sums over the rows [1 x cols], over the columns [rows x 1], over all [1 x 1].
// f32, f64, bf16; each tile is summed in the computing type, tiles add up in the result's type.
#include "codelets/columns.h"
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "codelets/reduce.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct SumArgs {
    bool first;
};

template <class T>
struct SumRows {
    static constexpr auto name = "sum_rows", formula = "y(0, j) = sum over i of x(i, j)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = SumArgs;
    static Cost cost(Args, In<T> x, Acc<T> y) { return {double(x.size()), bytes_of_views(x, y)}; }
    static void cpu(Args a, In<T> x, Acc<T> y) {
        constexpr int64_t width = 256;  // columns summed at once, in registers and first-level cache
        Compute<T> sum[width];
        for (int64_t j0 = 0; j0 < x.cols; j0 += width) {
            const int64_t n = std::min(width, x.cols - j0);
            for (int64_t j = 0; j < n; ++j) sum[j] = a.first ? Compute<T>(0) : Compute<T>(y.data[j0 + j]);
            for (int64_t i = 0; i < x.rows; ++i) {
                const T* __restrict row = x.row(i) + j0;
                for (int64_t j = 0; j < n; ++j) sum[j] += Compute<T>(row[j]);
            }
            for (int64_t j = 0; j < n; ++j) y.data[j0 + j] = T(sum[j]);
        }
    }
    static void cuda(Args a, In<T> x, Acc<T> y, Stream stream);
};

template <class T>
struct SumCols {
    static constexpr auto name = "sum_cols", formula = "y(i, 0) = sum over j of x(i, j)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = SumArgs;
    static Cost cost(Args, In<T> x, Acc<T> y) { return {double(x.size()), bytes_of_views(x, y)}; }
    static void cpu(Args a, In<T> x, Acc<T> y) {
        for (int64_t i = 0; i < x.rows; ++i) {
            Compute<T> sum = a.first ? Compute<T>(0) : Compute<T>(y(i, 0));
            for (int64_t j = 0; j < x.cols; ++j) sum += Compute<T>(x(i, j));
            y(i, 0) = T(sum);
        }
    }
    static void cuda(Args a, In<T> x, Acc<T> y, Stream stream);
};

template <class T>
struct SumAll {
    static constexpr auto name = "sum_all", formula = "y(0, 0) = sum over i, j of x(i, j)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = SumArgs;
    static Cost cost(Args, In<T> x, Acc<T> y) { return {double(x.size()), bytes_of_views(x, y)}; }
    static void cpu(Args a, In<T> x, Acc<T> y) {
        Compute<T> sum = a.first ? Compute<T>(0) : Compute<T>(y(0, 0));
        for (int64_t i = 0; i < x.rows; ++i) {
            Compute<T> row = 0;  // row by row: the error grows with rows + cols, not with their product
            for (int64_t j = 0; j < x.cols; ++j) row += Compute<T>(x(i, j));
            sum += row;
        }
        y(0, 0) = T(sum);
    }
    static void cuda(Args a, In<T> x, Acc<T> y, Stream stream);
};

#ifdef TESSERA_CUDA
template <class T>
struct SumTerm {
    In<T> x;
    __device__ Sums<Compute<T>, 1> operator()(int64_t i, int64_t j) const { return {{Compute<T>(x(i, j))}}; }
    __device__ Compute<T> operator()(int64_t k) const { return Compute<T>(x(k / x.cols, k % x.cols)); }
};
template <class T>
struct AddSum {
    SumArgs a;
    Acc<T> y;
    __device__ void add(T& to, Compute<T> sum) const { to = T(sum + (a.first ? Compute<T>(0) : Compute<T>(to))); }
    __device__ void operator()(int64_t j, const Sums<Compute<T>, 1>& sum) const { add(y.data[j], sum.of[0]); }
    __device__ void operator()(Compute<T> sum) const { add(y.data[0], sum); }
};
template <class T>
__global__ void sum_cols_kernel(SumArgs a, In<T> x, Acc<T> y) {  // one block per row
    for (int64_t i = blockIdx.x; i < x.rows; i += gridDim.x) {
        Compute<T> sum = 0;
        for (int64_t j = threadIdx.x; j < x.cols; j += blockDim.x) sum += Compute<T>(x(i, j));
        sum = block_sum(sum);
        if (threadIdx.x == 0) y(i, 0) = T(sum + (a.first ? Compute<T>(0) : Compute<T>(y(i, 0))));
    }
}
template <class T>
void SumRows<T>::cuda(Args a, In<T> x, Acc<T> y, Stream stream) {
    sum_columns_on_cuda<Sums<Compute<T>, 1>>(x.rows, x.cols, SumTerm<T>{x}, AddSum<T>{a, y}, stream, name);
}
template <class T>
void SumCols<T>::cuda(Args a, In<T> x, Acc<T> y, Stream stream) {
    launch(name, stream, blocks_for_rows(x.rows), sum_cols_kernel<T>, a, x, y);
}
template <class T>
void SumAll<T>::cuda(Args a, In<T> x, Acc<T> y, Stream stream) {
    sum_on_cuda<Compute<T>>(x.size(), elements_per_thread, SumTerm<T>{x}, AddSum<T>{a, y}, stream, name);
}
#endif
const Register<SumRows<float>, SumRows<double>, SumRows<bf16>, SumCols<float>, SumCols<double>, SumCols<bf16>,
               SumAll<float>, SumAll<double>, SumAll<bf16>>
    codelets;
const Example example(codelets, activation_sizes, [](ExampleGraph& e, Shape s) {
    const Tensor x = e.input(s);
    e.keep_with_gradients(sum_all(x), {x});
    e.keep(sum_rows(x));  // their gradients are products
    e.keep(sum_cols(x));
});

// A column or row of ones of x's type, with which a gradient is spread out by a product.
Tensor ones(Tensor like, Shape shape, Grid grid) {
    return fill(*like.graph, shape, like.dtype(), std::move(grid), 1.0);
}

}  // namespace

Tensor sum_rows(Tensor x) {
    Graph& g = *x.graph;
    Tensor y = g.value("sum_rows", {1, x.shape().cols}, x.dtype(), {{1}, x.grid().col_extents});
    Node node;
    node.op = "sum_rows", node.inputs = {x}, node.outputs = {y};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "sum_rows", [&]<class T>() {
            for (int64_t j = 0; j < x.grid().cols(); ++j)
                for (int64_t i = 0; i < x.grid().rows(); ++i)
                    to.task<SumRows<T>>({i == 0}, to.tile(x, i, j),
                                        i == 0 ? Lowering::first(to.tile(y, 0, j)) : to.tile(y, 0, j));
        });
    };
    node.vjp = [=](const auto& d) {
        return std::vector{gemm(ones(x, {x.shape().rows, 1}, {x.grid().row_extents, {1}}), d[0])};
    };
    require_type<float, double, bf16>(x.dtype(), "sum_rows");
    g.add(std::move(node));
    return y;
}

Tensor sum_cols(Tensor x) {
    Graph& g = *x.graph;
    Tensor y = g.value("sum_cols", {x.shape().rows, 1}, x.dtype(), {x.grid().row_extents, {1}});
    Node node;
    node.op = "sum_cols", node.inputs = {x}, node.outputs = {y};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "sum_cols", [&]<class T>() {
            for (int64_t i = 0; i < x.grid().rows(); ++i)
                for (int64_t j = 0; j < x.grid().cols(); ++j)
                    to.task<SumCols<T>>({j == 0}, to.tile(x, i, j),
                                        j == 0 ? Lowering::first(to.tile(y, i, 0)) : to.tile(y, i, 0));
        });
    };
    node.vjp = [=](const auto& d) {
        return std::vector{gemm(d[0], ones(x, {1, x.shape().cols}, {{1}, x.grid().col_extents}))};
    };
    require_type<float, double, bf16>(x.dtype(), "sum_cols");
    g.add(std::move(node));
    return y;
}

Tensor sum_all(Tensor x) {
    Graph& g = *x.graph;
    Tensor y = g.value("sum_all", {1, 1}, x.dtype(), Grid::whole({1, 1}));
    Node node;
    node.op = "sum_all", node.inputs = {x}, node.outputs = {y};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "sum_all", [&]<class T>() {
            bool first = true;
            for (int64_t i = 0; i < x.grid().rows(); ++i)
                for (int64_t j = 0; j < x.grid().cols(); ++j, first = false)
                    to.task<SumAll<T>>({first}, to.tile(x, i, j),
                                       first ? Lowering::first(to.tile(y, 0, 0)) : to.tile(y, 0, 0));
        });
    };
    node.vjp = [=](const auto& d) { return std::vector{scale_by(ones(x, x.shape(), x.grid()), d[0])}; };
    require_type<float, double, bf16>(x.dtype(), "sum_all");
    g.add(std::move(node));
    return y;
}

}  // namespace tessera
