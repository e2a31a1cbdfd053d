// cudnn.cpp - convolutions with channels last: maps [n, h, w, c], filters [k, h, w, c of the group].
#include "cudnn.h"

#include <cstring>
#include <vector>

#include "elements.h"

struct cudnnTensorStruct {
    cudnnDataType_t type;
    int64_t n, c, h, w;
};
struct cudnnFilterStruct {
    cudnnDataType_t type;
    int64_t k, c, h, w;
};
struct cudnnConvolutionStruct {
    int64_t pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, groups = 1;
    cudnnDataType_t computed;
    cudnnMathType_t math;
};

namespace {

constexpr size_t large_workspace = 8192;  // of algorithm 0; algorithm 1 needs none

cudaDataType_t element(cudnnDataType_t t) { return t == CUDNN_DATA_FLOAT ? CUDA_R_32F : CUDA_R_16BF; }

cudnnStatus_t status_of(const cudnnTensorStruct& x, const cudnnFilterStruct& w, const cudnnConvolutionStruct& d,
                        const cudnnTensorStruct& y) {
    const auto extent = [](int64_t in, int64_t pad, int64_t kernel, int64_t dilation, int64_t stride) {
        return (in + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
    };
    if (x.c != w.c * d.groups || w.k != y.c || w.k % d.groups != 0 || x.n != y.n || x.type != w.type ||
        x.type != y.type || y.h != extent(x.h, d.pad_h, w.h, d.dilation_h, d.stride_h) ||
        y.w != extent(x.w, d.pad_w, w.w, d.dilation_w, d.stride_w))
        return CUDNN_STATUS_BAD_PARAM;
    if (x.type == CUDNN_DATA_DOUBLE || d.computed != CUDNN_DATA_FLOAT) return CUDNN_STATUS_NOT_SUPPORTED;
    if (x.type == CUDNN_DATA_BFLOAT16 && d.math == CUDNN_FMA_MATH) return CUDNN_STATUS_NOT_SUPPORTED;
    return CUDNN_STATUS_SUCCESS;
}

// f(index into x, into w, into y) for every product of a convolution.
template <class F>
void each_product(const cudnnTensorStruct& x, const cudnnFilterStruct& w, const cudnnConvolutionStruct& d,
                  const cudnnTensorStruct& y, F f) {
    const int64_t filters = w.k / d.groups;
    for (int64_t n = 0; n < y.n; ++n)
        for (int64_t oh = 0; oh < y.h; ++oh)
            for (int64_t ow = 0; ow < y.w; ++ow)
                for (int64_t kh = 0; kh < w.h; ++kh)
                    for (int64_t kw = 0; kw < w.w; ++kw) {
                        const int64_t ih = oh * d.stride_h - d.pad_h + kh * d.dilation_h,
                                      iw = ow * d.stride_w - d.pad_w + kw * d.dilation_w;
                        if (ih < 0 || ih >= x.h || iw < 0 || iw >= x.w) continue;
                        for (int64_t k = 0; k < w.k; ++k)
                            for (int64_t c = 0; c < w.c; ++c)
                                f(((n * x.h + ih) * x.w + iw) * x.c + k / filters * w.c + c,
                                  ((k * w.h + kh) * w.w + kw) * w.c + c, ((n * y.h + oh) * y.w + ow) * y.c + k);
                    }
}

// to = alpha sum + beta to, each sum over the products that f adds to it.
template <class Add>
cudnnStatus_t sums(const void* alpha, const void* beta, void* to, cudnnDataType_t type, int64_t size, int algorithm,
                   void* workspace, size_t bytes, Add add) {
    if (algorithm == 0 && bytes < large_workspace) return CUDNN_STATUS_BAD_PARAM;
    if (algorithm == 0) std::memset(workspace, 0xff, large_workspace);
    std::vector<double> sum(size_t(size), 0.0);
    add(sum.data());
    for (int64_t i = 0; i < size; ++i)
        emulated::put(to, element(type), i, emulated::factor(alpha, false) * sum[size_t(i)],
                      emulated::factor(beta, false));
    return CUDNN_STATUS_SUCCESS;
}
int64_t size_of(const cudnnTensorStruct& t) { return t.n * t.c * t.h * t.w; }
int64_t size_of(const cudnnFilterStruct& t) { return t.k * t.c * t.h * t.w; }

template <class Perf>
cudnnStatus_t rank(cudnnStatus_t possible, const cudnnConvolutionStruct& d, int wanted, int* returned, Perf* results) {
    *returned = 0;
    if (possible != CUDNN_STATUS_SUCCESS) return possible;
    for (int i = 0; i < 2 && i < wanted; ++i)
        results[(*returned)++] = {decltype(Perf::algo)(i), CUDNN_STATUS_SUCCESS, float(i + 1),
                                  i == 0 ? large_workspace : 0, d.math};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t room(cudnnStatus_t possible, int algorithm, size_t* bytes) {
    *bytes = algorithm == 0 ? large_workspace : 0;
    return possible;
}

template <class T>
cudnnStatus_t make(T** made) {
    return *made = new T{}, CUDNN_STATUS_SUCCESS;
}
template <class T>
cudnnStatus_t destroy(T* made) {
    return delete made, CUDNN_STATUS_SUCCESS;
}

}  // namespace

const char* cudnnGetErrorString(cudnnStatus_t s) {
    return s == CUDNN_STATUS_BAD_PARAM ? "CUDNN_STATUS_BAD_PARAM" : "CUDNN_STATUS_NOT_SUPPORTED";
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* h) {
    static int one;  // handles are not null
    return *h = reinterpret_cast<cudnnHandle_t>(&one), CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) { return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* d) { return make(d); }
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t d, cudnnTensorFormat_t, cudnnDataType_t type, int n,
                                         int c, int h, int w) {
    if (n < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    return *d = {type, n, c, h, w}, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* d) { return make(d); }
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t type, cudnnTensorFormat_t, int k,
                                         int c, int h, int w) {
    if (k < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    return *d = {type, k, c, h, w}, CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* d) { return make(d); }
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t d, int pad_h, int pad_w, int stride_h,
                                              int stride_w, int dilation_h, int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t computed) {
    if (pad_h < 0 || pad_w < 0 || stride_h < 1 || stride_w < 1 || dilation_h < 1 || dilation_w < 1)
        return CUDNN_STATUS_BAD_PARAM;
    if (mode != CUDNN_CROSS_CORRELATION) return CUDNN_STATUS_NOT_SUPPORTED;
    *d = {pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, 1, computed, CUDNN_TENSOR_OP_MATH};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t d, int groups) {
    return d->groups = groups, groups < 1 ? CUDNN_STATUS_BAD_PARAM : CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math) {
    return d->math = math, CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                     cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t d,
                                                     cudnnTensorDescriptor_t y, int wanted, int* returned,
                                                     cudnnConvolutionFwdAlgoPerf_t* results) {
    return rank(status_of(*x, *w, *d, *y), *d, wanted, returned, results);
}
cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                      cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t d,
                                                      cudnnTensorDescriptor_t y, cudnnConvolutionFwdAlgo_t algorithm,
                                                      size_t* bytes) {
    return room(status_of(*x, *w, *d, *y), algorithm, bytes);
}
cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t, const void* alpha, cudnnTensorDescriptor_t xd, const void* x,
                                      cudnnFilterDescriptor_t wd, const void* w, cudnnConvolutionDescriptor_t d,
                                      cudnnConvolutionFwdAlgo_t algorithm, void* workspace, size_t bytes,
                                      const void* beta, cudnnTensorDescriptor_t yd, void* y) {
    if (const auto s = status_of(*xd, *wd, *d, *yd); s != CUDNN_STATUS_SUCCESS) return s;
    const auto t = element(xd->type);
    return sums(alpha, beta, y, yd->type, size_of(*yd), algorithm, workspace, bytes, [&](double* sum) {
        each_product(*xd, *wd, *d, *yd, [&](int64_t ix, int64_t iw, int64_t iy) {
            sum[iy] += emulated::load(x, t, ix) * emulated::load(w, t, iw);
        });
    });
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, cudnnFilterDescriptor_t w,
                                                          cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t d,
                                                          cudnnTensorDescriptor_t dx, int wanted, int* returned,
                                                          cudnnConvolutionBwdDataAlgoPerf_t* results) {
    return rank(status_of(*dx, *w, *d, *dy), *d, wanted, returned, results);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, cudnnFilterDescriptor_t w,
                                                           cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t d,
                                                           cudnnTensorDescriptor_t dx,
                                                           cudnnConvolutionBwdDataAlgo_t algorithm, size_t* bytes) {
    return room(status_of(*dx, *w, *d, *dy), algorithm, bytes);
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t, const void* alpha, cudnnFilterDescriptor_t wd, const void* w,
                                           cudnnTensorDescriptor_t yd, const void* dy, cudnnConvolutionDescriptor_t d,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void* workspace, size_t bytes,
                                           const void* beta, cudnnTensorDescriptor_t xd, void* dx) {
    if (const auto s = status_of(*xd, *wd, *d, *yd); s != CUDNN_STATUS_SUCCESS) return s;
    const auto t = element(yd->type);
    return sums(alpha, beta, dx, xd->type, size_of(*xd), algorithm, workspace, bytes, [&](double* sum) {
        each_product(*xd, *wd, *d, *yd, [&](int64_t ix, int64_t iw, int64_t iy) {
            sum[ix] += emulated::load(dy, t, iy) * emulated::load(w, t, iw);
        });
    });
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                            cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t d,
                                                            cudnnFilterDescriptor_t dw, int wanted, int* returned,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t* results) {
    return rank(status_of(*x, *dw, *d, *dy), *d, wanted, returned, results);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                             cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t d,
                                                             cudnnFilterDescriptor_t dw,
                                                             cudnnConvolutionBwdFilterAlgo_t algorithm, size_t* bytes) {
    return room(status_of(*x, *dw, *d, *dy), algorithm, bytes);
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t, const void* alpha, cudnnTensorDescriptor_t xd,
                                             const void* x, cudnnTensorDescriptor_t yd, const void* dy,
                                             cudnnConvolutionDescriptor_t d, cudnnConvolutionBwdFilterAlgo_t algorithm,
                                             void* workspace, size_t bytes, const void* beta,
                                             cudnnFilterDescriptor_t wd, void* dw) {
    if (const auto s = status_of(*xd, *wd, *d, *yd); s != CUDNN_STATUS_SUCCESS) return s;
    const auto t = element(xd->type);
    return sums(alpha, beta, dw, wd->type, size_of(*wd), algorithm, workspace, bytes, [&](double* sum) {
        each_product(*xd, *wd, *d, *yd, [&](int64_t ix, int64_t iw, int64_t iy) {
            sum[iw] += emulated::load(x, t, ix) * emulated::load(dy, t, iy);
        });
    });
}
