#include "graphs/network.h"

#include <cmath>

#include "core/error.h"
#include "core/random.h"

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

static std::function<double(int64_t, int64_t)> uniform(uint64_t seed, uint64_t stream, double bound, int64_t cols) {
    // Rounded to float in every type, so that f64 starts where f32 does.
    return [=](int64_t i, int64_t j) {
        return double(float((2 * double(random_uniform(seed, stream, uint64_t(i * cols + j))) - 1) * bound));
    };
}

Network mlp(Params& params, const NetworkOptions& o) {
    struct Layer {
        Param *weight, *bias;
    };
    std::vector<Layer> layers;
    std::vector<int64_t> widths = o.hidden;
    widths.push_back(o.classes);
    const DType type = o.dtype == DType::f64 ? DType::f64 : DType::f32;
    int64_t inputs = o.inputs;
    for (size_t l = 0; l < widths.size(); ++l) {
        const std::string name = "fc" + std::to_string(l);
        const int64_t outputs = widths[l];
        const double bound = 1 / std::sqrt(double(inputs));
        // The input's columns stay whole: they are gathered row by row.
        const Grid grid{cut(outputs, o.tile_features), cut(inputs, l == 0 ? 0 : o.tile_features)};
        layers.push_back(
            {&params.add({name + ".weight", {outputs, inputs}, type, grid, uniform(o.seed, 2 * l, bound, inputs)}),
             &params.add({name + ".bias",
                          {1, outputs},
                          type,
                          {{1}, grid.row_extents},
                          uniform(o.seed, 2 * l + 1, bound, outputs)})});
        inputs = outputs;
    }
    const auto logits = [layers, o](Graph& g, Tensor x, bool training) {
        require(x.shape().cols == o.inputs, "mlp", "needs " + std::to_string(o.inputs) + " features", {x});
        for (size_t l = 0; l < layers.size(); ++l) {
            Graph::Layer scope(g, "fc" + std::to_string(l));
            const bool last = l + 1 == layers.size();
            Tensor w = g.param(*layers[l].weight), b = g.param(*layers[l].bias);
            if (w.dtype() != o.dtype) w = cast(w, o.dtype), b = cast(b, o.dtype);
            x = linear(x, w, b, last ? Activation::none : o.activation);
            if (training && !last && o.dropout > 0) x = dropout(x, o.dropout);
        }
        return x;
    };
    return {"mlp", logits};
}

Network make_network(const std::string& name, Params& params, const NetworkOptions& o) {
    if (name == "mlp") return mlp(params, o);
    throw UsageError("unknown network '" + name + "'", suggestion_or_list(name, {"mlp"}));
}

}  // namespace tessera
