// lenet5: LeCun, Bottou, Bengio, Haffner 1998, Proc. IEEE 86(11), with every map of S2 connected to every map of C3,
// plain averages, and a linear output. Images below 32 x 32 (MNIST's 28 x 28) are padded by 2 on each side.
#include "graphs/layers.h"

namespace tessera {
namespace {

const Architecture lenet5("lenet5", 32, 1, 10, [](Layers& l, Maps x) -> Outputs {
    const Extent2d padding{x.height < 32 ? 2 : 0, x.width < 32 ? 2 : 0};
    x = l.conv("c1", x, 6, 5, {.padding = padding, .activation = Activation::tanh});
    x = l.avg_pool("s2", x, 2, {.stride = 2});
    x = l.conv("c3", x, 16, 5, {.activation = Activation::tanh});
    x = l.avg_pool("s4", x, 2, {.stride = 2});
    Tensor y = l.linear("c5", flatten(x), 120, Activation::tanh);
    y = l.linear("f6", y, 84, Activation::tanh);
    return {l.classes("output", y)};
});

}  // namespace
}  // namespace tessera
