// Prints the simulated seconds of a product on all GPUs, planned with the rates that the arguments give them, the first
// of which takes SLOWNESS times as long as the others. Times come from a fixed synthetic model. See sim_gemm.sh.
#include <starpu.h>  // under simulation it renames main

#include <cstdio>
#include <cstdlib>

#include "graphs/product.h"

using namespace tessera;

static double slowness() {
    const char* set = std::getenv("SLOWNESS");
    return set ? std::atof(set) : 1;
}

static double synthetic_us(starpu_task* task, starpu_perfmodel_arch* arch, unsigned) {
    return (5 + task->flops / 1e6) * (arch->devices[0].devid == 0 ? slowness() : 1);
}

int main(int argc, char** argv) {
    RuntimeOptions options;
    options.blocked = true;
    const Runtime runtime(options);
    for (const CodeletInfo* c : all_codelets()) {
        c->starpu->model->type = STARPU_PER_ARCH;
        c->starpu->model->arch_cost_function = synthetic_us;
    }
    ProductOptions product;
    product.tile = 960;
    for (const WorkerInfo& w : runtime.workers()) {
        const int next = 1 + int(product.devices.size());
        if (!w.cuda || next >= argc) return std::fputs("a rate for every GPU, and no cores\n", stderr), 2;
        product.devices.push_back({.node = int(w.node), .speed = std::atof(argv[next])});
    }
    const Matrix m{nullptr, 9600, 9600, 0, DType::f32};
    Product p(runtime, m, m, m, product);
    const double start = starpu_timing_now();
    p.submit();
    p.wait();
    std::printf("%.6f\n", (starpu_timing_now() - start) * 1e-6);
    return 0;
}
