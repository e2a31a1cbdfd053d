// codelets/convolution.h - convolutions of oneDNN on the host, f32, channels last, one thread, safe from several
// workers at once. One wrapper, compiled by the host compiler: oneDNN's header does not pass through nvcc.
#pragma once
#include <memory>

#include "codelets/conv2d.h"

namespace tessera::convolution {

enum class Pass : uint8_t { forward, data, weights };

// Maps without gaps: x [images in channels], y [images out filters]. w is [filters x taps channels], or the columns of
// these channels of a wider one.
struct Problem {
    Pass pass;
    ConvShape shape;
    int64_t images, channels, filters;
    int64_t filter_step, tap_step;  // elements of w from filter to filter and from tap to tap
    bool bias, add;                 // forward: y = x * w + bias; with `add` the result is added to what is there
};

// A convolution compiled for one problem, to be run by the thread that asked for it.
class Prepared;

// Null where oneDNN has nothing fast, or where it needs more than TESSERA_WORKSPACE. A thread keeps what it prepared.
std::shared_ptr<Prepared> prepare(const Problem&);

// y = x * w + bias, dx from dz and w, dw from x and dz: `out` from the other two.
void forward(Prepared&, const float* x, const float* w, const float* bias, float* out);
void data_gradient(Prepared&, const float* dz, const float* w, float* out);
void weight_gradient(Prepared&, const float* x, const float* dz, float* out);

}  // namespace tessera::convolution
