// codelets/windows.h - which pixels each output of a pooling covers, and which outputs cover a pixel, along one
// direction: one set of formulas for the graph, the host and the device.
#pragma once
#include <initializer_list>
#include <string>

#include "codelets/maps.h"
#include "core/random.h"

namespace tessera {

struct Range {
    int64_t begin, end;  // empty if begin >= end
};

// Window p covers [p stride - padding, p stride - padding + window), as far as that lies in the input.
struct SlidingAxis {
    int64_t input, output, window, stride, padding;

    HD int64_t start(int64_t p) const { return p * stride - padding; }  // negative in the padding
    HD Range inputs(int64_t p) const {
        const int64_t begin = start(p), end = begin + window;
        return {begin > 0 ? begin : 0, end < input ? end : input};
    }
    HD Range outputs(int64_t i) const {
        const int64_t before = i + padding - window, end = (i + padding) / stride + 1;
        return {before < 0 ? 0 : before / stride + 1, end < output ? end : output};
    }
    // Extent of window p with the padding that it covers; beyond the right padding there is nothing (ceil mode).
    HD int64_t padded_extent(int64_t p) const {
        const int64_t end = start(p) + window, last = input + padding;
        return (end < last ? end : last) - start(p);
    }
};

// Window p covers [floor(p input / output), ceil((p + 1) input / output)): seen from the input it is the same.
struct AdaptiveAxis {
    int64_t input, output;

    HD Range inputs(int64_t p) const { return {p * input / output, ((p + 1) * input + output - 1) / output}; }
    HD Range outputs(int64_t i) const { return AdaptiveAxis{output, input}.inputs(i); }
};

// Both directions of a pooling with a sliding window.
struct SlidingWindows {
    SlidingAxis h, w;

    HD int64_t places() const { return h.window * w.window; }
    // Of pixel (i, j) in window (p, q), counted row by row.
    HD int64_t place(int64_t p, int64_t q, int64_t i, int64_t j) const {
        return (i - h.start(p)) * w.window + j - w.start(q);
    }
    uint32_t key() const;
};

// The windows of `op` on x. Throws std::invalid_argument naming the op for extents that do not fit.
SlidingWindows sliding_windows(const std::string& op, Maps x, Extent2d window, const PoolOptions&);
std::string pool_attributes(Extent2d window, const PoolOptions&);

// A codelet's key() from all that changes its speed.
inline uint32_t key_of(std::initializer_list<int64_t> flags) {
    uint64_t hash = 0;
    for (int64_t flag : flags) hash = mix64(hash ^ uint64_t(flag));
    return uint32_t(hash);
}

}  // namespace tessera
