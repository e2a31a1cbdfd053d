// squeezenet1_0: Iandola et al. 2016, arXiv 1602.07360, table 1 (whose poolings round up), as torchvision.
#include "graphs/layers.h"

namespace tessera {
namespace {

Maps fire(Layers& l, const std::string& name, Maps x, int64_t squeeze, int64_t expand) {
    x = l.conv(name + ".squeeze", x, squeeze, 1, {.activation = Activation::relu});
    return l.concat(name, {l.conv(name + ".expand1x1", x, expand, 1, {.activation = Activation::relu}),
                           l.conv(name + ".expand3x3", x, expand, 3, {.padding = 1, .activation = Activation::relu})});
}

const Architecture squeezenet("squeezenet1_0", 224, 3, 1000, [](Layers& l, Maps x) -> Outputs {
    x = l.conv("features.0", x, 96, 7, {.stride = 2, .activation = Activation::relu});
    x = l.max_pool("features.2", x, 3, {.stride = 2, .ceil = true});
    x = fire(l, "features.3", x, 16, 64);
    x = fire(l, "features.4", x, 16, 64);
    x = fire(l, "features.5", x, 32, 128);
    x = l.max_pool("features.6", x, 3, {.stride = 2, .ceil = true});
    x = fire(l, "features.7", x, 32, 128);
    x = fire(l, "features.8", x, 48, 192);
    x = fire(l, "features.9", x, 48, 192);
    x = fire(l, "features.10", x, 64, 256);
    x = l.max_pool("features.11", x, 3, {.stride = 2, .ceil = true});
    x = fire(l, "features.12", x, 64, 256);
    x.tensor = l.dropout("classifier.0", x.tensor, 0.5);
    x = l.classes("classifier.1", x, {.activation = Activation::relu});
    return {l.global_pool("classifier.3", x)};
});

}  // namespace
}  // namespace tessera
