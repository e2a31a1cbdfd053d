// upsample2d: y(n, h, w, c) = x(n, floor(h / factor), floor(w / factor), c), the nearest neighbour. f32, f64, bf16.
#include <limits>

#include "codelets/ops.h"
#include "codelets/pixel_sums.h"

namespace tessera {
namespace {

// Adaptive windows on fewer pixels than outputs cover one pixel each.
struct Upsample2d {
    static constexpr auto name = "upsample2d",
                          formula = "y(n, h, w, c) = x(n, floor(h / factor), floor(w / factor), c)";
    static constexpr auto backward_name = "upsample2d_backward",
                          backward_formula = "dx(n, h, w, c) = sum over the factor x factor copies of dy(n, ., ., c)";
    AdaptiveAxis h, w;
    HD int64_t divisor(int64_t, int64_t) const { return 1; }
    uint32_t key() const { return key_of({h.input, h.output, w.input}); }
};
const PixelSumCodelets<Upsample2d> codelets;
const Example example(codelets, maps_sizes, [](ExampleGraph& e, MapsSize s) {
    const Maps x = input_maps(e, s);
    e.keep_with_gradients(upsample2d(x, 2).tensor, {x.tensor});
});

}  // namespace

Maps upsample2d(Maps x, int64_t factor) {
    const auto images = image_extents("upsample2d", x);
    const std::string given = "the factor " + std::to_string(factor);
    require(factor >= 1, "upsample2d", given + " must be at least 1", {x.tensor});
    const double rows = double(x.tensor.shape().rows) * double(factor) * double(factor);
    require(rows <= double(std::numeric_limits<uint32_t>::max()), "upsample2d", given + " makes too many pixels",
            {x.tensor});
    if (factor == 1) return x;
    const int64_t height = x.height * factor, width = x.width * factor;
    return {pixel_sums(x.tensor, Upsample2d{{x.height, height}, {x.width, width}}, images,
                       "factor=" + std::to_string(factor)),
            height, width};
}

}  // namespace tessera
