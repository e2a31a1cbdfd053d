// tiny_networks.h - every network with images and widths so small that a step is short.
#pragma once
#include <string>

#include "graphs/network.h"

namespace tessera::testing_tools {

inline Maps input_of(Graph& g, const Network& n, int64_t batch, DType type = DType::f32) {
    const Shape shape{batch * n.image.height * n.image.width, n.channels};
    return {g.value("x", shape, type, Grid::whole(shape)), n.image.height, n.image.width};
}

inline NetworkOptions tiny(const std::string& name) {
    NetworkOptions o;
    o.image = name == "inception_v3" ? 75 : name == "alexnet" ? 63 : name == "resnet1001" ? 8 : 32;
    o.inputs = 12, o.hidden = {40};
    o.classes = 10;
    o.width = name == "lenet5" ? 1 : name == "resnet1001" ? 0.25 : 0.125;
    o.auxiliary = name == "googlenet";
    return o;
}

}  // namespace tessera::testing_tools
