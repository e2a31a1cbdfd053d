// mlp: multi-layer perceptron. linear + activation (+ dropout) per hidden width, then linear: fc0, fc1, ...
#include "graphs/layers.h"

namespace tessera {
namespace {

Outputs build(Layers& l, Maps x) {
    Tensor y = x.tensor;
    size_t i = 0;
    const auto name = [&] { return "fc" + std::to_string(i); };
    for (; i < l.options.hidden.size(); ++i) {
        y = l.linear(name(), y, l.options.hidden[i], l.options.activation);
        y = l.dropout(name(), y, 0);
    }
    return {l.classes(name(), y)};
}

const Architecture architecture("mlp", 1, 28 * 28, 10, build);

}  // namespace

Network mlp(Params& params, const NetworkOptions& o) { return make_network("mlp", params, o); }

}  // namespace tessera
