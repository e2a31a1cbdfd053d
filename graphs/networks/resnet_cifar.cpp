// resnet20, resnet110: He, Zhang, Ren, Sun 2016, arXiv 1512.03385, section 4.2: 6 n + 2 layers, shortcuts without
// weights (option A). resnet1001: He et al. 2016, arXiv 1603.05027, pre-activation bottlenecks, 9 n + 2 layers.
#include "graphs/layers.h"

namespace tessera {
namespace {

// Every second pixel, and channels of zeros behind those of x.
Maps subsampled(Layers& l, const std::string& name, Maps x, int64_t filters) {
    x = l.avg_pool(name, x, 1, {.stride = 2});
    const int64_t more = l.scaled(filters) - x.channels();
    if (more == 0) return x;
    const auto layer = l.at(name);
    const Shape shape{x.tensor.shape().rows, more};
    const Tensor zeros = fill(l.graph, shape, x.tensor.dtype(), {x.tensor.grid().row_extents, {more}}, 0);
    return concat({x, {zeros, x.height, x.width}});
}

Outputs plain_blocks(Layers& l, Maps x, int64_t blocks) {
    x = l.conv_norm("conv1", "bn1", x, 16, 3, {.padding = 1, .activation = Activation::relu});
    for (int64_t stage = 1, width = 16; stage <= 3; ++stage, width *= 2)
        for (int64_t i = 0; i < blocks; ++i) {
            const std::string name = "layer" + std::to_string(stage) + "." + std::to_string(i);
            const int64_t stride = stage > 1 && i == 0 ? 2 : 1;
            const Maps y = l.conv_norm(name + ".conv1", name + ".bn1", x, width, 3,
                                       {.stride = stride, .padding = 1, .activation = Activation::relu});
            const Maps shortcut = stride == 1 ? x : subsampled(l, name + ".shortcut", x, width);
            x = l.conv_norm(name + ".conv2", name + ".bn2", y, width, 3, {.padding = 1, .activation = Activation::relu},
                            shortcut);
        }
    return {l.classes("fc", l.global_pool("avgpool", x))};
}

// The first of a stage projects what its first norm and activation gave; the others pass on what came in.
Maps preactivated(Layers& l, const std::string& name, Maps x, int64_t width, int64_t stride, bool projects) {
    Maps y = l.norm(name + ".bn1", x, Activation::relu);
    const Maps shortcut = projects ? l.conv(name + ".downsample", y, 4 * width, 1, {.stride = stride}, false) : x;
    y = l.conv_norm(name + ".conv1", name + ".bn2", y, width, 1, {.stride = stride, .activation = Activation::relu});
    y = l.conv_norm(name + ".conv2", name + ".bn3", y, width, 3, {.padding = 1, .activation = Activation::relu});
    y = l.conv(name + ".conv3", y, 4 * width, 1, {}, false);
    return l.add(name + ".add", y, shortcut);
}

Outputs preactivated_bottlenecks(Layers& l, Maps x, int64_t blocks) {
    x = l.conv("conv1", x, 16, 3, {.padding = 1}, false);
    for (int64_t stage = 1, width = 16; stage <= 3; ++stage, width *= 2)
        for (int64_t i = 0; i < blocks; ++i)
            x = preactivated(l, "layer" + std::to_string(stage) + "." + std::to_string(i), x, width,
                             stage > 1 && i == 0 ? 2 : 1, i == 0);
    x = l.norm("bn", x, Activation::relu);
    return {l.classes("fc", l.global_pool("avgpool", x))};
}

const Architecture resnet20("resnet20", 32, 3, 10, [](Layers& l, Maps x) { return plain_blocks(l, x, 3); });
const Architecture resnet110("resnet110", 32, 3, 10, [](Layers& l, Maps x) { return plain_blocks(l, x, 18); });
const Architecture resnet1001("resnet1001", 32, 3, 10,
                              [](Layers& l, Maps x) { return preactivated_bottlenecks(l, x, 111); });

}  // namespace
}  // namespace tessera
