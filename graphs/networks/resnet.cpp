// resnet18, 34, 50, 101, 152: He, Zhang, Ren, Sun 2016, arXiv 1512.03385, table 1, with projections where shapes change
// and the stride in a bottleneck's 3 x 3 convolution, as torchvision. Small images get a 3 x 3 stem and no pooling.
#include "graphs/layers.h"

namespace tessera {
namespace {

using Block = Maps (*)(Layers&, const std::string& name, Maps x, int64_t width, int64_t stride);

Maps shortcut(Layers& l, const std::string& name, Maps x, int64_t filters, int64_t stride) {
    if (stride == 1 && x.channels() == l.scaled(filters)) return x;
    return l.conv_norm(name + ".downsample.0", name + ".downsample.1", x, filters, 1, {.stride = stride});
}

Maps basic(Layers& l, const std::string& name, Maps x, int64_t width, int64_t stride) {
    Maps y = l.conv_norm(name + ".conv1", name + ".bn1", x, width, 3,
                         {.stride = stride, .padding = 1, .activation = Activation::relu});
    return l.conv_norm(name + ".conv2", name + ".bn2", y, width, 3, {.padding = 1, .activation = Activation::relu},
                       shortcut(l, name, x, width, stride));
}

Maps bottleneck(Layers& l, const std::string& name, Maps x, int64_t width, int64_t stride) {
    Maps y = l.conv_norm(name + ".conv1", name + ".bn1", x, width, 1, {.activation = Activation::relu});
    y = l.conv_norm(name + ".conv2", name + ".bn2", y, width, 3,
                    {.stride = stride, .padding = 1, .activation = Activation::relu});
    return l.conv_norm(name + ".conv3", name + ".bn3", y, 4 * width, 1, {.activation = Activation::relu},
                       shortcut(l, name, x, 4 * width, stride));
}

Outputs resnet(Layers& l, Maps x, Block block, const std::vector<int64_t>& blocks) {
    if (small_images(x)) {
        x = l.conv_norm("conv1", "bn1", x, 64, 3, {.padding = 1, .activation = Activation::relu});
    } else {
        x = l.conv_norm("conv1", "bn1", x, 64, 7, {.stride = 2, .padding = 3, .activation = Activation::relu});
        x = l.max_pool("maxpool", x, 3, {.stride = 2, .padding = 1});
    }
    int64_t width = 64;
    for (size_t stage = 0; stage < blocks.size(); ++stage, width *= 2)
        for (int64_t i = 0; i < blocks[stage]; ++i)
            x = block(l, "layer" + std::to_string(stage + 1) + "." + std::to_string(i), x, width,
                      i == 0 && stage > 0 ? 2 : 1);
    return {l.classes("fc", l.global_pool("avgpool", x))};
}

const Architecture resnet18("resnet18", 224, 3, 1000, [](Layers& l, Maps x) {
    return resnet(l, x, basic, {2, 2, 2, 2});
});
const Architecture resnet34("resnet34", 224, 3, 1000, [](Layers& l, Maps x) {
    return resnet(l, x, basic, {3, 4, 6, 3});
});
const Architecture resnet50("resnet50", 224, 3, 1000, [](Layers& l, Maps x) {
    return resnet(l, x, bottleneck, {3, 4, 6, 3});
});
const Architecture resnet101("resnet101", 224, 3, 1000, [](Layers& l, Maps x) {
    return resnet(l, x, bottleneck, {3, 4, 23, 3});
});
const Architecture resnet152("resnet152", 224, 3, 1000, [](Layers& l, Maps x) {
    return resnet(l, x, bottleneck, {3, 8, 36, 3});
});

}  // namespace
}  // namespace tessera
