// core/examples.cpp - the list of examples, and gradients in their graphs.
#include "core/examples.h"

#include <algorithm>
#include <cstring>

namespace tessera {

static std::vector<const Example*>& registered() {
    static std::vector<const Example*> all;
    return all;
}

Example::Example(const std::vector<DType>& of, const char* path) {
    const char* slash = std::strrchr(path, '/');
    file = slash ? slash + 1 : path;
    for (DType t : of)
        if (std::find(types.begin(), types.end(), t) == types.end()) types.push_back(t);
    registered().push_back(this);
}

std::vector<const Example*> all_examples() {
    auto all = registered();
    std::stable_sort(all.begin(), all.end(), [](auto* a, auto* b) { return a->file < b->file; });
    return all;
}

void ExampleGraph::keep_with_gradients(Tensor y, const std::vector<Tensor>& wrt) {
    keep(y);
    const Tensor dy = graph.value("dy", y.shape(), y.dtype(), y.grid());
    for (Tensor dx : graph.backward(y, dy, wrt, sum_))
        if (dx) keep(dx);
}

}  // namespace tessera
