// codelets/ops.cpp - what several ops use on the graph side; no kernel.
#include "codelets/ops.h"

#include "codelets/elementwise.h"

namespace tessera {

Tensor on_grid(Tensor x, const Grid& grid) { return x.grid() == grid ? x : retile(x, grid); }

Tensor with_vjp(Tensor y, const Vjp& vjp) {
    y.graph->last().vjp = vjp;
    return y;
}

std::vector<Tensor> gradients(Tensor of, const std::vector<Tensor>& wrt) {
    require(of.shape() == Shape{1, 1}, "gradients", "needs a [1 x 1] value", {of});
    Tensor one = fill(*of.graph, {1, 1}, of.dtype(), of.grid(), 1.0);
    return of.graph->backward(of, one, wrt, [](Tensor a, Tensor b) { return add(a, b); });
}

}  // namespace tessera
