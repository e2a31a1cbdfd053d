// codelets/conv2d_cuda.h - conv2d and its gradients on the device by im2col and cuBLAS: a matrix of columns in the
// worker's workspace, a block of rows at a time, then products. Empty where nvcc is absent.
#pragma once
#include "codelets/conv2d.h"
#include "codelets/conv2d_implicit.h"
#include "codelets/product.h"

#ifdef TESSERA_CUDA
namespace tessera::device {

// count products C = op(A) op(B) + beta C whose operands lie so many elements apart.
struct Batch {
    int64_t count, a, b, c;
};
template <class T, class R = T>
void cublas_batched(const blas::Product<T, R>& p, Batch batch, cudaStream_t stream) {
    constexpr cudaDataType_t type = cuda_type<T>;
    constexpr auto compute = dtype_of<T> == DType::f64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
    const Compute<T> alpha = Compute<T>(p.alpha), beta = Compute<T>(p.beta);
    const auto op = [](bool t) { return t ? CUBLAS_OP_T : CUBLAS_OP_N; };
    check(cublasGemmStridedBatchedEx(cublas(stream), op(p.tb), op(p.ta), int(p.n), int(p.m), int(p.k), &alpha, p.b,
                                     type, int(p.ldb), batch.b, p.a, type, int(p.lda), batch.a, &beta, p.c,
                                     cuda_type<R>, int(p.ldc), batch.c, int(batch.count), compute, CUBLAS_GEMM_DEFAULT),
          "cublasGemmStridedBatchedEx");
}

// Part of the columns of output pixels [first, first + rows): the channels of one tile of x, ordered (group, tap,
// channel); channels of a group, over all tiles: `channels`.
template <class T>
__global__ void gather_kernel(ConvShape s, In<T> x, int64_t channel0, int64_t channels, int64_t first, int64_t rows,
                              T* columns) {
    const int64_t taps = s.taps(), depth = s.groups * taps * channels, step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < rows * taps * x.cols; e += step) {
        const int64_t c = e % x.cols, tap = e / x.cols % taps, m = e / x.cols / taps;
        const int64_t channel = channel0 + c, pixel = s.input_of(first + m, tap);
        columns[m * depth + (channel / channels * taps + tap) * channels + channel % channels] =
            pixel < 0 ? T(0.f) : x(pixel, c);
    }
}
// The reverse: element (pixel, c) of whole images is the sum of the columns that it went into. dx begins with them.
template <class T>
__global__ void scatter_kernel(ConvShape s, const T* columns, int64_t images, Out<T> dx) {
    using C = Compute<T>;
    const int64_t taps = s.taps(), channels = dx.cols / s.groups, depth = taps * dx.cols;
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < images * s.inputs() * dx.cols; e += step) {
        const int64_t pixel = e / dx.cols, c = e % dx.cols;
        C sum = 0;
        for (int64_t tap = 0; tap < taps; ++tap) {
            const int64_t m = s.output_of(pixel, tap);
            if (m >= 0) sum += C(columns[m * depth + (c / channels * taps + tap) * channels + c % channels]);
        }
        dx(pixel, c) = T(sum);
    }
}
template <class T>
__global__ void finish_kernel(Activation activation, const T* bias, Out<T> y) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < y.size(); e += step) {
        T& value = y(e / y.cols, e % y.cols);
        const Compute<T> z = value;
        value = T(apply(activation, bias ? z + Compute<T>(bias[e % y.cols]) : z));
    }
}

template <class T>
void finish(const ConvArgs& a, In<T> b, Out<T> y, cudaStream_t stream) {
    if (a.activation == Activation::none && !a.bias) return;
    launch("conv2d, bias and activation", stream, blocks_for(y.size()), finish_kernel<T>, a.activation,
           a.bias ? b.data : nullptr, y);
}
template <class T>
void gather(const ConvShape& s, InList<T> x, int64_t first, int64_t rows, T* columns, cudaStream_t stream) {
    const int64_t channels = columns_of(x) / s.groups;
    int64_t channel0 = 0;
    for (const In<T>& tile : x) {
        launch("conv2d, columns", stream, blocks_for(rows * s.taps() * tile.cols), gather_kernel<T>, s, tile, channel0,
               channels, first, rows, columns);
        channel0 += tile.cols;
    }
}
// Products of so few columns leave the device idle; the implicit kernels have others for them.
inline bool small_groups(const ConvShape& s, int64_t channels, int64_t filters) {
    return s.groups > 1 && channels / s.groups * (filters / s.groups) < 64;
}

template <class T>
void forward(ConvArgs a, InList<T> x, In<T> w, In<T> b, Out<T> y, cudaStream_t stream) {
    const ConvShape& s = a.shape;
    const int64_t all = columns_of(x), depth = s.taps() * all, filters = y.cols / s.groups;
    if (s.pointwise() && x.count == 1) {  // a sum over several tiles would be rounded after each
        cublas_batched<T>({false, true, y.rows, filters, w.cols, 1, x[0].data, x[0].ld, w.data, w.ld, 0, y.data, y.ld},
                          {s.groups, w.cols, filters * w.ld, filters}, stream);
        return finish(a, b, y, stream);
    }
    const int64_t block = rows_that_fit(y.rows, depth * int64_t(sizeof(T)), 0);
    if (block == 0 || small_groups(s, all, y.cols)) return implicit::forward(a, x, w, b, y, stream);
    T* columns = static_cast<T*>(workspace(block * depth * int64_t(sizeof(T)), stream));
    for (int64_t m = 0; m < y.rows; m += block) {
        const int64_t rows = std::min(block, y.rows - m);
        gather(s, x, m, rows, columns, stream);
        cublas_batched<T>({false, true, rows, filters, w.cols, 1, columns, depth, w.data, w.ld, 0, y.row(m), y.ld},
                          {s.groups, w.cols, filters * w.ld, filters}, stream);
    }
    finish(a, b, y, stream);
}

template <class T>
void data_gradient(ConvGradientArgs a, In<T> dz, In<T> w, Out<T> dx, cudaStream_t stream) {
    const ConvShape& s = a.shape;
    const int64_t channels = dx.cols / s.groups, filters = dz.cols / s.groups, per_group = s.taps() * channels;
    const int64_t of_w = channels_per_group(s, w), depth = s.taps() * dx.cols;
    const auto product = [&](int64_t m, int64_t rows, T* to,
                             int64_t ld) {  // the channels of w may be wider: tap by tap
        if (channels == of_w)
            return cublas_batched<T>(
                {false, false, rows, per_group, filters, 1, dz.row(m), dz.ld, w.data, w.ld, 0, to, ld},
                {s.groups, filters, filters * w.ld, per_group}, stream);
        cublas_batched<T>(
            {false, false, rows, channels, filters, 1, dz.row(m), dz.ld, w.data + a.channel0, w.ld, 0, to, ld},
            {s.taps(), 0, of_w, channels}, stream);
    };
    if (s.pointwise()) return product(0, dz.rows, dx.data, dx.ld);
    const int64_t images = dz.rows / s.outputs();
    const int64_t block = rows_that_fit(images, s.outputs() * depth * int64_t(sizeof(T)), 0);
    if (block == 0 || small_groups(s, dx.cols, dz.cols)) return implicit::data_gradient(a, dz, w, dx, stream);
    T* columns = static_cast<T*>(workspace(block * s.outputs() * depth * int64_t(sizeof(T)), stream));
    for (int64_t i = 0; i < images; i += block) {
        const int64_t n = std::min(block, images - i);
        product(i * s.outputs(), n * s.outputs(), columns, depth);
        const Out<T> to{dx.row(i * s.inputs()), n * s.inputs(), dx.cols, dx.ld};
        launch("conv2d_backward_data, columns", stream, blocks_for(to.size()), scatter_kernel<T>, s, columns, n, to);
    }
}

template <class T>
__global__ void add_rounded_kernel(bool first, const Compute<T>* sum, Acc<T> dw) {
    using C = Compute<T>;
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < dw.size(); e += step) {
        T& to = dw(e / dw.cols, e % dw.cols);
        to = T(sum[e] + (first ? C(0) : C(to)));
    }
}
template <class T>
void weight_gradient(ConvGradientArgs a, InList<T> x, In<T> dz, Acc<T> dw, cudaStream_t stream) {
    using C = Compute<T>;
    const ConvShape& s = a.shape;
    const int64_t all = columns_of(x), depth = s.taps() * all, filters = dz.cols / s.groups;
    if (s.pointwise()) {
        int64_t channel = 0;
        for (const In<T>& tile : x) {
            const int64_t channels = tile.cols / s.groups;
            cublas_batched<T>({true, false, filters, channels, dz.rows, 1, dz.data, dz.ld, tile.data, tile.ld,
                               a.first ? 0.0 : 1.0, dw.data + channel, dw.ld},
                              {s.groups, filters, channels, filters * dw.ld}, stream);
            channel += channels;
        }
        return;
    }
    const int64_t row_bytes = depth * int64_t(sizeof(T));
    int64_t block = rows_that_fit(dz.rows, row_bytes, 0);
    const bool wide = !std::is_same_v<T, C> && block < dz.rows;  // bf16 would be rounded after each block
    const int64_t sum_bytes = wide ? aligned(dw.size()) * int64_t(sizeof(C)) : 0;
    if (wide) block = rows_that_fit(dz.rows, row_bytes, sum_bytes);
    if (block == 0 || small_groups(s, all, dz.cols)) return implicit::weight_gradient(a, x, dz, dw, stream);
    char* memory = static_cast<char*>(workspace(sum_bytes + block * row_bytes, stream));
    C* sum = reinterpret_cast<C*>(memory);
    T* columns = reinterpret_cast<T*>(memory + sum_bytes);
    for (int64_t m = 0; m < dz.rows; m += block) {
        const int64_t rows = std::min(block, dz.rows - m);
        gather(s, x, m, rows, columns, stream);
        const auto product = [&]<class R>(bool writes, R* to, int64_t ld) {
            cublas_batched<T, R>(
                {true, false, filters, dw.cols, rows, 1, dz.row(m), dz.ld, columns, depth, writes ? 0.0 : 1.0, to, ld},
                {s.groups, filters, dw.cols, filters * ld}, stream);
        };
        if (wide) product(m == 0, sum, dw.cols);
        else product(a.first && m == 0, dw.data, dw.ld);
    }
    if (!wide) return;
    launch("conv2d_backward_weights, sum", stream, blocks_for(dw.size()), add_rounded_kernel<T>, a.first, sum, dw);
}

}  // namespace tessera::device
#endif
