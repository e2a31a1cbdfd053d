// retile: the same tensor cut elsewhere. One task per new tile reads all old tiles that overlap it. All types.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

// The sources are a rectangle of `across` columns of tiles; the new tile starts at (row0, col0) of the first of them.
struct RetileArgs {
    int64_t row0, col0, across;
};

template <class T>
struct Retile {
    static constexpr auto name = "retile", formula = "Y = X, cut elsewhere";
    static constexpr DType dtype = dtype_of<T>;
    using Args = RetileArgs;
    static Cost cost(Args, InList<T>, Out<T> y) { return {0, 2 * bytes_of_views(y)}; }

    // Calls f(part of x, part of y) for every source, both of one shape.
    template <class F>
    static void overlaps(Args a, InList<T> x, Out<T> y, F&& f) {
        int64_t top = -a.row0;  // of the source, in y's coordinates
        for (int64_t s = 0; s < x.count; s += a.across) {
            int64_t left = -a.col0;
            for (int64_t t = s; t < s + a.across; ++t) {
                const int64_t i0 = top > 0 ? top : 0, j0 = left > 0 ? left : 0;
                const int64_t i1 = std::min(top + x[t].rows, y.rows), j1 = std::min(left + x[t].cols, y.cols);
                if (i1 > i0 && j1 > j0)
                    f(In<T>{x[t].row(i0 - top) + (j0 - left), i1 - i0, j1 - j0, x[t].ld},
                      Out<T>{y.row(i0) + j0, i1 - i0, j1 - j0, y.ld});
                left += x[t].cols;
            }
            top += x[s].rows;
        }
    }
    static void cpu(Args a, InList<T> x, Out<T> y) {
        overlaps(a, x, y, [](In<T> from, Out<T> to) {
            for (int64_t i = 0; i < to.rows; ++i) std::copy_n(from.row(i), to.cols, to.row(i));
        });
    }
    static void cuda(Args a, InList<T> x, Out<T> y, Stream stream);
};
#ifdef TESSERA_CUDA
template <class T>
void Retile<T>::cuda(Args a, InList<T> x, Out<T> y, Stream stream) {
    overlaps(a, x, y, [&](In<T> from, Out<T> to) {
        check(cudaMemcpy2DAsync(to.data, size_t(to.ld) * sizeof(T), from.data, size_t(from.ld) * sizeof(T),
                                size_t(to.cols) * sizeof(T), size_t(to.rows), cudaMemcpyDeviceToDevice, stream),
              "cudaMemcpy2DAsync");
    });
}
#endif
const Register<Retile<float>, Retile<double>, Retile<bf16>, Retile<int32_t>, Retile<uint8_t>> codelets;
const Example example(codelets, activation_sizes, [](ExampleGraph& e, Shape s) {
    e.keep(retile(e.input(s, {{s.rows}, cut(s.cols, s.cols / 2)}), Grid::whole(s)));
});

// Tiles of `cuts` that [begin, end) touches: first, one past the last, and where the first starts.
struct Touched {
    int64_t first, last, start;
};
Touched touched(const std::vector<int64_t>& cuts, int64_t begin, int64_t end) {
    Touched t{0, 0, 0};
    int64_t at = 0;
    for (size_t i = 0; i < cuts.size(); at += cuts[i++]) {
        if (at <= begin) t.first = int64_t(i), t.start = at;
        if (at < end) t.last = int64_t(i) + 1;
    }
    return t;
}

}  // namespace

Tensor retile(Tensor x, const Grid& grid) {
    Graph& g = *x.graph;
    Tensor y = g.value("retile", x.shape(), x.dtype(), grid);
    Node node;
    node.op = "retile", node.inputs = {x}, node.outputs = {y};
    node.attributes = to_string(x.grid()) + " to " + to_string(y.grid());  // `grid` may lie in the graph, which grew
    const auto lower = [=]<class T>(Lowering& to) {
        int64_t row = 0;
        for (int64_t i = 0; i < y.grid().rows(); row += y.grid().row_extents[size_t(i++)]) {
            const auto r = touched(x.grid().row_extents, row, row + y.grid().row_extents[size_t(i)]);
            int64_t col = 0;
            for (int64_t j = 0; j < y.grid().cols(); col += y.grid().col_extents[size_t(j++)]) {
                const auto c = touched(x.grid().col_extents, col, col + y.grid().col_extents[size_t(j)]);
                std::vector<Lowering::Ref> sources;
                for (int64_t k = r.first; k < r.last; ++k)
                    for (int64_t l = c.first; l < c.last; ++l) sources.push_back(to.tile(x, k, l));
                to.task<Retile<T>>({row - r.start, col - c.start, c.last - c.first}, sources, to.tile(y, i, j));
            }
        }
    };
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16, int32_t, uint8_t>(x.dtype(), "retile",
                                                        [&]<class T>() { lower.template operator()<T>(to); });
    };
    node.vjp = [=](const auto& d) { return std::vector{on_grid(d[0], x.grid())}; };
    g.add(std::move(node));
    return y;
}

}  // namespace tessera
