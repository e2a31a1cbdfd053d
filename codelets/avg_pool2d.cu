// avg_pool2d, adaptive_avg_pool2d, global_avg_pool2d: y(n, p, q, c) = mean of x(n, h, w, c) over window (p, q). f32,
// f64, bf16. A sliding window counts the pixels that it covers, and those of the padding if count_padding says so;
// adaptive window p covers [floor(p H / P), ceil((p + 1) H / P)), the global one everything. Lin, Chen, Yan 2014,
// arXiv:1312.4400 (global).
#include <limits>

#include "codelets/ops.h"
#include "codelets/pixel_sums.h"

namespace tessera {
namespace {

struct AvgPool2d : SlidingWindows {
    static constexpr auto name = "avg_pool2d", formula = "y(n, p, q, c) = mean of x(n, h, w, c) over window (p, q)";
    static constexpr auto backward_name = "avg_pool2d_backward",
                          backward_formula = "dx(n, h, w, c) = sum over windows with (h, w) of dy(n, p, q, c) / size";
    bool count_padding;
    HD int64_t divisor(int64_t p, int64_t q) const {
        if (count_padding) return h.padded_extent(p) * w.padded_extent(q);
        const Range rows = h.inputs(p), cols = w.inputs(q);
        return (rows.end - rows.begin) * (cols.end - cols.begin);
    }
};
struct AdaptiveAvgPool2d {
    static constexpr auto name = "adaptive_avg_pool2d", formula = AvgPool2d::formula;
    static constexpr auto backward_name = "adaptive_avg_pool2d_backward",
                          backward_formula = AvgPool2d::backward_formula;
    AdaptiveAxis h, w;
    HD int64_t divisor(int64_t p, int64_t q) const {
        const Range rows = h.inputs(p), cols = w.inputs(q);
        return (rows.end - rows.begin) * (cols.end - cols.begin);
    }
    uint32_t key() const { return key_of({h.input, h.output, w.input, w.output}); }
};

const PixelSumCodelets<AvgPool2d> sliding;
const PixelSumCodelets<AdaptiveAvgPool2d> adaptive;
const Example example(sliding, maps_sizes, [](ExampleGraph& e, MapsSize s) {
    const Maps x = input_maps(e, s);
    e.keep_with_gradients(avg_pool2d(x, 2, {.stride = 2}).tensor, {x.tensor});
});
const Example global_example(adaptive, maps_sizes, [](ExampleGraph& e, MapsSize s) {
    const Maps x = input_maps(e, s);
    e.keep_with_gradients(global_avg_pool2d(x), {x.tensor});
});

Tensor adaptive_sums(const std::string& op, Maps x, Extent2d y) {
    const auto images = image_extents(op, x);
    constexpr int64_t most = std::numeric_limits<int32_t>::max();
    require(y.height >= 1 && y.width >= 1 && y.height <= most && y.width <= most, op,
            "the outputs must be 1 to " + std::to_string(most) + ", not " + to_string(y), {x.tensor});
    return pixel_sums(x.tensor, AdaptiveAvgPool2d{{x.height, y.height}, {x.width, y.width}}, images,
                      "outputs=" + to_string(y));
}

}  // namespace

Maps avg_pool2d(Maps x, Extent2d window, PoolOptions options) {
    const auto images = image_extents("avg_pool2d", x);
    const SlidingWindows windows = sliding_windows("avg_pool2d", x, window, options);
    return {pixel_sums(x.tensor, AvgPool2d{windows, options.count_padding}, images, pool_attributes(window, options)),
            windows.h.output, windows.w.output};
}

Maps adaptive_avg_pool2d(Maps x, Extent2d outputs) {
    return {adaptive_sums("adaptive_avg_pool2d", x, outputs), outputs.height, outputs.width};
}

Tensor global_avg_pool2d(Maps x) { return adaptive_sums("global_avg_pool2d", x, 1); }

}  // namespace tessera
