// graphs/network.h - networks as functions that compose ops. A network adds its weights to Params once, and may then be
// built into any number of graphs (training, evaluation, a short last batch), which share them.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "codelets/ops.h"

namespace tessera {

struct NetworkOptions {
    int64_t inputs = 0, classes = 0;
    std::vector<int64_t> hidden = {512, 512};
    Activation activation = Activation::relu;
    double dropout = 0;
    DType dtype = DType::f32;   // of activations; weights are f32 (f64 for f64), cast where bf16 is used
    int64_t tile_features = 0;  // largest extent of a weight tile; 0: whole matrices
    uint64_t seed = 1;
};

struct Network {
    std::string name;
    std::function<Tensor(Graph&, Tensor x, bool training)> logits;  // x [N x inputs] -> [N x classes]
};

// Multi-layer perceptron: linear + activation (+ dropout) per hidden width, then linear. Weights fc<i>.weight [O x I],
// fc<i>.bias [1 x O], first values uniform in +-1/sqrt(I), stream 2i for weights and 2i + 1 for biases (core/random.h).
Network mlp(Params&, const NetworkOptions&);

// By name; throws UsageError with a suggestion.
Network make_network(const std::string& name, Params&, const NetworkOptions&);

Activation parse_activation(const std::string&);
std::vector<std::string> activation_names();

}  // namespace tessera
