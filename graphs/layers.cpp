#include "graphs/layers.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <utility>

#include "core/random.h"

namespace tessera {

std::function<double(int64_t, int64_t)> FirstValues::function(uint64_t seed, uint64_t stream, int64_t cols) const {
    const double v = value;
    if (kind == Kind::constant) return [v](int64_t, int64_t) { return v; };
    if (kind == Kind::uniform)
        return [=](int64_t i, int64_t j) {
            return double(float((2 * double(random_uniform(seed, stream, uint64_t(i * cols + j))) - 1) * v));
        };
    return [=](int64_t i, int64_t j) {  // Box and Muller 1958; of the pair one is used
        const uint64_t k = 2 * uint64_t(i * cols + j);
        const double u = 1 - double(random_uniform(seed, stream, k)), w = random_uniform(seed, stream, k + 1);
        return double(float(v * std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * w)));
    };
}

int64_t Layers::scaled(int64_t channels) const {
    const double units = options.width * double(channels) / double(channel_multiple);
    return std::max<int64_t>(1, std::llround(units)) * channel_multiple;
}

Tensor Layers::param(const std::string& name, Shape shape, FirstValues first, Grid grid, bool trainable) {
    if (declare_in_) {
        const DType type = options.dtype == DType::f64 ? DType::f64 : DType::f32;
        const auto function = first.function(options.seed, next_stream_++, shape.cols);
        weights_[name] = &declare_in_->add({name, shape, type, std::move(grid), function, trainable});
    }
    const auto found = weights_.find(name);
    if (found == weights_.end()) throw std::logic_error("no weight '" + name + "' was declared");
    return graph.param(*found->second);
}

Tensor Layers::weight(const std::string& name, Shape shape, FirstValues first, Grid grid) {
    Tensor w = param(name, shape, first, std::move(grid), true);
    return w.dtype() == options.dtype ? w : cast(w, options.dtype);
}

Maps Layers::conv_unscaled(const std::string& name, Maps x, int64_t filters, Extent2d kernel, Conv2dOptions o,
                           bool bias) {
    const auto layer = at(name);
    require(o.groups > 0 && x.channels() % o.groups == 0 && filters % o.groups == 0, "conv2d",
            std::to_string(x.channels()) + " channels and " + std::to_string(filters) + " filters do not divide into " +
                std::to_string(o.groups) + " groups",
            {x.tensor});
    const int64_t taps = kernel.height * kernel.width;
    const double deviation = std::sqrt(2 / double(taps * (filters / o.groups)));
    const Tensor w =
        weight(name + ".weight", {filters, taps * (x.channels() / o.groups)}, {FirstValues::Kind::normal, deviation});
    const Tensor b = bias ? weight(name + ".bias", {1, filters}, {FirstValues::Kind::constant, 0}) : Tensor{};
    return conv2d(x, w, b, kernel, o);
}

Maps Layers::conv(const std::string& name, Maps x, int64_t filters, Extent2d kernel, Conv2dOptions o, bool bias) {
    return conv_unscaled(name, x, scaled(filters), kernel, o, bias);
}

Maps Layers::depthwise(const std::string& name, Maps x, Extent2d kernel, Conv2dOptions o, bool bias) {
    o.groups = x.channels();
    return conv_unscaled(name, x, x.channels(), kernel, o, bias);
}

Maps Layers::norm(const std::string& name, Maps x, Activation activation, Maps residual) {
    const auto layer = at(name);
    const FirstValues zero{FirstValues::Kind::constant, 0}, one{FirstValues::Kind::constant, 1};
    const Shape shape{1, x.channels()};
    BatchNorm b;
    const Grid grid{{1}, x.tensor.grid().col_extents};  // so that each tile of x needs one tile of these
    b.gamma = param(name + ".weight", shape, one, grid, true);
    b.beta = param(name + ".bias", shape, zero, grid, true);
    b.running_mean = param(name + ".running_mean", shape, zero, grid, false);
    b.running_var = param(name + ".running_var", shape, one, grid, false);
    b.epsilon = norm_epsilon;
    return batch_norm(x, b, training, activation, residual);
}

Maps Layers::conv_norm(const std::string& name, const std::string& norm_name, Maps x, int64_t filters, Extent2d kernel,
                       Conv2dOptions o, Maps residual) {
    const Activation activation = std::exchange(o.activation, Activation::none);
    return norm(norm_name, conv(name, x, filters, kernel, o, false), activation, residual);
}

Tensor Layers::linear_unscaled(const std::string& name, Tensor x, int64_t outputs, Activation activation) {
    const auto layer = at(name);
    const int64_t inputs = x.shape().cols;
    const FirstValues first{FirstValues::Kind::uniform, 1 / std::sqrt(double(inputs))};
    // The columns as x is cut: the input's are whole, for it is gathered row by row.
    const Grid grid{cut(outputs, options.tile_features), x.grid().col_extents};
    const Tensor w = weight(name + ".weight", {outputs, inputs}, first, grid);
    const Tensor b = weight(name + ".bias", {1, outputs}, first, {{1}, grid.row_extents});
    return tessera::linear(x, w, b, activation);
}

Tensor Layers::linear(const std::string& name, Tensor x, int64_t outputs, Activation activation) {
    return linear_unscaled(name, x, scaled(outputs), activation);
}

Maps Layers::max_pool(const std::string& name, Maps x, Extent2d window, PoolOptions o) {
    const auto layer = at(name);
    return max_pool2d(x, window, o);
}

Maps Layers::avg_pool(const std::string& name, Maps x, Extent2d window, PoolOptions o) {
    const auto layer = at(name);
    return avg_pool2d(x, window, o);
}

Maps Layers::adaptive_pool(const std::string& name, Maps x, Extent2d outputs) {
    const auto layer = at(name);
    return Extent2d(x.height, x.width) == outputs ? x : adaptive_avg_pool2d(x, outputs);
}

Tensor Layers::global_pool(const std::string& name, Maps x) {
    const auto layer = at(name);
    return global_avg_pool2d(x);
}

Maps Layers::concat(const std::string& name, const std::vector<Maps>& all) {
    const auto layer = at(name);
    return tessera::concat(all);
}

Maps Layers::add(const std::string& name, Maps a, Maps b, Activation activation) {
    const auto layer = at(name);
    return tessera::add(a, b, activation);
}

Tensor Layers::dropout(const std::string& name, Tensor x, double own) {
    const double p = options.dropout.value_or(own);
    last_dropout_ = p;
    if (!training || p == 0) return x;
    const auto layer = at(name);
    return tessera::dropout(x, p);
}

}  // namespace tessera
