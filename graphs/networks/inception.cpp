// inception_v3: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016, arXiv 1512.00567, as torchvision (whose names these
// are). One auxiliary head after Mixed_6e, weight 0.4.
#include "graphs/layers.h"

namespace tessera {
namespace {

Maps conv(Layers& l, const std::string& name, Maps x, int64_t filters, Extent2d kernel, Conv2dOptions o = {}) {
    o.activation = Activation::relu;
    return l.conv_norm(name + ".conv", name + ".bn", x, filters, kernel, o);
}
// Keeps the maps' size.
Maps same(Layers& l, const std::string& name, Maps x, int64_t filters, Extent2d kernel) {
    return conv(l, name, x, filters, kernel, {.padding = {kernel.height / 2, kernel.width / 2}});
}
Maps pooled(Layers& l, const std::string& name, Maps x, int64_t filters) {
    x = l.avg_pool(name + ".pool", x, 3, {.stride = 1, .padding = 1, .count_padding = true});
    return conv(l, name + ".branch_pool", x, filters, 1);
}
Maps halved(Layers& l, const std::string& name, Maps x) { return l.max_pool(name + ".pool", x, 3, {.stride = 2}); }

// Figure 5.
Maps inception_a(Layers& l, const std::string& name, Maps x, int64_t pool) {
    const Maps one = conv(l, name + ".branch1x1", x, 64, 1);
    const Maps five = same(l, name + ".branch5x5_2", conv(l, name + ".branch5x5_1", x, 48, 1), 64, 5);
    Maps three = conv(l, name + ".branch3x3dbl_1", x, 64, 1);
    three = same(l, name + ".branch3x3dbl_2", three, 96, 3);
    three = same(l, name + ".branch3x3dbl_3", three, 96, 3);
    return l.concat(name, {one, five, three, pooled(l, name, x, pool)});
}

Maps inception_b(Layers& l, const std::string& name, Maps x) {
    const Maps three = conv(l, name + ".branch3x3", x, 384, 3, {.stride = 2});
    Maps twice = conv(l, name + ".branch3x3dbl_1", x, 64, 1);
    twice = same(l, name + ".branch3x3dbl_2", twice, 96, 3);
    twice = conv(l, name + ".branch3x3dbl_3", twice, 96, 3, {.stride = 2});
    return l.concat(name, {three, twice, halved(l, name, x)});
}

// Figure 6, n = 7, with `c7` channels within the branches.
Maps inception_c(Layers& l, const std::string& name, Maps x, int64_t c7) {
    const Extent2d row{1, 7}, column{7, 1};
    const Maps one = conv(l, name + ".branch1x1", x, 192, 1);
    Maps seven = conv(l, name + ".branch7x7_1", x, c7, 1);
    seven = same(l, name + ".branch7x7_2", seven, c7, row);
    seven = same(l, name + ".branch7x7_3", seven, 192, column);
    Maps twice = conv(l, name + ".branch7x7dbl_1", x, c7, 1);
    twice = same(l, name + ".branch7x7dbl_2", twice, c7, column);
    twice = same(l, name + ".branch7x7dbl_3", twice, c7, row);
    twice = same(l, name + ".branch7x7dbl_4", twice, c7, column);
    twice = same(l, name + ".branch7x7dbl_5", twice, 192, row);
    return l.concat(name, {one, seven, twice, pooled(l, name, x, 192)});
}

Maps inception_d(Layers& l, const std::string& name, Maps x) {
    const Maps three = conv(l, name + ".branch3x3_2", conv(l, name + ".branch3x3_1", x, 192, 1), 320, 3, {.stride = 2});
    Maps seven = conv(l, name + ".branch7x7x3_1", x, 192, 1);
    seven = same(l, name + ".branch7x7x3_2", seven, 192, {1, 7});
    seven = same(l, name + ".branch7x7x3_3", seven, 192, {7, 1});
    seven = conv(l, name + ".branch7x7x3_4", seven, 192, 3, {.stride = 2});
    return l.concat(name, {three, seven, halved(l, name, x)});
}

// Figure 7.
Maps inception_e(Layers& l, const std::string& name, Maps x) {
    const Extent2d row{1, 3}, column{3, 1};
    const Maps one = conv(l, name + ".branch1x1", x, 320, 1);
    const Maps three = conv(l, name + ".branch3x3_1", x, 384, 1);
    const Maps a = same(l, name + ".branch3x3_2a", three, 384, row),
               b = same(l, name + ".branch3x3_2b", three, 384, column);
    const Maps twice = same(l, name + ".branch3x3dbl_2", conv(l, name + ".branch3x3dbl_1", x, 448, 1), 384, 3);
    const Maps c = same(l, name + ".branch3x3dbl_3a", twice, 384, row);
    const Maps d = same(l, name + ".branch3x3dbl_3b", twice, 384, column);
    return l.concat(name, {one, a, b, c, d, pooled(l, name, x, 192)});
}

Outputs::Auxiliary auxiliary(Layers& l, Maps x) {
    x = l.avg_pool("AuxLogits.pool", x, 5, {.stride = 3});
    x = conv(l, "AuxLogits.conv0", x, 128, 1);
    x = conv(l, "AuxLogits.conv1", x, 768, 5);
    return {l.classes("AuxLogits.fc", l.global_pool("AuxLogits.avgpool", x)), 0.4};
}

const Architecture inception_v3("inception_v3", 299, 3, 1000, [](Layers& l, Maps x) {
    l.norm_epsilon = 1e-3;
    Outputs out;
    x = conv(l, "Conv2d_1a_3x3", x, 32, 3, {.stride = 2});
    x = conv(l, "Conv2d_2a_3x3", x, 32, 3);
    x = same(l, "Conv2d_2b_3x3", x, 64, 3);
    x = l.max_pool("maxpool1", x, 3, {.stride = 2});
    x = conv(l, "Conv2d_3b_1x1", x, 80, 1);
    x = conv(l, "Conv2d_4a_3x3", x, 192, 3);
    x = l.max_pool("maxpool2", x, 3, {.stride = 2});
    x = inception_a(l, "Mixed_5b", x, 32);
    x = inception_a(l, "Mixed_5c", x, 64);
    x = inception_a(l, "Mixed_5d", x, 64);
    x = inception_b(l, "Mixed_6a", x);
    x = inception_c(l, "Mixed_6b", x, 128);
    x = inception_c(l, "Mixed_6c", x, 160);
    x = inception_c(l, "Mixed_6d", x, 160);
    x = inception_c(l, "Mixed_6e", x, 192);
    if (l.auxiliary()) out.auxiliary.push_back(auxiliary(l, x));
    x = inception_d(l, "Mixed_7a", x);
    x = inception_e(l, "Mixed_7b", x);
    x = inception_e(l, "Mixed_7c", x);
    const Tensor y = l.dropout("dropout", l.global_pool("avgpool", x), 0.5);
    out.logits = l.classes("fc", y);
    return out;
});

}  // namespace
}  // namespace tessera
