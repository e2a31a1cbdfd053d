// Trains y = a xor b with Tessera as a library: a graph, its gradients, an update, a plan run 2,000 times.
#include <starpu.h>

#include <cstdio>

#include "core/executor.h"
#include "graphs/network.h"
#include "graphs/optimizer.h"

using namespace tessera;

int main() {
    Runtime runtime;
    Params data, weights;
    const auto bit = [](int64_t row, int64_t col) { return double(row >> col & 1); };
    Param& x = data.add({"x", {4, 2}, DType::f32, {}, bit, false});
    Param& label = data.add(
        {"label", {4, 1}, DType::i32, {}, [&](int64_t i, int64_t) { return double(bit(i, 0) != bit(i, 1)); }, false});
    NetworkOptions options;
    options.inputs = 2, options.classes = 2, options.hidden = {8}, options.activation = Activation::tanh;
    Network network = mlp(weights, options);
    Optimizer optimizer({.kind = "sgd", .momentum = 0.9}, weights);

    Graph graph;
    Tensor logits = network.logits(graph, graph.param(x), true);
    Tensor correct = count_correct(logits, graph.param(label));
    graph.keep(correct);
    optimizer.minimize(softmax_cross_entropy(logits, graph.param(label)));

    Executor executor(runtime, {});
    const int plan = executor.load(Plan(graph));
    for (int step = 0; step < 2000; ++step) executor.submit(plan, {.number = step, .learning_rate = 0.1});
    executor.wait();
    std::printf("%g of 4 correct\n", executor.read(plan, correct)[0]);
    return executor.read(plan, correct)[0] == 4 ? 0 : 1;
}
