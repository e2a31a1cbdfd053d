// vgg11, vgg16: Simonyan, Zisserman 2015, arXiv 1409.1556, configurations A and D, without batch norm.
#include <utility>

#include "graphs/layers.h"

namespace tessera {
namespace {

// Per stage the filters of its 3 x 3 convolutions; each stage ends in a 2 x 2 max pooling.
using Stages = std::vector<std::vector<int64_t>>;

Outputs vgg(Layers& l, Maps x, const Stages& stages) {
    int64_t i = 0;  // in torchvision's list, where activations count
    const auto next = [&](int64_t entries) { return "features." + std::to_string(std::exchange(i, i + entries)); };
    for (const auto& stage : stages) {
        for (int64_t filters : stage)
            x = l.conv(next(2), x, filters, 3, {.padding = 1, .activation = Activation::relu});
        x = l.max_pool(next(1), x, 2, {.stride = 2});
    }
    Tensor y = flatten(l.adaptive_pool("avgpool", x, 7));
    y = l.linear("classifier.0", y, 4096, Activation::relu);
    y = l.dropout("classifier.2", y, 0.5);
    y = l.linear("classifier.3", y, 4096, Activation::relu);
    y = l.dropout("classifier.5", y, 0.5);
    return {l.classes("classifier.6", y)};
}

const Architecture vgg11("vgg11", 224, 3, 1000, [](Layers& l, Maps x) {
    return vgg(l, x, {{64}, {128}, {256, 256}, {512, 512}, {512, 512}});
});
const Architecture vgg16("vgg16", 224, 3, 1000, [](Layers& l, Maps x) {
    return vgg(l, x, {{64, 64}, {128, 128}, {256, 256, 256}, {512, 512, 512}, {512, 512, 512}});
});

}  // namespace
}  // namespace tessera
