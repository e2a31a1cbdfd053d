// conv2d's gradients: conv2d_backward_data, dx = the columns of dz w added up where they came from, and
// conv2d_backward_weights, dw = dz^T columns of x. f32, f64, bf16 (sums in f32). Shapes and layouts as in conv2d.cu.
#include "codelets/conv2d_backward.h"

#include "codelets/conv2d_cudnn.h"
#include "codelets/conv2d_im2col.h"
#include "codelets/convolution.h"
#include "codelets/winograd.h"
#include "core/examples.h"

namespace tessera {
namespace {

using convolution::Pass;
using convolution::Prepared;

template <class T>
struct Conv2dBackwardData {
    static constexpr auto name = "conv2d_backward_data", formula = "dx = sum over k and taps of w dz";
    static constexpr DType dtype = dtype_of<T>;
    using Args = ConvGradientArgs;
    static uint32_t key(Args a) { return a.shape.key(0); }
    static Cost cost(Args a, In<T> dz, In<T> w, Out<T> dx) {
        const double per_output = double(a.shape.taps()) * double(dx.cols / a.shape.groups);
        return {2 * double(dz.size()) * per_output,
                bytes_of_views(dz, dx) + double(w.rows) * per_output * double(sizeof(T))};
    }
    static constexpr auto cpu_label = dtype_of<T> == DType::f32   ? "oneDNN"
                                      : dtype_of<T> == DType::f64 ? "im2col + OpenBLAS"
                                                                  : "im2col + oneDNN, widened";
    static void cpu(Args a, In<T> dz, In<T> w, Out<T> dx) { im2col::data_gradient(a, dz, w, dx); }
    static constexpr auto cuda_label = "im2col + cuBLAS";
    static void cuda(Args a, In<T> dz, In<T> w, Out<T> dx, Stream stream);
#ifdef TESSERA_CUDNN
    static constexpr std::tuple cuda_alternatives{
        Named{"implicit GEMM", &implicit::data_gradient<T>},
        Named{"cuDNN", &device::cudnn_data_gradient<device::Choice::fastest, T>},
        Named{"cuDNN, least memory", &device::cudnn_data_gradient<device::Choice::least_memory, T>}};
#elif defined(TESSERA_CUDA)
    static constexpr std::tuple cuda_alternatives{Named{"implicit GEMM", &implicit::data_gradient<T>}};
#endif
};

template <class T>
struct Conv2dBackwardWeights {
    static constexpr auto name = "conv2d_backward_weights", formula = "dw += sum over outputs of dz x";
    static constexpr DType dtype = dtype_of<T>;
    using Args = ConvGradientArgs;
    static uint32_t key(Args a) { return a.shape.key(a.first); }
    static Cost cost(Args a, InList<T> x, In<T> dz, Acc<T> dw) {
        return {2 * double(dz.size()) * double(dw.cols),
                bytes_of_list(x) + bytes_of_views(dz, dw) + (a.first ? 0.0 : bytes_of_views(dw))};
    }
    static constexpr auto cpu_label = Conv2dBackwardData<T>::cpu_label;
    static void cpu(Args a, InList<T> x, In<T> dz, Acc<T> dw) { im2col::weight_gradient(a, x, dz, dw); }
    static constexpr auto cuda_label = "im2col + cuBLAS";
    static void cuda(Args a, InList<T> x, In<T> dz, Acc<T> dw, Stream stream);
#ifdef TESSERA_CUDNN
    static constexpr std::tuple cuda_alternatives{
        Named{"implicit GEMM", &implicit::weight_gradient<T>},
        Named{"cuDNN", &device::cudnn_weight_gradient<device::Choice::fastest, T>},
        Named{"cuDNN, least memory", &device::cudnn_weight_gradient<device::Choice::least_memory, T>}};
#elif defined(TESSERA_CUDA)
    static constexpr std::tuple cuda_alternatives{Named{"implicit GEMM", &implicit::weight_gradient<T>}};
#endif
};
#ifdef TESSERA_CUDA
template <class T>
void Conv2dBackwardData<T>::cuda(Args a, In<T> dz, In<T> w, Out<T> dx, Stream stream) {
    device::data_gradient(a, dz, w, dx, stream);
}
template <class T>
void Conv2dBackwardWeights<T>::cuda(Args a, InList<T> x, In<T> dz, Acc<T> dw, Stream stream) {
    device::weight_gradient(a, x, dz, dw, stream);
}
#endif

bool onednn_data(const ConvGradientArgs& a, In<float> dz, In<float> w, Out<float> dx) {
    if (!dense(dz) || !dense(dx)) return false;
    const auto prepared = convolution::prepare({Pass::data, a.shape, dz.rows / a.shape.outputs(), dx.cols, dz.cols,
                                                w.ld, channels_per_group(a.shape, w), false, false});
    if (!prepared) return false;
    convolution::data_gradient(*prepared, dz.data, w.data + a.channel0, dx.data);
    return true;
}

bool onednn_weights(const ConvGradientArgs& a, InList<float> x, In<float> dz, Acc<float> dw) {
    thread_local std::vector<std::shared_ptr<Prepared>> parts;
    parts.clear();
    if (!dense(dz)) return false;
    for (const In<float>& tile : x)
        if (!dense(tile) || !parts.emplace_back(convolution::prepare(
                                {Pass::weights, a.shape, dz.rows / a.shape.outputs(), tile.cols, dz.cols, dw.ld,
                                 channels_per_group(a.shape, dw), false, !a.first})))
            return false;
    float* to = dw.data;
    for (int64_t t = 0; t < x.count; to += x[t++].cols)
        convolution::weight_gradient(*parts[size_t(t)], x[t].data, dz.data, to);
    return true;
}

struct Conv2dBackwardDataF32 : Conv2dBackwardData<float> {
    static void cpu(Args a, In<float> dz, In<float> w, Out<float> dx) {
        if (!onednn_data(a, dz, w, dx)) im2col::data_gradient(a, dz, w, dx);
    }
    static void winograd(Args a, In<float> dz, In<float> w, Out<float> dx) {
        if (!tessera::winograd::data_gradient(a, dz, w, dx)) cpu(a, dz, w, dx);
    }
    static constexpr std::tuple cpu_alternatives{Named{"im2col + oneDNN product", &Conv2dBackwardData<float>::cpu},
                                                 Named{"Winograd", &winograd}};
};
struct Conv2dBackwardWeightsF32 : Conv2dBackwardWeights<float> {
    static void cpu(Args a, InList<float> x, In<float> dz, Acc<float> dw) {
        if (!onednn_weights(a, x, dz, dw)) im2col::weight_gradient(a, x, dz, dw);
    }
    static void winograd(Args a, InList<float> x, In<float> dz, Acc<float> dw) {
        if (!tessera::winograd::weight_gradient(a, x, dz, dw)) cpu(a, x, dz, dw);
    }
    static constexpr std::tuple cpu_alternatives{Named{"im2col + oneDNN product", &Conv2dBackwardWeights<float>::cpu},
                                                 Named{"Winograd", &winograd}};
};
template <class T>
using DataOf = std::conditional_t<std::is_same_v<T, float>, Conv2dBackwardDataF32, Conv2dBackwardData<T>>;
template <class T>
using WeightsOf = std::conditional_t<std::is_same_v<T, float>, Conv2dBackwardWeightsF32, Conv2dBackwardWeights<T>>;
const Register<Conv2dBackwardDataF32, Conv2dBackwardData<double>, Conv2dBackwardData<bf16>, Conv2dBackwardWeightsF32,
               Conv2dBackwardWeights<double>, Conv2dBackwardWeights<bf16>>
    codelets;

}  // namespace

Tensor conv2d_backward_data(const ConvShape& s, Tensor x, Tensor w, Tensor dz) {
    const Tensor dx = x.graph->value("conv2d_backward_data", x.shape(), x.dtype(), x.grid());
    Node node;
    node.op = "conv2d_backward_data", node.inputs = {w, dz}, node.outputs = {dx};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(dx.dtype(), "conv2d_backward_data", [&]<class T>() {
            for (int64_t i = 0; i < dx.grid().rows(); ++i) {
                int64_t channel0 = 0;
                for (int64_t j = 0; j < dx.grid().cols(); channel0 += dx.grid().col_extents[size_t(j++)])
                    to.task<DataOf<T>>({s, channel0, true}, to.tile(dz, i, 0), to.tile(w, 0, 0), to.tile(dx, i, j));
            }
        });
    };
    x.graph->add(std::move(node));
    return dx;
}

Tensor conv2d_backward_weights(const ConvShape& s, Tensor x, Tensor w, Tensor dz) {
    const Tensor dw = x.graph->value("conv2d_backward_weights", w.shape(), w.dtype(), w.grid());
    Node node;
    node.op = "conv2d_backward_weights", node.inputs = {x, dz}, node.outputs = {dw};
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(dw.dtype(), "conv2d_backward_weights", [&]<class T>() {
            for (int64_t i = 0; i < x.grid().rows(); ++i) {
                std::vector<Lowering::Ref> tiles;
                for (int64_t j = 0; j < x.grid().cols(); ++j) tiles.push_back(to.tile(x, i, j));
                const auto sum = to.tile(dw, 0, 0);
                to.task<WeightsOf<T>>({s, 0, i == 0}, tiles, to.tile(dz, i, 0), i == 0 ? Lowering::first(sum) : sum);
            }
        });
    };
    x.graph->add(std::move(node));
    return dw;
}

}  // namespace tessera
