// densenet121: Huang, Liu, van der Maaten, Weinberger 2017, arXiv 1608.06993, table 1: growth 32, bottlenecks of 4
// times that, transitions that halve. Every layer reads all maps before it in its block.
#include "graphs/layers.h"

namespace tessera {
namespace {

constexpr int64_t growth = 32;

Maps dense_layer(Layers& l, const std::string& name, Maps x) {
    Maps y = l.norm(name + ".norm1", x, Activation::relu);
    y = l.conv_norm(name + ".conv1", name + ".norm2", y, 4 * growth, 1, {.activation = Activation::relu});
    return l.conv(name + ".conv2", y, growth, 3, {.padding = 1}, false);
}

Maps transition(Layers& l, const std::string& name, Maps x, int64_t filters) {
    x = l.norm(name + ".norm", x, Activation::relu);
    x = l.conv(name + ".conv", x, filters, 1, {}, false);
    return l.avg_pool(name + ".pool", x, 2, {.stride = 2});
}

const Architecture densenet121("densenet121", 224, 3, 1000, [](Layers& l, Maps x) -> Outputs {
    constexpr int64_t blocks[] = {6, 12, 24, 16};
    int64_t channels = 64;
    x = l.conv_norm("features.conv0", "features.norm0", x, channels, 7,
                    {.stride = 2, .padding = 3, .activation = Activation::relu});
    x = l.max_pool("features.pool0", x, 3, {.stride = 2, .padding = 1});
    for (int64_t b = 1; b <= 4; ++b) {
        const std::string block = "features.denseblock" + std::to_string(b);
        std::vector<Maps> all = {x};
        for (int64_t i = 1; i <= blocks[b - 1]; ++i) {
            const std::string name = block + ".denselayer" + std::to_string(i);
            all.push_back(dense_layer(l, name, x));
            x = l.concat(name, all);
        }
        channels += growth * blocks[b - 1];
        if (b < 4) x = transition(l, "features.transition" + std::to_string(b), x, channels /= 2);
    }
    x = l.norm("features.norm5", x, Activation::relu);
    return {l.classes("classifier", l.global_pool("avgpool", x))};
});

}  // namespace
}  // namespace tessera
