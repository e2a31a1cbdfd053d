// tiny_training.h - a small network on generated digits, trained for a few steps: what tests of the engine compare.
#pragma once
#include <functional>
#include <vector>

#include "core/error.h"
#include "core/executor.h"
#include "data/digits.h"
#include "graphs/trainer.h"

namespace tessera::testing_tools {

inline RuntimeOptions with_workers(int cpus) {
    RuntimeOptions o;
    o.cpu_workers = cpus;
    return o;
}

struct TinyTraining {
    NetworkOptions network{.inputs = 784, .classes = 10, .hidden = {32, 16}};
    OptimizerOptions optimizer;
    TrainOptions train{.epochs = 4, .batch = 64, .schedule = {}};
    ExecutorOptions executor;
    int64_t steps = 10;
};

// Losses in step order; every step's must have arrived.
inline std::vector<double> losses_of(const Runtime& runtime, TinyTraining t, const Dataset& data,
                                     const std::function<void(Executor&)>& after = {}) {
    Params weights;
    t.network.dtype = t.train.dtype;
    const Network network = make_network("mlp", weights, t.network);
    const Optimizer optimizer(t.optimizer, weights);
    Executor executor(runtime, t.executor);
    Trainer trainer(executor, network, optimizer, data, t.train);
    for (int64_t s = 0; s < t.steps; ++s) trainer.step();
    trainer.wait();
    if (after) after(executor);
    std::vector<double> losses;
    for (const StepResult& r : trainer.take_results()) losses.push_back(r.loss);
    if (int64_t(losses.size()) != t.steps) throw Error("only " + std::to_string(losses.size()) + " losses arrived");
    return losses;
}

}  // namespace tessera::testing_tools
