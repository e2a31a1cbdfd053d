// codelets/conv2d_backward.h - the gradients of conv2d as nodes of their own, so that they can run side by side.
#pragma once
#include "codelets/conv2d.h"
#include "core/plan.h"

namespace tessera {

// dx(n, h, w, c) = sum over k and the taps (r, s) of outputs (p, q) that see (h, w) of w(k, r, s, c) dz(n, p, q, k).
// With x's shape and tiles; a task per tile, also where x is a concatenation.
Tensor conv2d_backward_data(const ConvShape&, Tensor x, Tensor w, Tensor dz);

// dw(k, r, s, c) = sum over n, p, q of dz(n, p, q, k) x(pixel of (p, q) under tap (r, s), c). A task per row tile, each
// of which adds to dw.
Tensor conv2d_backward_weights(const ConvShape&, Tensor x, Tensor w, Tensor dz);

}  // namespace tessera
