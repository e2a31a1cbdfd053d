// gemm: C = alpha op(A) op(B) + beta C, op = identity or transpose. f32, f64, bf16 (products and sums in f32).
// A, B, C are cut into tiles; one task per (i, j, k), contributions to a tile of C commute.
#include "codelets/gemm.h"

#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "codelets/product.h"
#include "core/examples.h"

namespace tessera {
namespace {

template <class T>
struct Gemm {
    static constexpr auto name = "gemm", formula = "C = alpha op(A) op(B) + beta C";
    static constexpr DType dtype = dtype_of<T>;
    struct Args {
        double alpha, beta;
        bool ta, tb, tf32;
    };
    static uint32_t key(Args x) { return x.ta | x.tb << 1 | x.tf32 << 2 | (x.beta != 0) << 3; }
    static Cost cost(Args x, In<T> a, In<T> b, Acc<T> c) {
        const double k = double(x.ta ? a.rows : a.cols);
        return {2 * k * double(c.size()), bytes_of_views(a, b, c) * 1.0 + (x.beta != 0 ? bytes_of_views(c) : 0.0)};
    }
    static constexpr auto cpu_label = dtype_of<T> == DType::f32   ? "oneDNN"
                                      : dtype_of<T> == DType::f64 ? "OpenBLAS"
                                                                  : "oneDNN, widened";
    static void cpu(Args x, In<T> a, In<T> b, Acc<T> c) {
        const auto p = product(x.ta, x.tb, x.alpha, a, b, x.beta, c);
        if constexpr (dtype_of<T> == DType::f32) blas::onednn(p);
        else if constexpr (dtype_of<T> == DType::f64) blas::openblas(p);
        else blas::widened(p);
    }
    static constexpr auto cuda_label = "cuBLAS";
    static void cuda(Args x, In<T> a, In<T> b, Acc<T> c, Stream stream);
};
#ifdef TESSERA_CUDA
template <class T>
void Gemm<T>::cuda(Args x, In<T> a, In<T> b, Acc<T> c, Stream stream) {
    cublas_product(product(x.ta, x.tb, x.alpha, a, b, x.beta, c), x.tf32, stream);
}
#endif
struct GemmF32 : Gemm<float> {
    static void cpu_openblas(Args x, In<float> a, In<float> b, Acc<float> c) {
        blas::openblas(product(x.ta, x.tb, x.alpha, a, b, x.beta, c));
    }
    static constexpr std::tuple cpu_alternatives{Named{"OpenBLAS", &cpu_openblas}};
};
template <class T>
using GemmOf = std::conditional_t<std::is_same_v<T, float>, GemmF32, Gemm<T>>;

// The first contribution where C is a tensor of its own, which stays as it is: Y = beta C, then the product on top.
template <class T>
struct GemmAdd {
    static constexpr auto name = "gemm_add", formula = "Y = alpha op(A) op(B) + beta C";
    static constexpr DType dtype = dtype_of<T>;
    using Args = typename Gemm<T>::Args;
    static uint32_t key(Args x) { return Gemm<T>::key(x); }
    static Cost cost(Args x, In<T> a, In<T> b, In<T> c, Acc<T> y) {
        return {Gemm<T>::cost(x, a, b, y).flops + 2 * double(c.size()), bytes_of_views(a, b, c, y)};
    }
    HD static Compute<T> f(Args x, Compute<T> c) {  // beta = 0: C may be NaN
        return x.beta == 0 ? Compute<T>(0) : Compute<T>(x.beta) * c;
    }
    static void cpu(Args x, In<T> a, In<T> b, In<T> c, Acc<T> y) {
        for (int64_t i = 0; i < y.rows; ++i)
            for (int64_t j = 0; j < y.cols; ++j) y(i, j) = T(f(x, c(i, j)));
        Gemm<T>::cpu({x.alpha, 1.0, x.ta, x.tb, x.tf32}, a, b, y);
    }
    static void cuda(Args x, In<T> a, In<T> b, In<T> c, Acc<T> y, Stream stream);
};
#ifdef TESSERA_CUDA
template <class T>
void GemmAdd<T>::cuda(Args x, In<T> a, In<T> b, In<T> c, Acc<T> y, Stream stream) {
    launch(name, stream, blocks_for(y.size()), elementwise_kernel<GemmAdd, Args, Acc<T>, In<T>>, x, y, c);
    Gemm<T>::cuda({x.alpha, 1.0, x.ta, x.tb, x.tf32}, a, b, y, stream);
}
#endif
const Register<GemmF32, Gemm<double>, Gemm<bf16>, GemmAdd<float>, GemmAdd<double>, GemmAdd<bf16>> codelets;
// The inner extent is cut in two: a first product, which overwrites, and one that adds.
const Example example(codelets, square_sizes, [](ExampleGraph& e, int64_t n) {
    const Shape wide{n, 2 * n}, tall{2 * n, n};
    const Grid wide_cut{{n}, {n, n}}, tall_cut{{n, n}, {n}};
    const Tensor c = e.input({n, n});
    for (bool ta : {false, true})
        for (bool tb : {false, true}) {
            const Tensor a = ta ? e.input(tall, tall_cut) : e.input(wide, wide_cut);
            const Tensor b = tb ? e.input(wide, wide_cut) : e.input(tall, tall_cut);
            e.keep(gemm(a, b, {.ta = ta, .tb = tb}));
            if (!ta && !tb) e.keep(gemm(a, b, c, {.beta = 1}));
        }
});

}  // namespace

// The grids of op(a) op(b): rows and columns of the product, and what is summed over.
struct ProductGrid {
    std::vector<int64_t> rows, inner, cols;
};
static ProductGrid product_grid(Tensor a, Tensor b, const GemmOptions& o) {
    const int64_t k = o.ta ? a.shape().rows : a.shape().cols;
    require(k == (o.tb ? b.shape().cols : b.shape().rows) && a.dtype() == b.dtype(), "gemm",
            "inner extents and types must match", {a, b});
    return {o.ta ? a.grid().col_extents : a.grid().row_extents, o.ta ? a.grid().row_extents : a.grid().col_extents,
            o.tb ? b.grid().row_extents : b.grid().col_extents};
}

static Tensor product_of(Tensor a, Tensor b, Tensor c, GemmOptions o) {
    const ProductGrid grid = product_grid(a, b, o);
    b = on_grid(b, o.tb ? Grid{grid.cols, grid.inner} : Grid{grid.inner, grid.cols});
    Graph& g = *a.graph;
    const Shape shape{o.ta ? a.shape().cols : a.shape().rows, o.tb ? b.shape().rows : b.shape().cols};
    Tensor y = g.value("gemm", shape, a.dtype(), {grid.rows, grid.cols});
    Node node;
    node.op = "gemm", node.inputs = {a, b}, node.outputs = {y};
    node.attributes = std::string(o.ta ? "ta " : "") + (o.tb ? "tb " : "") + "alpha=" + std::to_string(o.alpha);
    if (c) {
        require(c.shape() == y.shape() && c.dtype() == y.dtype(), "gemm", "c needs shape and type of the product",
                {c, y});
        node.inputs.push_back(c = on_grid(c, y.grid()));
        node.attributes += " beta=" + std::to_string(o.beta);
    }
    const auto lower = [=]<class T>(Lowering& to) {
        for (int64_t i = 0; i < int64_t(grid.rows.size()); ++i)
            for (int64_t j = 0; j < int64_t(grid.cols.size()); ++j)
                for (int64_t l = 0; l < int64_t(grid.inner.size()); ++l) {
                    const auto ref_a = o.ta ? to.tile(a, l, i) : to.tile(a, i, l);
                    const auto ref_b = o.tb ? to.tile(b, j, l) : to.tile(b, l, j);
                    const auto ref_y = l == 0 ? Lowering::first(to.tile(y, i, j)) : to.tile(y, i, j);
                    if (c && l == 0)
                        to.task<GemmAdd<T>>({o.alpha, o.beta, o.ta, o.tb, o.tf32}, ref_a, ref_b, to.tile(c, i, j),
                                            ref_y);
                    else to.task<GemmOf<T>>({o.alpha, l == 0 ? 0.0 : 1.0, o.ta, o.tb, o.tf32}, ref_a, ref_b, ref_y);
                }
    };
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(y.dtype(), "gemm", [&]<class T>() { lower.template operator()<T>(to); });
    };
    // dA = alpha dY op(B)^T, dB = alpha op(A)^T dY, each transposed where the operand was; dC = beta dY.
    node.vjp = [=](const std::vector<Tensor>& d) {
        const auto with = [&](bool ta, bool tb) { return GemmOptions{o.alpha, 0, ta, tb, o.tf32}; };
        std::vector<Tensor> dx = {o.ta ? gemm(b, d[0], with(o.tb, true)) : gemm(d[0], b, with(false, !o.tb)),
                                  o.tb ? gemm(d[0], a, with(true, o.ta)) : gemm(a, d[0], with(!o.ta, false))};
        if (c) dx.push_back(scale(d[0], o.beta));
        return dx;
    };
    require_type<float, double, bf16>(y.dtype(), "gemm");
    g.add(std::move(node));
    return y;
}

void gemm_task(Lowering& to, DType type, const GemmOptions& o, Lowering::Ref a, Lowering::Ref b, Lowering::Ref c) {
    dispatch<float, double, bf16>(type, "gemm", [&]<class T>() {
        to.task<GemmOf<T>>({o.alpha, o.beta, o.ta, o.tb, o.tf32}, a, b, c);
    });
}

void gemm_into(Tensor c, Tensor a, Tensor b, GemmOptions o) {
    const ProductGrid grid = product_grid(a, b, o);
    require(c.grid() == Grid{grid.rows, grid.cols} && c.dtype() == a.dtype(), "gemm",
            "c needs shape, grid and type of the product", {a, b, c});
    require((o.tb ? b.grid().col_extents : b.grid().row_extents) == grid.inner, "gemm",
            "a and b must be cut alike where they are summed over", {a, b});
    Node node;
    node.op = "gemm", node.inputs = {a, b}, node.updates = {c};
    node.attributes = std::string(o.ta ? "ta " : "") + (o.tb ? "tb " : "") + "alpha=" + std::to_string(o.alpha) +
                      " beta=" + std::to_string(o.beta);
    node.lower = [=](Lowering& to) {
        for (int64_t i = 0; i < int64_t(grid.rows.size()); ++i)
            for (int64_t j = 0; j < int64_t(grid.cols.size()); ++j)
                for (int64_t l = 0; l < int64_t(grid.inner.size()); ++l) {
                    const auto at = to.tile(c, i, j);
                    const bool scales = l == 0 && o.beta != 1;  // before all others, which add to it
                    gemm_task(to, c.dtype(), {o.alpha, l == 0 ? o.beta : 1.0, o.ta, o.tb, o.tf32},
                              o.ta ? to.tile(a, l, i) : to.tile(a, i, l), o.tb ? to.tile(b, j, l) : to.tile(b, l, j),
                              !scales       ? at
                              : o.beta == 0 ? Lowering::first(at)
                                            : Lowering::alone(at));
                }
    };
    require_type<float, double, bf16>(c.dtype(), "gemm");
    c.graph->add(std::move(node));
}

Tensor gemm(Tensor a, Tensor b, GemmOptions o) { return product_of(a, b, {}, o); }

Tensor gemm(Tensor a, Tensor b, Tensor c, GemmOptions o) { return product_of(a, b, c, o); }

}  // namespace tessera
