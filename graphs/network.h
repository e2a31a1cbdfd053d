// graphs/network.h - networks as functions that compose ops. A network adds its weights to Params once, and may then be
// built into any number of graphs (training, evaluation, a short last batch), which share them.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "codelets/ops.h"

namespace tessera {

struct NetworkOptions {
    int64_t inputs = 0;   // features of a sample, for networks whose samples are no images (mlp); 0: as published
    int64_t classes = 0;  // 0: as published
    std::vector<int64_t> hidden = {512, 512};  // of mlp
    Activation activation = Activation::relu;  // of mlp
    std::optional<double> dropout = {};        // probability in all places that drop; nothing: the network's own
    DType dtype = DType::f32;                  // of activations; weights are f32 (f64 for f64), cast for bf16
    int64_t tile_features = 0;                 // largest extent of a tile of a linear layer's weights; 0: whole
    uint64_t seed = 1;                         // of first values, and of networks that are drawn at random
    Extent2d image = 0;                        // height and width of a sample; 0: as published
    int64_t channels = 0;                      // of a sample; 0: as published
    double width = 1;                          // times every channel count but those of image and classes
    bool auxiliary = false;                    // with auxiliary heads, in training
};

struct Outputs {
    struct Auxiliary {
        Tensor logits;
        double weight;
    };
    Tensor logits;                          // [N x classes]
    std::vector<Auxiliary> auxiliary = {};  // in training
};
// Cross-entropy of the logits, and that of auxiliary ones times their weights. labels [N x 1] i32; [1 x 1].
Tensor classification_loss(const Outputs&, Tensor labels, double label_smoothing = 0);

struct Network {
    std::string name;
    Extent2d image = 1;    // of a sample; 1 x 1 where samples are no images
    int64_t channels = 0;  // of a sample; its features where samples are no images
    double dropout = 0;    // probability of its last dropout
    std::function<Outputs(Graph&, Maps x, bool training)> outputs;

    bool takes_images() const { return image != Extent2d(1); }
    int64_t features() const { return image.height * image.width * channels; }
    // Of samples as rows, channels last; without auxiliary heads.
    Tensor logits(Graph&, Tensor x, bool training) const;  // x [N x features()] -> [N x classes]
};

class Layers;

// A network by name, with what its paper has where options say nothing. Files in graphs/networks/ declare theirs, and
// nothing else needs to name them. Lives as long as the program.
struct Architecture {
    using Build = std::function<Outputs(Layers&, Maps x)>;
    Architecture(std::string name, Extent2d image, int64_t channels, int64_t classes, Build,
                 const char* file = __builtin_FILE());
    Architecture(const Architecture&) = delete;

    std::string name;
    Extent2d image;  // 1 x 1: samples are no images
    int64_t channels, classes;
    Build build;
    std::string file;
};
// Sorted by file, those of one file as they stand there.
std::vector<const Architecture*> all_architectures();
const Architecture& architecture(const std::string& name);  // throws UsageError with a suggestion

// Throws UsageError for an unknown name, and for options that the network cannot have: images that shrink to nothing,
// a dropout or auxiliary heads where there are none.
Network make_network(const std::string& name, Params&, NetworkOptions);

// Multi-layer perceptron: graphs/networks/mlp.cpp.
Network mlp(Params&, const NetworkOptions&);

Activation parse_activation(const std::string&);
std::vector<std::string> activation_names();

}  // namespace tessera
