// Prints the simulated time of four MLP steps and their critical path, both in seconds, and fails if the time is the
// shorter one. Times come from a fixed synthetic model, so the figures are exact and mean nothing. See sim_test.sh.
#include <starpu.h>  // under simulation it renames main

#include <cmath>
#include <cstdio>

#include "codelets/load.h"
#include "core/bounds.h"
#include "core/executor.h"
#include "graphs/network.h"
#include "graphs/optimizer.h"

using namespace tessera;

static double synthetic_us(starpu_task* task, starpu_perfmodel_arch* arch, unsigned) {
    const double flops_per_us = arch->devices[0].type == STARPU_CUDA_WORKER ? 1e4 : 1e3;
    return 5 + task->flops / flops_per_us;
}

static double simulate_s(int steps) {
    const Runtime runtime;
    for (const CodeletInfo* c : all_codelets()) {
        c->starpu->model->type = STARPU_PER_ARCH;
        c->starpu->model->arch_cost_function = synthetic_us;
    }
    Params weights;
    NetworkOptions options;
    options.inputs = 784, options.classes = 10, options.hidden = {1024, 1024}, options.tile_features = 512;
    const Network network = mlp(weights, options);
    const Optimizer optimizer({}, weights);
    Executor executor(runtime, {});
    const BatchSource source{nullptr, nullptr, nullptr, 256, 784, 1, nullptr, nullptr};
    Graph g;
    const auto rows = cut(256, 86);
    Tensor x = load_features(g, source, 256, DType::f32, {rows, {784}}),
           labels = load_labels(g, source, 256, {rows, {1}});
    optimizer.minimize(softmax_cross_entropy(network.logits(g, x, true), labels));
    const int plan = executor.load(Plan(g));
    const double start = starpu_timing_now();
    for (int i = 0; i < steps; ++i) executor.submit(plan, {});
    executor.wait();
    const double seconds = (starpu_timing_now() - start) * 1e-6;
    std::vector<double> fastest;
    for (const TaskSpec& t : executor.plan(plan).tasks) fastest.push_back((5 + t.cost.flops / 1e4) * 1e-6);
    const double path = critical_path(executor.plan(plan), fastest, false) * steps;
    std::printf("%.9f %.9f\n", seconds, path);
    return seconds >= path ? seconds : NAN;
}

int main(int, char**) { return std::isfinite(simulate_s(4)) ? 0 : 1; }  // with parameters: StarPU declares it so
