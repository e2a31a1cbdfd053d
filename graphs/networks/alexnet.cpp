// alexnet: Krizhevsky 2014, arXiv 1404.5997, the single-column form of torchvision.
#include "graphs/layers.h"

namespace tessera {
namespace {

const Architecture alexnet("alexnet", 224, 3, 1000, [](Layers& l, Maps x) -> Outputs {
    x = l.conv("features.0", x, 64, 11, {.stride = 4, .padding = 2, .activation = Activation::relu});
    x = l.max_pool("features.2", x, 3, {.stride = 2});
    x = l.conv("features.3", x, 192, 5, {.padding = 2, .activation = Activation::relu});
    x = l.max_pool("features.5", x, 3, {.stride = 2});
    x = l.conv("features.6", x, 384, 3, {.padding = 1, .activation = Activation::relu});
    x = l.conv("features.8", x, 256, 3, {.padding = 1, .activation = Activation::relu});
    x = l.conv("features.10", x, 256, 3, {.padding = 1, .activation = Activation::relu});
    x = l.max_pool("features.12", x, 3, {.stride = 2});
    Tensor y = flatten(l.adaptive_pool("avgpool", x, 6));
    y = l.dropout("classifier.0", y, 0.5);
    y = l.linear("classifier.1", y, 4096, Activation::relu);
    y = l.dropout("classifier.3", y, 0.5);
    y = l.linear("classifier.4", y, 4096, Activation::relu);
    return {l.classes("classifier.6", y)};
});

}  // namespace
}  // namespace tessera
