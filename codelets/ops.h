// codelets/ops.h - the whole vocabulary of graph operations. Tensors are rows x cols, row-major; N is the batch.
// Each op's file states formula, types and source. Wrong shapes throw std::invalid_argument naming op and shapes.
#pragma once
#include <functional>
#include <vector>

#include "codelets/maps.h"
#include "core/graph.h"

namespace tessera {

// --- products ---
struct GemmOptions {
    double alpha = 1, beta = 0;
    bool ta = false, tb = false;  // use the transpose of a, b
    bool tf32 = false;            // CUDA tensor cores with 10-bit mantissa inputs; f32 only
};
Tensor gemm(Tensor a, Tensor b, GemmOptions = {});                           // alpha op(a) op(b)
Tensor gemm(Tensor a, Tensor b, Tensor c, GemmOptions = {});                 // alpha op(a) op(b) + beta c
void gemm_into(Tensor c, Tensor a, Tensor b, GemmOptions = {});              // c := alpha op(a) op(b) + beta c
Tensor linear(Tensor x, Tensor w, Tensor b, Activation = Activation::none);  // act(x w^T + b): [N x I] [O x I] [1 x O]

// --- element by element ---
Tensor relu(Tensor x);  // max(x, 0)
Tensor gelu(Tensor x);  // x Phi(x), exact
Tensor tanh(Tensor x);
Tensor sigmoid(Tensor x);  // 1 / (1 + exp(-x))
Tensor silu(Tensor x);     // x sigmoid(x)
Tensor activate(Tensor x, Activation);
Tensor activation_backward(Tensor y, Tensor dy, Activation);  // of relu, tanh, sigmoid, from the output
Tensor add(Tensor a, Tensor b);                               // a + b
Tensor mul(Tensor a, Tensor b);                               // a * b
Tensor scale(Tensor x, double factor);
Tensor scale_by(Tensor x, Tensor factor);  // x * factor, factor [1 x 1]
Tensor dropout(Tensor x, double p);        // zero with probability p, else x / (1 - p); new mask every step
Tensor cast(Tensor x, DType to);
Tensor copy(Tensor x);
Tensor fill(Graph&, Shape, DType, Grid, double value);

// --- shape ---
Tensor transpose(Tensor x);
Tensor retile(Tensor x, const Grid& grid);  // same values, cut elsewhere

// --- reductions ---
Tensor sum_rows(Tensor x);                           // [1 x cols]: over the rows
Tensor sum_cols(Tensor x);                           // [rows x 1]: over the columns
Tensor sum_all(Tensor x);                            // [1 x 1]
Tensor argmax(Tensor x);                             // [rows x 1] i32: column of the largest value, the first if equal
Tensor count_correct(Tensor logits, Tensor labels);  // [1 x 1] f32: rows whose argmax is the label

// --- feature maps (codelets/maps.h); extents that do not fit throw std::invalid_argument naming op, layer, shapes ---
// y(n, p, q, k) = act(b(k) + sum over r, s, c of w(k, r, s, c) x(n, p stride - padding + r dilation, ..., group + c)).
// w [K x R S C/groups], column (r S + s) C/groups + c; b [1 x K], or invalid for none.
Maps conv2d(Maps x, Tensor w, Tensor b, Extent2d kernel, Conv2dOptions = {});
Maps max_pool2d(Maps x, Extent2d window, PoolOptions);
Maps avg_pool2d(Maps x, Extent2d window, PoolOptions);
Maps adaptive_avg_pool2d(Maps x, Extent2d outputs);  // window i covers [floor(i H / P), ceil((i + 1) H / P))
Tensor global_avg_pool2d(Maps x);                    // [N x C]
Maps upsample2d(Maps x, int64_t factor);             // nearest neighbour
Maps dropout2d(Maps x, double p);                    // whole channels of an image
Maps local_response_norm(Maps x, int64_t size, double alpha, double beta, double k);  // over channels
// act(gamma (x - mean) / sqrt(var + epsilon) + beta) over all rows; `residual`, if valid, is added before act.
Maps batch_norm(Maps x, const BatchNorm&, bool training, Activation = Activation::none, Maps residual = {});
Maps concat(const std::vector<Maps>&);                                  // along channels: a view, no task
std::vector<Maps> split(Maps x, const std::vector<int64_t>& channels);  // views where tiles end there, else retiled
Tensor flatten(Maps x);                                                 // [N x H W C]
Maps maps_of(Tensor x, int64_t height, int64_t width);                  // the reverse: [N x H W C] as maps
Maps add(Maps a, Maps b, Activation = Activation::none);                // act(a + b)

// --- normalisation ---
Tensor softmax(Tensor x);                                                       // over each row
Tensor layer_norm(Tensor x, Tensor gamma, Tensor beta, double epsilon = 1e-5);  // over each row; [1 x cols]

// --- losses, mean over the batch, [1 x 1] ---
Tensor softmax_cross_entropy(Tensor logits, Tensor labels, double label_smoothing = 0);  // labels [N x 1] i32
Tensor mse(Tensor x, Tensor target);                                                     // mean of (x - target)^2

// --- optimizers: update w (and state) in place; the learning rate comes with the step ---
void sgd(Tensor w, Tensor dw, Tensor momentum_buffer, double momentum, bool nesterov, double weight_decay);
void sgd(Tensor w, Tensor dw, double weight_decay);                        // without momentum: no state
void adam(Tensor w, Tensor dw, Tensor m, Tensor v, double weight_decay);   // L2 weight decay
void adamw(Tensor w, Tensor dw, Tensor m, Tensor v, double weight_decay);  // decoupled
void assign(Tensor to, Tensor from);                                       // to := from; `to` is a Param
std::vector<Tensor> clip_by_global_norm(const std::vector<Tensor>& gradients, double max_norm);

// --- in and out ---
struct BatchSource;                                                            // codelets/load.h
Tensor load_features(Graph&, const BatchSource&, int64_t batch, DType, Grid);  // [batch x features]
struct Augmentation;                                                           // codelets/load.h
// Images of the batch, cut between images: `rows` are extents in images; augmented anew every step if asked for.
Maps load_images(Graph&, const BatchSource&, Extent2d, std::vector<int64_t> rows, DType, const Augmentation&);
Tensor load_labels(Graph&, const BatchSource&, int64_t batch, Grid);  // [batch x 1] i32
using Sink = std::function<void(int64_t step, double value)>;         // called inside a task; may throw
void report(Tensor value, const Sink& sink);                          // value [1 x 1]; `sink` must outlive runs

// Gradients of the [1 x 1] value `of` for each of `wrt`.
std::vector<Tensor> gradients(Tensor of, const std::vector<Tensor>& wrt);

}  // namespace tessera
