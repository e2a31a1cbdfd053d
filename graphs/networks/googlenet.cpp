// googlenet: Szegedy et al. 2015, arXiv 1409.4842, table 1, with batch norm and 3 x 3 in place of 5 x 5 convolutions,
// as torchvision. Auxiliary heads after 4a and 4d, weight 0.3. Small images get one 3 x 3 convolution of 192 filters as
// stem.
#include "graphs/layers.h"

namespace tessera {
namespace {

Maps conv(Layers& l, const std::string& name, Maps x, int64_t filters, int64_t kernel, int64_t stride = 1) {
    return l.conv_norm(name + ".conv", name + ".bn", x, filters, kernel,
                       {.stride = stride, .padding = kernel / 2, .activation = Activation::relu});
}

// One row of the table: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
Maps inception(Layers& l, const std::string& name, Maps x, int64_t n1, int64_t r3, int64_t n3, int64_t r5, int64_t n5,
               int64_t pool) {
    const Maps one = conv(l, name + ".branch1", x, n1, 1);
    const Maps three = conv(l, name + ".branch2.1", conv(l, name + ".branch2.0", x, r3, 1), n3, 3);
    const Maps five = conv(l, name + ".branch3.1", conv(l, name + ".branch3.0", x, r5, 1), n5, 3);
    const Maps pooled = l.max_pool(name + ".branch4.0", x, 3, {.stride = 1, .padding = 1});
    return l.concat(name, {one, three, five, conv(l, name + ".branch4.1", pooled, pool, 1)});
}

Outputs::Auxiliary auxiliary(Layers& l, const std::string& name, Maps x) {
    x = conv(l, name + ".conv", l.adaptive_pool(name + ".avgpool", x, 4), 128, 1);
    Tensor y = l.linear(name + ".fc1", flatten(x), 1024, Activation::relu);
    y = l.dropout(name + ".dropout", y, 0.7);
    return {l.classes(name + ".fc2", y), 0.3};
}

Maps stem(Layers& l, Maps x) {
    if (small_images(x)) return conv(l, "conv1", x, 192, 3);
    x = conv(l, "conv1", x, 64, 7, 2);
    x = l.max_pool("maxpool1", x, 3, {.stride = 2, .ceil = true});
    x = conv(l, "conv2", x, 64, 1);
    x = conv(l, "conv3", x, 192, 3);
    return l.max_pool("maxpool2", x, 3, {.stride = 2, .ceil = true});
}

const Architecture googlenet("googlenet", 224, 3, 1000, [](Layers& l, Maps x) {
    l.norm_epsilon = 1e-3;
    Outputs out;
    x = stem(l, x);
    x = inception(l, "inception3a", x, 64, 96, 128, 16, 32, 32);
    x = inception(l, "inception3b", x, 128, 128, 192, 32, 96, 64);
    x = l.max_pool("maxpool3", x, 3, {.stride = 2, .ceil = true});
    x = inception(l, "inception4a", x, 192, 96, 208, 16, 48, 64);
    if (l.auxiliary()) out.auxiliary.push_back(auxiliary(l, "aux1", x));
    x = inception(l, "inception4b", x, 160, 112, 224, 24, 64, 64);
    x = inception(l, "inception4c", x, 128, 128, 256, 24, 64, 64);
    x = inception(l, "inception4d", x, 112, 144, 288, 32, 64, 64);
    if (l.auxiliary()) out.auxiliary.push_back(auxiliary(l, "aux2", x));
    x = inception(l, "inception4e", x, 256, 160, 320, 32, 128, 128);
    x = l.max_pool("maxpool4", x, 2, {.stride = 2, .ceil = true});
    x = inception(l, "inception5a", x, 256, 160, 320, 32, 128, 128);
    x = inception(l, "inception5b", x, 384, 192, 384, 48, 128, 128);
    const Tensor y = l.dropout("dropout", l.global_pool("avgpool", x), 0.2);
    out.logits = l.classes("fc", y);
    return out;
});

}  // namespace
}  // namespace tessera
