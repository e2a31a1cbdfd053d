// codelets/activation.h - the activations that linear can apply to its result, and their derivatives from the output.
#pragma once
#include <cmath>

#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "codelets/vector_math.h"

namespace tessera {

template <class C>
HD inline C apply(Activation a, C x) {
    switch (a) {
        case Activation::relu:
            return x < 0 ? C(0) : x;
        case Activation::tanh:
            return std::tanh(x);
        case Activation::sigmoid:
            return C(1) / (C(1) + std::exp(-x));
        default:
            return x;
    }
}

// d act(z) / dz, from y = act(z): relu 1 where y > 0, tanh 1 - y^2, sigmoid y (1 - y).
template <class C>
HD inline C derivative_from_output(Activation a, C y) {
    switch (a) {
        case Activation::relu:
            return y > 0 ? C(1) : y <= 0 ? C(0) : y;
        case Activation::tanh:
            return C(1) - y * y;
        case Activation::sigmoid:
            return y * (C(1) - y);
        default:
            return C(1);
    }
}

constexpr bool has_derivative_from_output(Activation a) { return a != Activation::gelu && a != Activation::silu; }

}  // namespace tessera
