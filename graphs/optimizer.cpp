#include "graphs/optimizer.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace tessera {

Optimizer::Optimizer(OptimizerOptions options, const Params& weights) : options_(std::move(options)) {
    const auto& o = options_;
    const std::vector<std::string> kinds = {"sgd", "adam", "adamw"};
    if (std::find(kinds.begin(), kinds.end(), o.kind) == kinds.end())
        throw UsageError("unknown optimizer '" + o.kind + "'", suggestion_or_list(o.kind, kinds));
    if (!(o.momentum >= 0 && o.momentum < 1)) throw UsageError("--momentum must be in [0, 1)");
    if (!(o.weight_decay >= 0 && std::isfinite(o.weight_decay)))
        throw UsageError("--weight-decay must be finite and not negative");
    if (!(o.clip >= 0 && std::isfinite(o.clip))) throw UsageError("--clip must be finite and not negative");
    if (o.nesterov && (o.kind != "sgd" || o.momentum == 0)) throw UsageError("--nesterov needs sgd with momentum");
    std::vector<std::string> suffixes;
    if (o.kind == "sgd" && o.momentum > 0) suffixes = {".momentum"};
    if (o.kind != "sgd") suffixes = {".m", ".v"};
    for (const auto& p : weights) {
        if (!p->trainable) continue;
        weights_.push_back(p.get());
        for (const auto& suffix : suffixes) state_.add({p->name + suffix, p->shape, p->dtype, p->grid, nullptr, false});
    }
}

void Optimizer::minimize(Tensor loss) const {
    Graph& g = *loss.graph;
    const auto& o = options_;
    std::vector<Tensor> weights;
    for (const Param* p : weights_) weights.push_back(g.param(*p));
    auto dw = gradients(loss, weights);
    for (size_t i = 0; i < dw.size(); ++i)
        require(bool(dw[i]), "optimizer", "the loss does not depend on " + weights_[i]->name);
    Graph::Layer scope(g, "optimizer");
    if (o.clip > 0) dw = clip_by_global_norm(dw, o.clip);
    auto state = state_.begin();
    const auto next = [&] { return g.param(**state++); };
    for (size_t i = 0; i < dw.size(); ++i) {
        if (o.kind == "sgd" && o.momentum == 0) sgd(weights[i], dw[i], o.weight_decay);
        else if (o.kind == "sgd") sgd(weights[i], dw[i], next(), o.momentum, o.nesterov, o.weight_decay);
        else {
            Tensor m = next(), v = next();
            (o.kind == "adam" ? adam : adamw)(weights[i], dw[i], m, v, o.weight_decay);
        }
    }
}

}  // namespace tessera
