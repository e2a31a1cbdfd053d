// randwire: Xie, Kirillov, Girshick, He 2019, arXiv 1904.01569, table 1, small regime: three stages of 32 nodes, wired
// by Watts-Strogatz(32, 4, 0.75), 78 channels. The seed draws the wiring. The stem keeps the size of small images.
#include "graphs/layers.h"
#include "graphs/networks/random_wiring.h"

namespace tessera {
namespace {

Maps relu_of(Layers& l, const std::string& name, Maps x) {
    const auto layer = l.at(name);
    x.tensor = relu(x.tensor);
    return x;
}

// relu of the inputs' sum, each times the sigmoid of a learned number. One input alone needs none: scaling commutes
// with relu and convolution, and the norm undoes it.
Maps aggregated(Layers& l, const std::string& name, const std::vector<Maps>& inputs) {
    if (inputs.size() == 1) return relu_of(l, name + ".relu", inputs[0]);
    const int64_t n = int64_t(inputs.size());
    const Tensor w = l.weight(name + ".edges", {1, n}, {FirstValues::Kind::constant, 0});
    const auto layer = l.at(name + ".sum");
    const auto factors = split({sigmoid(w)}, std::vector<int64_t>(inputs.size(), 1));
    Maps sum;
    for (size_t i = 0; i < inputs.size(); ++i) {
        const Maps& x = inputs[i];
        const Maps part{scale_by(x.tensor, factors[i].tensor), x.height, x.width};
        const bool last = i + 1 == inputs.size();
        sum = i == 0 ? part : add(sum, part, last ? Activation::relu : Activation::none);
    }
    return sum;
}

// Depthwise 3 x 3 and 1 x 1 convolution, norm.
Maps separable(Layers& l, const std::string& name, Maps x, int64_t filters, int64_t stride) {
    x = l.depthwise(name + ".depthwise", x, 3, {.stride = stride, .padding = 1}, false);
    return l.conv_norm(name + ".pointwise", name + ".bn", x, filters, 1);
}

// Nodes without an edge to them read the stage's input and halve it; the output is the mean of those without one from.
Maps stage(Layers& l, const std::string& name, Maps x, int64_t filters, uint64_t stream) {
    const auto before = watts_strogatz(32, 4, 0.75, l.options.seed, stream);
    std::vector<Maps> nodes;
    std::vector<bool> read(before.size());
    for (const auto& from : before) {
        const std::string node = name + ".node" + std::to_string(nodes.size());
        std::vector<Maps> inputs;
        for (int u : from) inputs.push_back(nodes[size_t(u)]), read[size_t(u)] = true;
        const bool first = inputs.empty();
        if (first) inputs = {x};
        nodes.push_back(separable(l, node, aggregated(l, node, inputs), filters, first ? 2 : 1));
    }
    Maps sum;
    int64_t ends = 0;
    for (size_t v = 0; v < nodes.size(); ++v)
        if (!read[v]) sum = ends++ == 0 ? nodes[v] : l.add(name + ".mean", sum, nodes[v]);
    const auto layer = l.at(name + ".mean");
    if (ends > 1) sum.tensor = scale(sum.tensor, 1 / double(ends));
    return sum;
}

const Architecture randwire("randwire", 224, 3, 1000, [](Layers& l, Maps x) -> Outputs {
    constexpr int64_t channels = 78;
    constexpr uint64_t wiring = 0x57495245;  // streams far from those of first values
    const int64_t stride = small_images(x) ? 1 : 2;
    x = l.conv_norm("conv1.conv", "conv1.bn", x, channels / 2, 3, {.stride = stride, .padding = 1});
    x = l.conv_norm("conv2.conv", "conv2.bn", relu_of(l, "conv2.relu", x), channels, 3,
                    {.stride = stride, .padding = 1});
    x = stage(l, "conv3", x, channels, wiring);
    x = stage(l, "conv4", x, 2 * channels, wiring + 1);
    x = stage(l, "conv5", x, 4 * channels, wiring + 2);
    x = relu_of(l, "classifier.relu", x);
    x = l.conv_norm("classifier.conv", "classifier.bn", x, 1280, 1, {.activation = Activation::relu});
    return {l.classes("fc", l.global_pool("avgpool", x))};
});

}  // namespace
}  // namespace tessera
