// An operation of one's own, outside Tessera's tree: softplus, y = log(1 + exp(x)), with its gradient sigmoid(x) dy.
#include <starpu.h>

#include <cmath>
#include <cstdio>

#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/executor.h"

using namespace tessera;

template <class T>
struct Softplus : Unary<Softplus<T>, T> {
    static constexpr auto name = "softplus", formula = "y = log(1 + exp(x))";
    static constexpr double flops_per_element = 3;
    HD static Compute<T> f(NoArgs, Compute<T> x) { return std::log1p(std::exp(x)); }
};
static const Register<Softplus<float>, Softplus<double>> codelets;

Tensor softplus(Tensor x) {
    return map_tiles<Softplus, float, double>(NoArgs{}, {x},
                                              [x](const auto& d) { return std::vector{mul(d[0], sigmoid(x))}; });
}

int main() {
    Runtime runtime;
    Params params;
    Param& x = params.add({"x", {3, 5}, DType::f64, {}, [](int64_t i, int64_t j) { return double(i - j) / 2; }});
    Graph graph;
    Tensor y = softplus(graph.param(x));
    Tensor dx = gradients(sum_all(y), {graph.param(x)})[0];
    graph.keep(y), graph.keep(dx);
    Executor executor(runtime, {});
    const int plan = executor.load(Plan(graph));
    executor.submit(plan, {});
    executor.wait();
    const auto xs = executor.read(x), ys = executor.read(plan, y), ds = executor.read(plan, dx);
    double error = 0;
    for (size_t i = 0; i < xs.size(); ++i) {
        error = std::fmax(error, std::fabs(ys[i] - std::log(1 + std::exp(xs[i]))));
        error = std::fmax(error, std::fabs(ds[i] - 1 / (1 + std::exp(-xs[i]))));
    }
    std::printf("largest error %g\n", error);
    return error < 1e-12 ? 0 : 1;
}
