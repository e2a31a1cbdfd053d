// mlp.h - the yardstick: a plain single-threaded trainer of multi-layer perceptrons. Own loops, standard library only,
// nothing of the code under test. Real is float or double; everything is row-major, x is rows x features.
// Layer l maps I to O values: z = x W^T + b, W is O x I; the activation follows all layers but the last.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "random.h"

namespace tessera::reference {

struct Config {
    std::vector<int64_t> widths = {};  // features, hidden widths, classes
    std::string activation = "relu";   // relu | tanh | sigmoid | gelu (erf form) | silu
    std::string optimizer = "sgd";     // sgd | adam | adamw
    double lr = 0.01, momentum = 0, weight_decay = 0;
    double clip = 0;  // largest global gradient norm; 0: no clipping
    double label_smoothing = 0;
    bool nesterov = false;
    std::string schedule = "constant";  // constant | step | cosine
    int64_t warmup = 0;                 // steps of linear warm-up
    int64_t batch = 128, epochs = 1;
    uint64_t seed = 1;
};

// Learning rate of step s (from 0) when an epoch has E steps. The first W = warmup steps: lr (s + 1) / W. Then
//   step:   lr 0.1^k, k of the epochs floor(epochs/3), floor(2 epochs/3) having begun (one that would be epoch 0 is
//   none) cosine: lr (1 + cos(pi (s - W) / (epochs E - W))) / 2, and 0 after the last epoch.
// The factor of `step` also holds during a warm-up.
inline double learning_rate(const Config& c, int64_t s, int64_t steps_per_epoch) {
    const double start = s < c.warmup ? c.lr * double(s + 1) / double(c.warmup) : c.lr;
    if (c.schedule == "constant") return start;
    if (c.schedule == "step") {
        double rate = start;
        for (int64_t drop : {c.epochs / 3, 2 * c.epochs / 3})
            if (drop > 0 && s / steps_per_epoch >= drop) rate *= 0.1;
        return rate;
    }
    if (c.schedule != "cosine") throw std::invalid_argument("reference: unknown schedule " + c.schedule);
    if (s < c.warmup) return start;
    const int64_t length = c.epochs * steps_per_epoch - c.warmup;
    if (s - c.warmup >= length) return 0;
    return c.lr * (1 + std::cos(std::acos(-1.0) * double(s - c.warmup) / double(length))) / 2;
}

// a = f(z) and f'(z).
template <class Real>
std::pair<Real, Real> activate(const std::string& name, Real z) {
    if (name == "relu") return z > 0 ? std::pair(z, Real(1)) : std::pair(Real(0), Real(0));
    if (name == "tanh") {
        const Real a = std::tanh(z);
        return {a, 1 - a * a};
    }
    if (name == "gelu") {  // z Phi(z), Phi the normal distribution's cumulative function
        const Real phi = (1 + std::erf(z * Real(std::sqrt(0.5)))) / 2;
        return {z * phi, phi + z * std::exp(-z * z / 2) * Real(1 / std::sqrt(2 * std::acos(-1.0)))};
    }
    const Real s = 1 / (1 + std::exp(-z));
    if (name == "sigmoid") return {s, s * (1 - s)};
    if (name == "silu") return {z * s, s * (1 + z * (1 - s))};
    throw std::invalid_argument("reference: unknown activation " + name);
}

// Mean over the rows of -sum_c t_c log softmax(z)_c with t = (1 - smoothing) onehot(y) + smoothing / classes.
// dz, if given, becomes the gradient (softmax(z) - t) / rows.
template <class Real>
Real cross_entropy(const std::vector<Real>& z, const int32_t* y, int64_t rows, int64_t classes, double smoothing,
                   std::vector<Real>* dz) {
    if (dz) dz->resize(z.size());
    Real total = 0;
    for (int64_t n = 0; n < rows; ++n) {
        if (y[n] < 0 || y[n] >= classes) throw std::invalid_argument("reference: label out of range");
        const Real* row = z.data() + n * classes;
        const Real top = *std::max_element(row, row + classes);
        Real sum = 0;
        for (int64_t c = 0; c < classes; ++c) sum += std::exp(row[c] - top);
        for (int64_t c = 0; c < classes; ++c) {
            const Real target = Real((c == y[n] ? 1 - smoothing : 0) + smoothing / double(classes));
            const Real log_p = row[c] - top - std::log(sum);
            total -= target * log_p;
            if (dz) (*dz)[size_t(n * classes + c)] = (std::exp(log_p) - target) / Real(rows);
        }
    }
    return total / Real(rows);
}

template <class Real>
struct Parameter {
    std::vector<Real> value, gradient;
    std::vector<Real> first, second;  // optimizer's state: momentum, or Adam's two moments
};

// One update; t counts from 1. As torch.optim has them:
//   sgd:   g += wd w;  m = g at t = 1, else momentum m + g;  w -= lr (nesterov ? g + momentum m : m)
//   adam:  g += wd w;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;
//          w -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + 1e-8),  b1 = 0.9, b2 = 0.999
//   adamw: w *= 1 - lr wd first, then as adam without wd.
template <class Real>
void update(const Config& c, Real lr, int64_t t, Parameter<Real>& p) {
    const bool sgd = c.optimizer == "sgd", adamw = c.optimizer == "adamw";
    if (!sgd && !adamw && c.optimizer != "adam")
        throw std::invalid_argument("reference: unknown optimizer " + c.optimizer);
    const Real decay = Real(c.weight_decay), momentum = Real(c.momentum), b1 = Real(0.9), b2 = Real(0.999);
    const Real root = Real(std::sqrt(1 - std::pow(0.999, double(t)))), rate = lr / Real(1 - std::pow(0.9, double(t)));
    for (size_t i = 0; i < p.value.size(); ++i) {
        Real &w = p.value[i], &m = p.first[i], &v = p.second[i], g = p.gradient[i];
        if (adamw) w *= 1 - lr * decay;
        else g += decay * w;
        if (sgd) {
            m = t == 1 ? g : momentum * m + g;
            w -= lr * (c.nesterov ? g + momentum * m : m);
        } else {
            m = b1 * m + Real(1 - 0.9) * g;
            v = b2 * v + Real(1 - 0.999) * g * g;
            w -= rate * m / (std::sqrt(v) / root + Real(1e-8));
        }
    }
}

template <class Real>
struct Layer {
    int64_t in = 0, out = 0;
    Parameter<Real> weight, bias;  // out x in, out
};

// z = x W^T + b, rows x out.
template <class Real>
std::vector<Real> affine(const Layer<Real>& layer, const std::vector<Real>& x, int64_t rows) {
    std::vector<Real> z;
    for (int64_t n = 0; n < rows; ++n)
        for (int64_t o = 0; o < layer.out; ++o) {
            Real sum = 0;
            for (int64_t i = 0; i < layer.in; ++i)
                sum += x[size_t(n * layer.in + i)] * layer.weight.value[size_t(o * layer.in + i)];
            z.push_back(sum + layer.bias.value[size_t(o)]);
        }
    return z;
}

// Leaves dW = dz^T x and db = the sum of dz over the rows in the layer; returns dx = dz W.
template <class Real>
std::vector<Real> affine_backward(Layer<Real>& layer, const std::vector<Real>& x, const std::vector<Real>& dz,
                                  int64_t rows) {
    std::vector<Real> dx(x.size(), Real(0));
    std::vector<Real>&dw = layer.weight.gradient, &db = layer.bias.gradient;
    std::fill(dw.begin(), dw.end(), Real(0));
    std::fill(db.begin(), db.end(), Real(0));
    for (int64_t n = 0; n < rows; ++n)
        for (int64_t o = 0; o < layer.out; ++o) {
            const Real g = dz[size_t(n * layer.out + o)];
            db[size_t(o)] += g;
            for (int64_t i = 0; i < layer.in; ++i) {
                dw[size_t(o * layer.in + i)] += g * x[size_t(n * layer.in + i)];
                dx[size_t(n * layer.in + i)] += g * layer.weight.value[size_t(o * layer.in + i)];
            }
        }
    return dx;
}

template <class Real>
class Trainer {
 public:
    // x: n x features, already scaled; y: n labels. Both are used in place and must outlive the trainer.
    // Every start value is (2u - 1) / sqrt(I), computed in double and rounded to float whatever Real is;
    // u = uniform(seed, 2 l, o I + i) for W[o][i] of layer l, uniform(seed, 2 l + 1, o) for b[o].
    Trainer(Config config, const float* x, const int32_t* y, int64_t n)
        : config_(std::move(config)), x_(x), y_(y), n_(n) {
        if (config_.widths.size() < 2 || n < 1 || config_.batch < 1)
            throw std::invalid_argument("reference: needs at least two widths, one sample and a batch of one");
        for (size_t l = 0; l + 1 < config_.widths.size(); ++l) {
            Layer<Real> layer{config_.widths[l], config_.widths[l + 1], {}, {}};
            start(layer.weight, layer.out * layer.in, layer.in, 2 * l);
            start(layer.bias, layer.out, layer.in, 2 * l + 1);
            layers_.push_back(std::move(layer));
        }
    }

    // Trains on the next batch and returns its loss from before the update.
    double step() {
        const int64_t at = steps_ % steps_per_epoch(), features = config_.widths.front();
        if (at == 0) order_ = permutation(config_.seed, steps_ / steps_per_epoch(), n_);
        const int64_t begin = at * config_.batch, rows = std::min(config_.batch, n_ - begin);
        std::vector<float> x;
        std::vector<int32_t> y;
        for (int64_t k = begin; k < begin + rows; ++k) {
            const int64_t sample = order_[size_t(k)];
            x.insert(x.end(), x_ + sample * features, x_ + (sample + 1) * features);
            y.push_back(y_[sample]);
        }
        const double loss = loss_and_gradient(x.data(), y.data(), rows);
        if (config_.clip > 0) clip();
        const Real lr = Real(learning_rate(config_, steps_, steps_per_epoch()));
        ++steps_;
        for (Parameter<Real>* p : parameters()) update(config_, lr, steps_, *p);
        return loss;
    }

    // Share of the rows whose largest output (the first of equals) is their label.
    double accuracy(const float* x, const int32_t* y, int64_t rows) const {
        const std::vector<Real> z = forward(x, rows, nullptr);
        const int64_t classes = config_.widths.back();
        int64_t right = 0;
        for (int64_t n = 0; n < rows; ++n) {
            const Real* row = z.data() + n * classes;
            right += std::max_element(row, row + classes) - row == y[n];
        }
        return double(right) / double(rows);
    }

    double loss(const float* x, const int32_t* y, int64_t rows) const {
        return double(cross_entropy<Real>(forward(x, rows, nullptr), y, rows, config_.widths.back(),
                                          config_.label_smoothing, nullptr));
    }

    // The loss of these rows; its gradient is left in every Parameter::gradient, unclipped.
    double loss_and_gradient(const float* x, const int32_t* y, int64_t rows) {
        std::vector<Pass> passes;
        const std::vector<Real> z = forward(x, rows, &passes);
        std::vector<Real> dz;
        const Real loss = cross_entropy(z, y, rows, config_.widths.back(), config_.label_smoothing, &dz);
        for (size_t l = layers_.size(); l-- > 0;) {
            std::vector<Real> dx = affine_backward(layers_[l], passes[l].in, dz, rows);
            if (l > 0)
                for (size_t k = 0; k < dx.size(); ++k) dx[k] *= passes[l - 1].slope[k];
            dz = std::move(dx);
        }
        return double(loss);
    }

    // Scales all gradients by clip / (norm + 1e-6) if that is below 1; the norm is over all of them together.
    void clip() {
        Real sum = 0;
        for (const Parameter<Real>* p : parameters())
            for (Real g : p->gradient) sum += g * g;
        const Real factor = Real(config_.clip) / (std::sqrt(sum) + Real(1e-6));
        if (factor >= 1) return;
        for (Parameter<Real>* p : parameters())
            for (Real& g : p->gradient) g *= factor;
    }

    // Weight and bias of layer 0, of layer 1, ...
    std::vector<Parameter<Real>*> parameters() {
        std::vector<Parameter<Real>*> all;
        for (Layer<Real>& layer : layers_) all.insert(all.end(), {&layer.weight, &layer.bias});
        return all;
    }
    std::vector<Layer<Real>>& layers() { return layers_; }
    const std::vector<Layer<Real>>& layers() const { return layers_; }
    int64_t steps_per_epoch() const { return (n_ + config_.batch - 1) / config_.batch; }

 private:
    struct Pass {
        std::vector<Real> in, slope;  // a layer's input, and its activation's derivative at z (none for the last)
    };

    void start(Parameter<Real>& p, int64_t size, int64_t in, uint64_t stream) const {
        const double bound = 1 / std::sqrt(double(in));
        for (int64_t i = 0; i < size; ++i)
            p.value.push_back(Real(float((2.0 * uniform(config_.seed, stream, uint64_t(i)) - 1) * bound)));
        p.gradient = p.first = p.second = std::vector<Real>(size_t(size), Real(0));
    }

    // The last layer's z; what backward needs of each layer is appended to passes, if given.
    std::vector<Real> forward(const float* x, int64_t rows, std::vector<Pass>* passes) const {
        std::vector<Real> in(x, x + rows * config_.widths.front());
        for (size_t l = 0; l < layers_.size(); ++l) {
            std::vector<Real> z = affine(layers_[l], in, rows), slope;
            if (l + 1 < layers_.size()) {
                for (Real& value : z) {
                    const auto [a, derivative] = activate(config_.activation, value);
                    value = a;
                    slope.push_back(derivative);
                }
            }
            if (passes) passes->push_back({std::move(in), std::move(slope)});
            in = std::move(z);
        }
        return in;
    }

    Config config_;
    const float* x_;
    const int32_t* y_;
    int64_t n_, steps_ = 0;
    std::vector<int64_t> order_;  // of this epoch's samples
    std::vector<Layer<Real>> layers_;
};

}  // namespace tessera::reference
