// mobilenet_v2: Sandler et al. 2018, arXiv 1801.04381, table 2, as torchvision, but with relu in place of min(relu, 6),
// whose limit is for arithmetic in 8 bits.
#include "graphs/layers.h"

namespace tessera {
namespace {

// 1 x 1 expansion, 3 x 3 on each channel alone, 1 x 1 to `filters` without activation; table 1.
Maps inverted_residual(Layers& l, const std::string& name, Maps x, int64_t inputs, int64_t expansion, int64_t filters,
                       int64_t stride) {
    const Maps shortcut = stride == 1 && inputs == filters ? x : Maps{};
    int64_t i = 0;
    const auto next = [&] { return name + ".conv." + std::to_string(i++); };
    if (expansion > 1) {
        const std::string expand = next();
        x = l.conv_norm(expand + ".0", expand + ".1", x, expansion * inputs, 1, {.activation = Activation::relu});
    }
    const std::string alone = next();
    x = l.depthwise(alone + ".0", x, 3, {.stride = stride, .padding = 1}, false);
    x = l.norm(alone + ".1", x, Activation::relu);
    const std::string project = next();
    return l.conv_norm(project, next(), x, filters, 1, {}, shortcut);
}

const Architecture mobilenet_v2("mobilenet_v2", 224, 3, 1000, [](Layers& l, Maps x) -> Outputs {
    struct Row {
        int64_t expansion, filters, repeats, stride;
    };
    constexpr Row table[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                             {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    l.channel_multiple = 8;
    x = l.conv_norm("features.0.0", "features.0.1", x, 32, 3,
                    {.stride = 2, .padding = 1, .activation = Activation::relu});
    int64_t inputs = 32, i = 1;
    for (const Row& row : table)
        for (int64_t repeat = 0; repeat < row.repeats; ++repeat, inputs = row.filters)
            x = inverted_residual(l, "features." + std::to_string(i++), x, inputs, row.expansion, row.filters,
                                  repeat == 0 ? row.stride : 1);
    x = l.conv_norm("features.18.0", "features.18.1", x, 1280, 1, {.activation = Activation::relu});
    const Tensor y = l.dropout("classifier.0", l.global_pool("avgpool", x), 0.2);
    return {l.classes("classifier.1", y)};
});

}  // namespace
}  // namespace tessera
