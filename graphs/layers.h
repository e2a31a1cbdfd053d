// graphs/layers.h - what networks are written with: ops that own weights, each under its layer's name. A network is one
// function of Layers and its input. Its first run, on a graph that is thrown away, declares the weights in order, with
// their first values; every later run finds them by name. So shapes are written once, and what does not fit is found
// before anything runs. Layers are named as in PyTorch's torchvision.
#pragma once
#include <string>
#include <unordered_map>
#include <vector>

#include "graphs/network.h"

namespace tessera {

// First values of a weight: all `value`; uniform in +-value; normal with the standard deviation `value`. Rounded to
// float in every type, so that f64 starts where f32 does.
struct FirstValues {
    enum class Kind : uint8_t { constant, uniform, normal } kind;
    double value;
    // Element (i, j) of `cols` columns, random by (seed, stream, i * cols + j); core/random.h.
    std::function<double(int64_t i, int64_t j)> function(uint64_t seed, uint64_t stream, int64_t cols) const;
};

class Layers {
 public:
    using Weights = std::unordered_map<std::string, const Param*>;
    // With `declare_in` weights are added there and to `weights`, the first with stream 0 and so on.
    Layers(Graph& g, Weights& weights, const NetworkOptions& o, bool training, Params* declare_in = nullptr)
        : graph(g), options(o), training(training), weights_(weights), declare_in_(declare_in) {}
    Layers(const Layers&) = delete;

    Graph& graph;
    const NetworkOptions& options;
    const bool training;
    double norm_epsilon = 1e-5;    // of batch norms
    int64_t channel_multiple = 1;  // to which scaled() rounds

    // A channel count of the paper times NetworkOptions::width, at least 1.
    int64_t scaled(int64_t channels) const;
    // Whether auxiliary heads are built: in training, and where weights are declared.
    bool auxiliary() const { return options.auxiliary && (training || declare_in_); }

    // Channel counts are the paper's: scaled() is applied here. w <name>.weight [K x R S C/groups], normal with
    // variance 2 / (K/groups R S) (He et al. 2015, fan-out); bias 0.
    Maps conv(const std::string& name, Maps x, int64_t filters, Extent2d kernel, Conv2dOptions = {}, bool bias = true);
    // conv of each channel alone.
    Maps depthwise(const std::string& name, Maps x, Extent2d kernel, Conv2dOptions = {}, bool bias = true);
    // <name>.weight (gamma) 1, .bias (beta) 0, .running_mean 0, .running_var 1.
    Maps norm(const std::string& name, Maps x, Activation = Activation::none, Maps residual = {});
    // conv without bias, then norm with the options' activation.
    Maps conv_norm(const std::string& name, const std::string& norm_name, Maps x, int64_t filters, Extent2d kernel,
                   Conv2dOptions = {}, Maps residual = {});
    // <name>.weight [O x I], .bias [1 x O], both uniform in +-1/sqrt(I).
    Tensor linear(const std::string& name, Tensor x, int64_t outputs, Activation = Activation::none);
    // The layer that ends in the classes.
    Tensor classes(const std::string& name, Tensor x) {
        return linear_unscaled(name, x, options.classes, Activation::none);
    }
    Maps classes(const std::string& name, Maps x, Conv2dOptions o) {  // 1 x 1 convolution
        return conv_unscaled(name, x, options.classes, 1, o, true);
    }

    // Ops without weights; the name is for messages, traces and plans.
    Maps max_pool(const std::string& name, Maps x, Extent2d window, PoolOptions);
    Maps avg_pool(const std::string& name, Maps x, Extent2d window, PoolOptions);
    Maps adaptive_pool(const std::string& name, Maps x, Extent2d outputs);  // averages; x itself if it has that size
    Tensor global_pool(const std::string& name, Maps x);                    // averages, [N x C]
    Maps concat(const std::string& name, const std::vector<Maps>&);
    Maps add(const std::string& name, Maps a, Maps b, Activation = Activation::none);
    // In training; with the probability `own` unless options say another.
    Tensor dropout(const std::string& name, Tensor x, double own);

    // A weight of this graph, in the type of its activations.
    Tensor weight(const std::string& name, Shape, FirstValues, Grid = {});
    // Nodes that are added while it lives belong to that layer.
    Graph::Layer at(const std::string& name) { return {graph, name}; }
    // Probability of the last dropout, if there was one.
    std::optional<double> dropped() const { return last_dropout_; }

 private:
    Maps conv_unscaled(const std::string& name, Maps x, int64_t filters, Extent2d kernel, Conv2dOptions, bool bias);
    Tensor linear_unscaled(const std::string& name, Tensor x, int64_t outputs, Activation);
    Tensor param(const std::string& name, Shape, FirstValues, Grid, bool trainable);

    Weights& weights_;
    Params* declare_in_;
    uint64_t next_stream_ = 0;
    std::optional<double> last_dropout_;
};

// Images of CIFAR's kind, for which networks that halve 224 x 224 images five times have a form that halves less.
inline bool small_images(Maps x) { return x.height < 64 && x.width < 64; }

}  // namespace tessera
