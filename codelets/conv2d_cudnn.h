// codelets/conv2d_cudnn.h - conv2d and its gradients by cuDNN, where the build found it. Its own ranking of algorithms
// is asked once per shape; of those that TESSERA_WORKSPACE has room for the first is used, or the one that needs least.
// What cuDNN does not take, as maps with gaps or in several tiles, goes to conv2d_cuda.h.
#pragma once
#include "codelets/conv2d_cuda.h"

#if defined(TESSERA_CUDA) && defined(TESSERA_CUDNN)
#include <cudnn.h>

#include <map>
#include <optional>
#include <vector>

namespace tessera::device {

enum class Choice { fastest, least_memory };

inline void check(cudnnStatus_t status, const char* call) {
    if (status != CUDNN_STATUS_SUCCESS) throw Error(std::string(call) + " failed: " + cudnnGetErrorString(status));
}

// False for what cuDNN does not take: it has done nothing then.
inline bool supported(cudnnStatus_t status, const char* call) {
    const auto category = CUDNN_STATUS_CATEGORY(status);
    if (category == CUDNN_STATUS_NOT_SUPPORTED || category == CUDNN_STATUS_BAD_PARAM) {
        (void)cudaGetLastError();  // the kernel that runs instead would report it as its own
        return false;
    }
    check(status, call);
    return true;
}

// Maps without gaps, of no more elements than a descriptor may have.
template <class V>
bool cudnn_takes(const V& maps) {
    return dense(maps) && maps.size() <= INT32_MAX;
}

inline cudnnHandle_t cudnn(cudaStream_t stream) {
    thread_local std::map<cudaStream_t, cudnnHandle_t> handles;  // they end with the device's context
    cudnnHandle_t& handle = handles[stream];
    if (!handle) {
        check(cudnnCreate(&handle), "cudnnCreate");
        check(cudnnSetStream(handle, stream), "cudnnSetStream");
    }
    return handle;
}

// The descriptors of one convolution.
template <class T>
struct Cudnn {
    cudnnTensorDescriptor_t x = nullptr, y = nullptr;
    cudnnFilterDescriptor_t w = nullptr;
    cudnnConvolutionDescriptor_t convolution = nullptr;

    Cudnn(const ConvShape& s, int64_t images, int64_t channels, int64_t filters) {
        constexpr auto type = dtype_of<T> == DType::f64    ? CUDNN_DATA_DOUBLE
                              : dtype_of<T> == DType::bf16 ? CUDNN_DATA_BFLOAT16
                                                           : CUDNN_DATA_FLOAT;
        constexpr auto computed = dtype_of<T> == DType::f64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
        const auto maps = [&](cudnnTensorDescriptor_t& d, int64_t c, Extent2d e) {
            check(cudnnCreateTensorDescriptor(&d), "cudnnCreateTensorDescriptor");
            check(cudnnSetTensor4dDescriptor(d, CUDNN_TENSOR_NHWC, type, int(images), int(c), int(e.height),
                                             int(e.width)),
                  "cudnnSetTensor4dDescriptor");
        };
        maps(x, channels, s.in), maps(y, filters, s.out);
        check(cudnnCreateFilterDescriptor(&w), "cudnnCreateFilterDescriptor");
        check(cudnnSetFilter4dDescriptor(w, type, CUDNN_TENSOR_NHWC, int(filters), int(channels / s.groups),
                                         int(s.kernel.height), int(s.kernel.width)),
              "cudnnSetFilter4dDescriptor");
        check(cudnnCreateConvolutionDescriptor(&convolution), "cudnnCreateConvolutionDescriptor");
        check(cudnnSetConvolution2dDescriptor(convolution, int(s.padding.height), int(s.padding.width),
                                              int(s.stride.height), int(s.stride.width), int(s.dilation.height),
                                              int(s.dilation.width), CUDNN_CROSS_CORRELATION, computed),
              "cudnnSetConvolution2dDescriptor");
        check(cudnnSetConvolutionGroupCount(convolution, int(s.groups)), "cudnnSetConvolutionGroupCount");
        // f32 means f32: the default would round inputs to tf32.
        check(cudnnSetConvolutionMathType(convolution, math), "cudnnSetConvolutionMathType");
    }
    Cudnn(const Cudnn&) = delete;
    ~Cudnn() {
        if (convolution) cudnnDestroyConvolutionDescriptor(convolution);
        if (w) cudnnDestroyFilterDescriptor(w);
        if (y) cudnnDestroyTensorDescriptor(y);
        if (x) cudnnDestroyTensorDescriptor(x);
    }
    static constexpr auto math = dtype_of<T> == DType::bf16 ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH;
};

template <class Algorithm>
struct Chosen {
    Algorithm algorithm;
    int64_t bytes;
};

// What `rank(count, &returned, results)` says of this shape, asked once per thread, device, type and kind of algorithm.
// Its bytes are those of its own math type: `size(algorithm, &bytes)` tells what ours needs. To be reset if refused.
template <class T, class Result, class Rank, class Size>
auto& choose(Choice choice, const ConvShape& s, int64_t images, int64_t channels, int64_t filters, Rank&& rank,
             Size&& size) {
    using Algorithm = decltype(Result::algo);
    constexpr int most = 16;
    constexpr size_t most_kept = 512;
    thread_local std::map<std::array<int64_t, 19>, std::optional<Chosen<Algorithm>>> kept;
    std::array<int64_t, 19> key{int64_t(choice), current_device(), workspace_limit(), images, channels, filters};
    const auto numbers = s.numbers();
    std::copy(numbers.begin(), numbers.end(), key.begin() + 6);
    if (const auto found = kept.find(key); found != kept.end()) return found->second;
    Result results[most];
    int returned = 0;
    if (rank(most, &returned, results) != CUDNN_STATUS_SUCCESS) returned = 0;  // a shape that cuDNN does not have
    std::optional<Chosen<Algorithm>> best;
    for (int i = 0; i < returned; ++i) {
        const Result& r = results[i];
        size_t bytes = 0;
        if (r.status != CUDNN_STATUS_SUCCESS || r.mathType == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION ||
            size(r.algo, &bytes) != CUDNN_STATUS_SUCCESS || int64_t(bytes) > workspace_limit())
            continue;
        if (!best || (choice == Choice::least_memory && int64_t(bytes) < best->bytes))
            best = Chosen<Algorithm>{r.algo, int64_t(bytes)};
    }
    (void)cudaGetLastError();  // of questions that were refused
    if (kept.size() >= most_kept) kept.clear();
    return kept[key] = best;
}

template <Choice choice, class T>
void cudnn_forward(ConvArgs a, InList<T> x, In<T> w, In<T> b, Out<T> y, cudaStream_t stream) {
    if (x.count > 1 || !cudnn_takes(x[0]) || !dense(w) || !cudnn_takes(y)) return forward(a, x, w, b, y, stream);
    const ConvShape& s = a.shape;
    const int64_t images = y.rows / s.outputs();
    const Cudnn<T> d(s, images, x[0].cols, y.cols);
    const auto rank = [&](auto... results) {
        return cudnnGetConvolutionForwardAlgorithm_v7(cudnn(stream), d.x, d.w, d.convolution, d.y, results...);
    };
    const auto size = [&](auto algorithm, size_t* bytes) {
        return cudnnGetConvolutionForwardWorkspaceSize(cudnn(stream), d.x, d.w, d.convolution, d.y, algorithm, bytes);
    };
    auto& chosen = choose<T, cudnnConvolutionFwdAlgoPerf_t>(choice, s, images, x[0].cols, y.cols, rank, size);
    const Compute<T> one = 1, zero = 0;
    if (chosen && supported(cudnnConvolutionForward(cudnn(stream), &one, d.x, x[0].data, d.w, w.data, d.convolution,
                                                    chosen->algorithm, workspace(chosen->bytes, stream),
                                                    size_t(chosen->bytes), &zero, d.y, y.data),
                            "cudnnConvolutionForward"))
        return finish(a, b, y, stream);
    chosen.reset();
    forward(a, x, w, b, y, stream);
}

template <Choice choice, class T>
void cudnn_data_gradient(ConvGradientArgs a, In<T> dz, In<T> w, Out<T> dx, cudaStream_t stream) {
    const ConvShape& s = a.shape;
    const bool all_channels = dx.cols == channels_per_group(s, w) * s.groups;
    if (!all_channels || !cudnn_takes(dz) || !dense(w) || !cudnn_takes(dx)) return data_gradient(a, dz, w, dx, stream);
    const int64_t images = dz.rows / s.outputs();
    const Cudnn<T> d(s, images, dx.cols, dz.cols);
    const auto rank = [&](auto... results) {
        return cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnn(stream), d.w, d.y, d.convolution, d.x, results...);
    };
    const auto size = [&](auto algorithm, size_t* bytes) {
        return cudnnGetConvolutionBackwardDataWorkspaceSize(cudnn(stream), d.w, d.y, d.convolution, d.x, algorithm,
                                                            bytes);
    };
    auto& chosen = choose<T, cudnnConvolutionBwdDataAlgoPerf_t>(choice, s, images, dx.cols, dz.cols, rank, size);
    const Compute<T> one = 1, zero = 0;
    if (chosen && supported(cudnnConvolutionBackwardData(cudnn(stream), &one, d.w, w.data, d.y, dz.data, d.convolution,
                                                         chosen->algorithm, workspace(chosen->bytes, stream),
                                                         size_t(chosen->bytes), &zero, d.x, dx.data),
                            "cudnnConvolutionBackwardData"))
        return;
    chosen.reset();
    data_gradient(a, dz, w, dx, stream);
}

template <Choice choice, class T>
void cudnn_weight_gradient(ConvGradientArgs a, InList<T> x, In<T> dz, Acc<T> dw, cudaStream_t stream) {
    if (x.count > 1 || !cudnn_takes(x[0]) || !cudnn_takes(dz) || !dense(dw))
        return weight_gradient(a, x, dz, dw, stream);
    const ConvShape& s = a.shape;
    const int64_t images = dz.rows / s.outputs();
    const Cudnn<T> d(s, images, x[0].cols, dz.cols);
    const auto rank = [&](auto... results) {
        return cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnn(stream), d.x, d.y, d.convolution, d.w, results...);
    };
    const auto size = [&](auto algorithm, size_t* bytes) {
        return cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnn(stream), d.x, d.y, d.convolution, d.w, algorithm,
                                                              bytes);
    };
    auto& chosen = choose<T, cudnnConvolutionBwdFilterAlgoPerf_t>(choice, s, images, x[0].cols, dz.cols, rank, size);
    const Compute<T> one = 1, beta = a.first ? 0 : 1;
    if (chosen && supported(cudnnConvolutionBackwardFilter(
                                cudnn(stream), &one, d.x, x[0].data, d.y, dz.data, d.convolution, chosen->algorithm,
                                workspace(chosen->bytes, stream), size_t(chosen->bytes), &beta, d.w, dw.data),
                            "cudnnConvolutionBackwardFilter"))
        return;
    chosen.reset();
    weight_gradient(a, x, dz, dw, stream);
}

}  // namespace tessera::device
#endif
