// graphs/optimizer.h - which update rule, with which state. The rules themselves are ops (codelets/sgd.cu, adam.cu).
#pragma once
#include <string>
#include <vector>

#include "codelets/ops.h"

namespace tessera {

struct OptimizerOptions {
    std::string kind = "sgd";  // sgd, adam, adamw
    double learning_rate = 0.1, momentum = 0.9, weight_decay = 0;
    bool nesterov = false;
    double clip = 0;  // largest global norm of the gradients; 0: not clipped
};

// Holds state ("<weight>.momentum", ".m", ".v") for every trainable Param.
class Optimizer {
 public:
    Optimizer(OptimizerOptions, const Params& weights);
    // Appends gradients of `loss` and updates of all weights to its graph.
    void minimize(Tensor loss) const;
    const Params& state() const { return state_; }
    const OptimizerOptions& options() const { return options_; }

 private:
    OptimizerOptions options_;
    std::vector<const Param*> weights_;
    Params state_;
};

}  // namespace tessera
