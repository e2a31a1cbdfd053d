// codelets/batch_norm.h - what batch_norm and its gradient share. With C channels, mean, rstd, gamma and beta are
// [1 x C] in the computing type: f32, f64 for f64.
#pragma once
#include <cmath>
#include <vector>

#include "codelets/activation.h"
#include "codelets/columns.h"

namespace tessera {

struct BatchNormArgs {
    Activation activation = Activation::none;
    bool first = true;      // of the tiles that add up
    bool variance = false;  // rstd holds the variance, as running statistics do
    double epsilon = 0, momentum = 0;
    double share = 0;    // of one value in the mean; 0 where mean and variance are constants
    int64_t offset = 0;  // of the tile's first channel in mean, rstd, gamma and beta
};

template <class C>
HD inline C rstd_of(const BatchNormArgs& a, C stored) {
    return a.variance ? C(1) / std::sqrt(stored + C(a.epsilon)) : stored;
}

// Calls f.operator()<A>() for an activation whose derivative follows from its output: a constant in the host's loops.
template <class F>
void with_activation(Activation a, F&& f) {
    switch (a) {
        case Activation::relu:
            return f.template operator()<Activation::relu>();
        case Activation::tanh:
            return f.template operator()<Activation::tanh>();
        case Activation::sigmoid:
            return f.template operator()<Activation::sigmoid>();
        default:
            return f.template operator()<Activation::none>();
    }
}

// [1 x C] tensors as tasks on the tiles of x read them: either all lie in one tile, of which each task reads its part,
// or all are cut as x's columns are.
struct PerChannel {
    std::vector<Tensor> tensors;
    bool whole;
    std::vector<int64_t> firsts;  // of x's column tiles, their first channels
    PerChannel(Tensor x, std::vector<Tensor> all);
    Lowering::Ref tile(Lowering& to, size_t k, int64_t j) const { return to.tile(tensors[k], 0, whole ? 0 : j); }
    int64_t offset(int64_t j) const { return whole ? firsts[size_t(j)] : 0; }
};

// Gradients of x, gamma, beta and what was added before the activation.
std::vector<Tensor> batch_norm_backward(BatchNormArgs, Tensor x, Tensor y, Tensor gamma, Tensor mean, Tensor rstd,
                                        bool residual, Tensor dy);

}  // namespace tessera
