// transpose: y(j, i) = x(i, j); tile (i, j) of x becomes tile (j, i) of y. f32, f64, bf16.
#include <algorithm>

#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

constexpr int64_t block = 32;  // rows and columns moved at once: both sides stay in first-level cache

template <class T>
struct Transpose {
    static constexpr auto name = "transpose", formula = "y(j, i) = x(i, j)";
    static constexpr DType dtype = dtype_of<T>;
    static Cost cost(NoArgs, In<T> x, Out<T> y) { return {0, bytes_of_views(x, y)}; }
    static void cpu(NoArgs, In<T> x, Out<T> y) {
        for (int64_t i0 = 0; i0 < x.rows; i0 += block)
            for (int64_t j0 = 0; j0 < x.cols; j0 += block) {
                const int64_t rows = std::min(block, x.rows - i0), cols = std::min(block, x.cols - j0);
                move(rows, cols, &x(i0, j0), x.ld, &y(j0, i0), y.ld);
            }
    }
    static void cuda(NoArgs, In<T> x, Out<T> y, Stream stream);

 private:
    // Through a local copy: rows that lie a power of two apart would push each other out of the cache.
    static void move(int64_t rows, int64_t cols, const T* __restrict x, int64_t ldx, T* __restrict y, int64_t ldy) {
        T part[block][block + 1];
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < cols; ++j) part[i][j] = x[i * ldx + j];
        for (int64_t j = 0; j < cols; ++j)
            for (int64_t i = 0; i < rows; ++i) y[j * ldy + i] = part[i][j];
    }
};
#ifdef TESSERA_CUDA
// One 32 x 32 block at a time through shared memory, so that both sides are touched in whole lines; the 33rd column
// spreads a column over all banks.
template <class T>
__global__ void transpose_kernel(In<T> x, Out<T> y) {
    __shared__ Compute<T> part[block][block + 1];
    const int64_t across = (x.cols + block - 1) / block, blocks = across * ((x.rows + block - 1) / block);
    const int64_t lane = threadIdx.x % block, first = threadIdx.x / block, step = blockDim.x / block;
    for (int64_t b = blockIdx.x; b < blocks; b += gridDim.x) {
        const int64_t i0 = b / across * block, j0 = b % across * block;
        for (int64_t k = first; k < block; k += step)
            if (i0 + k < x.rows && j0 + lane < x.cols) part[k][lane] = x(i0 + k, j0 + lane);
        __syncthreads();
        for (int64_t k = first; k < block; k += step)
            if (j0 + k < x.cols && i0 + lane < x.rows) y(j0 + k, i0 + lane) = T(part[lane][k]);
        __syncthreads();  // the next block overwrites `part`
    }
}
template <class T>
void Transpose<T>::cuda(NoArgs, In<T> x, Out<T> y, Stream stream) {
    const int64_t blocks = (x.rows + block - 1) / block * ((x.cols + block - 1) / block);
    launch(name, stream, unsigned(std::min<int64_t>(blocks, 65535)), transpose_kernel<T>, x, y);
}
#endif
const Register<Transpose<float>, Transpose<double>, Transpose<bf16>> codelets;
const Example example(codelets, transpose);

}  // namespace

Tensor transpose(Tensor x) {
    require_type<float, double, bf16>(x.dtype(), "transpose");
    Graph& g = *x.graph;
    Tensor y =
        g.value("transpose", {x.shape().cols, x.shape().rows}, x.dtype(), {x.grid().col_extents, x.grid().row_extents});
    Node node;
    node.op = "transpose", node.inputs = {x}, node.outputs = {y};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(x.dtype(), "transpose", [&]<class T>() {
            for (int64_t i = 0; i < x.grid().rows(); ++i)
                for (int64_t j = 0; j < x.grid().cols(); ++j)
                    to.task<Transpose<T>>({}, to.tile(x, i, j), to.tile(y, j, i));
        });
    };
    node.vjp = [](const auto& d) { return std::vector{transpose(d[0])}; };
    g.add(std::move(node));
    return y;
}

}  // namespace tessera
