#include "codelets/windows.h"

#include <limits>

#include "codelets/maps_grid.h"

namespace tessera {

static bool at_least(Extent2d e, int64_t least) { return e.height >= least && e.width >= least; }

SlidingWindows sliding_windows(const std::string& op, Maps x, Extent2d window, const PoolOptions& options) {
    constexpr int64_t limit = std::numeric_limits<int32_t>::max();  // what follows cannot overflow
    const Extent2d stride = options.stride, padding = options.padding;
    const auto check = [&](bool ok, const std::string& what) { require(ok, op, what, {x.tensor}); };
    const auto between = [&](Extent2d e, int64_t least, const std::string& what) {
        check(at_least(e, least) && e.height <= limit && e.width <= limit,
              what + " must be " + std::to_string(least) + " to " + std::to_string(limit) + ", not " + to_string(e));
    };
    between(window, 1, "the window");
    between(stride, 1, "the stride");
    between(padding, 0, "the padding");
    check(padding.height <= window.height / 2 && padding.width <= window.width / 2,
          "the padding " + to_string(padding) + " is more than half of the window " + to_string(window));
    const auto outputs = [&](int64_t extent, int64_t k, int64_t s, int64_t p) {
        return window_outputs(extent, k, s, p, 1, options.ceil);
    };
    const Extent2d y{outputs(x.height, window.height, stride.height, padding.height),
                     outputs(x.width, window.width, stride.width, padding.width)};
    check(at_least(y, 1), "maps of " + to_string(Extent2d(x.height, x.width)) +
                              " pixels shrink to nothing under the window " + to_string(window) + " with padding " +
                              to_string(padding));
    return {{x.height, y.height, window.height, stride.height, padding.height},
            {x.width, y.width, window.width, stride.width, padding.width}};
}

std::string pool_attributes(Extent2d window, const PoolOptions& o) {
    return "window=" + to_string(window) + " stride=" + to_string(o.stride) + " padding=" + to_string(o.padding) +
           (o.ceil ? " ceil" : "") + (o.count_padding ? " count_padding" : "");
}

uint32_t SlidingWindows::key() const {
    return key_of({h.input, h.output, h.window, h.stride, h.padding, w.input, w.output, w.window, w.stride, w.padding});
}

}  // namespace tessera
