// codelets/maps.h - feature maps and the options of the ops on them. Channels last: a batch of N maps of C channels is
// a tensor [N H W x C], pixel (n, h, w) is row (n H + h) W + w. Rows are cut between images only, columns anywhere.
#pragma once
#include "core/graph.h"

namespace tessera {

enum class Activation : uint8_t { none, relu, gelu, tanh, sigmoid, silu };

struct Maps {
    Tensor tensor;
    int64_t height = 1, width = 1;
    int64_t batch() const { return tensor.shape().rows / (height * width); }
    int64_t channels() const { return tensor.shape().cols; }
};
struct Extent2d {
    int64_t height = 1, width = 1;
    constexpr Extent2d(int64_t both) : height(both), width(both) {}
    constexpr Extent2d(int64_t h, int64_t w) : height(h), width(w) {}
    bool operator==(const Extent2d&) const = default;
};

// floor((extent + 2 padding - dilation (kernel - 1) - 1) / stride) + 1; with `ceil` rounded up, where the last window
// starts inside the input or its left padding (as PyTorch).
int64_t window_outputs(int64_t extent, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation = 1,
                       bool ceil = false);

struct Conv2dOptions {
    Extent2d stride = 1, padding = 0, dilation = 1;
    int64_t groups = 1;
    Activation activation = Activation::none;
};

struct PoolOptions {
    Extent2d stride = 1, padding = 0;
    bool ceil = false;           // output extents rounded up
    bool count_padding = false;  // averages: divide by the whole window
};

struct BatchNorm {
    Tensor gamma, beta;                     // [1 x C]
    Tensor running_mean, running_var;       // [1 x C] Params that training updates and evaluation uses
    double epsilon = 1e-5, momentum = 0.1;  // running := (1 - momentum) running + momentum of this batch
};

}  // namespace tessera
