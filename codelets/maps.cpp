// codelets/maps.cpp - how many windows fit into a map.
#include "codelets/maps.h"

namespace tessera {

int64_t window_outputs(int64_t extent, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation, bool ceil) {
    // The last start, in units of the stride, rounded down or up; below 0 nothing fits.
    const int64_t room = extent + 2 * padding - dilation * (kernel - 1) - 1 + (ceil ? stride - 1 : 0);
    if (room < 0) return 0;
    const int64_t outputs = room / stride + 1;
    const bool starts_outside = ceil && (outputs - 1) * stride >= extent + padding;
    return outputs - starts_outside;
}

}  // namespace tessera
