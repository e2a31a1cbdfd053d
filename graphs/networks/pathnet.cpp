// pathnet: Fernando et al. 2017, arXiv 1701.08734: of the 20 modules of each of 3 layers a path uses 5, which the seed
// draws; what active modules give is summed between layers. A module is a 3 x 3 convolution of 20 filters, batch norm
// and relu. Weights of modules outside the path are not made: no gradient would reach them.
#include <algorithm>

#include "core/random.h"
#include "graphs/layers.h"

namespace tessera {
namespace {

constexpr int64_t layers = 3, modules = 20, active = 5, filters = 20;

// `active` different modules of a layer, ascending.
std::vector<int64_t> path(uint64_t seed, int64_t layer) {
    constexpr uint64_t streams = 0x50415448;  // far from those of first values
    std::vector<int64_t> all;
    for (int64_t m = 0; m < modules; ++m) all.push_back(m);
    for (int64_t i = 0; i < active; ++i)
        std::swap(all[size_t(i)],
                  all[size_t(i) + random_bits(seed, streams + uint64_t(layer), uint64_t(i)) % uint64_t(modules - i)]);
    all.resize(size_t(active));
    std::sort(all.begin(), all.end());
    return all;
}

const Architecture pathnet("pathnet", 32, 3, 10, [](Layers& l, Maps x) -> Outputs {
    for (int64_t i = 1; i <= layers; ++i) {
        const std::string layer = "layer" + std::to_string(i);
        Maps sum;
        for (int64_t m : path(l.options.seed, i)) {
            const std::string name = layer + ".module" + std::to_string(m);
            const Maps y = l.conv_norm(name + ".conv", name + ".bn", x, filters, 3,
                                       {.padding = 1, .activation = Activation::relu});
            sum = sum.tensor ? l.add(layer + ".sum", sum, y) : y;
        }
        x = i < layers ? l.max_pool(layer + ".pool", sum, 2, {.stride = 2}) : sum;
    }
    return {l.classes("fc", l.global_pool("avgpool", x))};
});

}  // namespace
}  // namespace tessera
