// sgd, adam, adamw over three steps against PyTorch's formulas; clip_by_global_norm.
#include "plain.h"

namespace tessera::test {
namespace {

double rate(int64_t step) { return 0.1 / double(1 + step); }
Step numbered(int64_t step) { return {step, rate(step), 0, nullptr}; }

// w, dw and `states` in place; the states are not negative.
std::function<std::vector<Input>(Extents)> weights(int states, double most) {
    return [=](Extents e) {
        std::vector<Input> all{{.shape = {e.m, e.n}, .param = true}, {.shape = {e.m, e.n}}};
        for (int i = 0; i < states; ++i)
            all.push_back({.shape = {e.m, e.n}, .low = 0, .high = most, .cut_as = 0, .param = true});
        return all;
    };
}

OpCase optimizer(const std::string& name, int states, double most, decltype(OpCase::build) build,
                 decltype(OpCase::reference) reference) {
    return {.name = name,
            .inputs = weights(states, most),
            .build = std::move(build),
            .reference = std::move(reference),
            .types = {DType::f32, DType::f64},
            .gradient = false,
            .tolerance_factor = 4,
            .scale = 1,
            .steps = 3,
            .step = numbered};
}

// torch.optim.SGD, dampening 0.
OpCase sgd_case(const std::string& name, double momentum, bool nesterov, double decay) {
    return optimizer(
        name, 1, 1,
        [=](Graph&, const auto& x) {
            sgd(x[0], x[1], x[2], momentum, nesterov, decay);
            return std::vector{x[0], x[2]};
        },
        [=](const Matrices& x) {
            Matrix w = x[0], buffer = x[2];
            for (int64_t step = 0; step < 3; ++step)
                for (size_t i = 0; i < w.v.size(); ++i) {
                    double d = x[1].v[i] + decay * w.v[i];
                    buffer.v[i] = momentum * buffer.v[i] + d;
                    d = nesterov ? d + momentum * buffer.v[i] : buffer.v[i];
                    w.v[i] -= rate(step) * d;
                }
            return Matrices{w, buffer};
        });
}
const Declare momentum{sgd_case("sgd_momentum", 0.9, false, 0)};
const Declare momentum_decay{sgd_case("sgd_momentum_decay", 0.8, false, 0.05)};
const Declare nesterov{sgd_case("sgd_nesterov", 0.9, true, 0.01)};
const Declare without_momentum{optimizer(
    "sgd", 0, 1,
    [](Graph&, const auto& x) {
        sgd(x[0], x[1], 0.05);
        return std::vector{x[0]};
    },
    [](const Matrices& x) {
        Matrix w = x[0];
        for (int64_t step = 0; step < 3; ++step)
            for (size_t i = 0; i < w.v.size(); ++i) w.v[i] -= rate(step) * (x[1].v[i] + 0.05 * w.v[i]);
        return Matrices{w};
    })};

// torch.optim.Adam and AdamW, betas (0.9, 0.999), eps 1e-8. `most` = 0: from zero states, as training begins.
OpCase adam_case(const std::string& name, bool decoupled, double decay, double most) {
    return optimizer(
        name, 2, most,
        [=](Graph&, const auto& x) {
            decoupled ? adamw(x[0], x[1], x[2], x[3], decay) : adam(x[0], x[1], x[2], x[3], decay);
            return std::vector{x[0], x[2], x[3]};
        },
        [=](const Matrices& x) {
            Matrix w = x[0], m = x[2], v = x[3];
            for (int64_t step = 0; step < 3; ++step)
                for (size_t i = 0; i < w.v.size(); ++i) {
                    const double lr = rate(step), t = double(step + 1);
                    if (decoupled) w.v[i] *= 1 - lr * decay;
                    const double g = x[1].v[i] + (decoupled ? 0 : decay * w.v[i]);
                    m.v[i] = 0.9 * m.v[i] + 0.1 * g;
                    v.v[i] = 0.999 * v.v[i] + 0.001 * g * g;
                    const double denominator = std::sqrt(v.v[i]) / std::sqrt(1 - std::pow(0.999, t)) + 1e-8;
                    w.v[i] -= lr / (1 - std::pow(0.9, t)) * m.v[i] / denominator;
                }
            return Matrices{w, m, v};
        });
}
const Declare adam_start{adam_case("adam_from_zero", false, 0, 0)};
const Declare adam_decay{adam_case("adam_decay", false, 0.05, 1)};
const Declare adamw_start{adam_case("adamw_from_zero", true, 0.05, 0)};
const Declare adamw_decay{adam_case("adamw", true, 0.1, 1)};

OpCase clip(const std::string& name, double max_norm) {
    return {.name = name,
            .inputs =
                [](Extents e) {
                    return std::vector<Input>{{.shape = {e.m, e.n}}, {.shape = {1, e.k}}, {.shape = {e.n, e.k}}};
                },
            .build = [=](Graph&, const auto& x) { return clip_by_global_norm(x, max_norm); },
            .reference =
                [=](const Matrices& x) {
                    double squares = 0;
                    for (const Matrix& g : x)
                        for (double v : g.v) squares += v * v;
                    const double factor = std::min(1.0, max_norm / (std::sqrt(squares) + 1e-6));
                    Matrices clipped;
                    for (const Matrix& g : x) clipped.push_back(map(g, [=](double v) { return factor * v; }));
                    return clipped;
                },
            .types = {DType::f32, DType::f64},
            .gradient = false,
            .reduction = [](Extents e) { return e.m * e.n + e.k + e.n * e.k; },
            .scale = 1e-3};
}
const Declare clipped{clip("clip", 0.5)};
const Declare not_clipped{clip("clip_nothing", 1e6)};

}  // namespace
}  // namespace tessera::test
