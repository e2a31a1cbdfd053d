#include "graphs/network.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/error.h"
#include "graphs/layers.h"

namespace tessera {

static const std::vector<std::pair<std::string, Activation>> activations = {
    {"relu", Activation::relu},       {"gelu", Activation::gelu}, {"tanh", Activation::tanh},
    {"sigmoid", Activation::sigmoid}, {"silu", Activation::silu}, {"none", Activation::none}};

std::vector<std::string> activation_names() {
    std::vector<std::string> names;
    for (auto& [name, _] : activations) names.push_back(name);
    return names;
}

Activation parse_activation(const std::string& text) {
    for (auto& [name, activation] : activations)
        if (name == text) return activation;
    throw UsageError("unknown activation '" + text + "'", suggestion_or_list(text, activation_names()));
}

static std::vector<const Architecture*>& registered() {
    static std::vector<const Architecture*> all;
    return all;
}

Architecture::Architecture(std::string name, Extent2d image, int64_t channels, int64_t classes, Build build,
                           const char* path)
    : name(std::move(name)), image(image), channels(channels), classes(classes), build(std::move(build)) {
    const char* slash = std::strrchr(path, '/');
    file = slash ? slash + 1 : path;
    registered().push_back(this);
}

std::vector<const Architecture*> all_architectures() {
    auto all = registered();
    std::stable_sort(all.begin(), all.end(), [](auto* a, auto* b) { return a->file < b->file; });
    return all;
}

const Architecture& architecture(const std::string& name) {
    std::vector<std::string> known;
    for (const Architecture* a : all_architectures()) {
        if (a->name == name) return *a;
        known.push_back(a->name);
    }
    throw UsageError("unknown network '" + name + "'", suggestion_or_list(name, known));
}

Tensor classification_loss(const Outputs& outputs, Tensor labels, double label_smoothing) {
    Tensor loss = softmax_cross_entropy(outputs.logits, labels, label_smoothing);
    for (const auto& [logits, weight] : outputs.auxiliary)
        loss = add(loss, scale(softmax_cross_entropy(logits, labels, label_smoothing), weight));
    return loss;
}

Tensor Network::logits(Graph& g, Tensor x, bool training) const {
    return outputs(g, takes_images() ? maps_of(x, image.height, image.width) : Maps{x}, training).logits;
}

static std::string text_of(Extent2d image, int64_t channels) {
    return std::to_string(channels) + "x" + std::to_string(image.height) + "x" + std::to_string(image.width);
}

// What is not said is as published.
static NetworkOptions completed(const Architecture& a, NetworkOptions o) {
    constexpr int64_t most = int64_t(1) << 20;
    const auto is_extent = [](int64_t x) { return x >= 0 && x <= most; };
    if (!is_extent(o.image.height) || !is_extent(o.image.width) || o.channels < 0 || o.inputs < 0)
        throw UsageError(a.name + ": no samples are " + text_of(o.image, o.channels));
    if (o.classes < 0) throw UsageError(a.name + ": " + std::to_string(o.classes) + " classes");
    if (!(o.width > 0 && o.width <= 1024)) throw UsageError(a.name + ": the width must be positive, and 1024 at most");
    if (o.dropout && !(*o.dropout >= 0 && *o.dropout < 1)) throw UsageError("--dropout must be in [0, 1)");
    if (o.classes == 0) o.classes = a.classes;
    if (a.image == Extent2d(1)) {
        o.image = 1;
        o.channels = o.inputs > 0 ? o.inputs : a.channels;
        return o;
    }
    if (o.image.height == 0) o.image.height = a.image.height;
    if (o.image.width == 0) o.image.width = a.image.width;
    if (o.channels == 0) o.channels = a.channels;
    return o;
}

// Builds into a graph; what an op refuses, naming the layer, is told with the network.
static Outputs built(const Architecture& a, Layers& layers, Maps x) {
    try {
        return a.build(layers, x);
    } catch (const std::invalid_argument& e) { throw std::invalid_argument(a.name + ": " + e.what()); }
}

// Adds all weights to `params`, by building into a graph that is thrown away; gives the probability of the last
// dropout.
static double declare(const Architecture& a, Params& params, const NetworkOptions& o, Layers::Weights& weights) {
    Graph scratch;
    Layers layers(scratch, weights, o, false, &params);
    const int64_t height = o.image.height, width = o.image.width;
    const Shape shape{2 * height * width, o.channels};
    Outputs outputs;
    try {
        outputs = built(a, layers, {scratch.value("x", shape, o.dtype, Grid::whole(shape)), height, width});
    } catch (const std::invalid_argument& e) {
        throw UsageError(e.what(), "these samples are " + text_of(o.image, o.channels) + ", " + a.name +
                                       " was published for " + text_of(a.image, a.channels));
    }
    if (o.dropout.value_or(0) > 0 && !layers.dropped())
        throw UsageError(a.name + " has no layer that --dropout is for");
    if (o.auxiliary && outputs.auxiliary.empty()) throw UsageError(a.name + " has no auxiliary heads");
    return layers.dropped().value_or(0);
}

Network make_network(const std::string& name, Params& params, NetworkOptions options) {
    const Architecture& a = architecture(name);
    const NetworkOptions o = completed(a, std::move(options));
    const auto weights = std::make_shared<Layers::Weights>();
    const double dropout = declare(a, params, o, *weights);
    const auto outputs = [&a, o, weights](Graph& g, Maps x, bool training) {
        require(Extent2d(x.height, x.width) == o.image && x.channels() == o.channels, a.name,
                "is built for samples of " + text_of(o.image, o.channels) + ", not " +
                    text_of({x.height, x.width}, x.channels()),
                {x.tensor});
        Layers layers(g, *weights, o, training);
        return built(a, layers, x);
    };
    return {a.name, o.image, o.channels, dropout, outputs};
}

}  // namespace tessera
