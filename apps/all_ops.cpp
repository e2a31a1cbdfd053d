#include "apps/all_ops.h"

#include <algorithm>

#include "core/random.h"

namespace tessera {
namespace {

// --- the declared sizes ---
// A tile of the batch has 64 rows where two cores share 128 samples, and 256 on a GPU. An op needs three sizes at
// least: from three on, models/regression.h estimates what is between and beyond them.
struct Size {
    int64_t rows, cols;
};
struct LayerSize {
    int64_t rows, inputs, outputs;
    Activation activation;
};
constexpr Size activation_sizes[] = {{64, 128}, {64, 512}, {256, 1024}};
constexpr LayerSize layer_sizes[] = {
    {64, 784, 512, Activation::relu},    {64, 512, 512, Activation::none},    {64, 512, 512, Activation::relu},
    {64, 512, 512, Activation::tanh},    {64, 512, 512, Activation::sigmoid}, {64, 512, 10, Activation::none},
    {256, 1024, 1024, Activation::none}, {256, 1024, 1024, Activation::relu},
};
constexpr Size logit_sizes[] = {{64, 10}, {128, 100}, {256, 1000}};
constexpr int64_t square_sizes[] = {256, 512, 1024};
struct PictureSize {
    int64_t rows, pixels, channels;
};
constexpr PictureSize picture_sizes[] = {{64, 28 * 28, 1}, {128, 32 * 32, 1}, {256, 32 * 32, 3}};

constexpr DType reals[] = {DType::f32, DType::f64, DType::bf16};
constexpr DType integers[] = {DType::i32, DType::u8};

// --- graphs ---

Tensor input(Graph& g, Shape s, DType t) { return g.value("x", s, t); }
Tensor input(Graph& g, Shape s, DType t, Grid grid) { return g.value("x", s, t, std::move(grid)); }

// Keeps y and its gradients, which it returns.
std::vector<Tensor> with_gradients(Tensor y, const std::vector<Tensor>& wrt) {
    Graph& g = *y.graph;
    g.keep(y);
    const Tensor dy = input(g, y.shape(), y.dtype(), y.grid());
    const auto all = g.backward(y, dy, wrt, [](Tensor a, Tensor b) { return add(a, b); });
    for (Tensor dx : all)
        if (dx) g.keep(dx);
    return all;
}

void shape_preserving_ops(Graph& g, Size size, DType type) {
    const Shape shape{size.rows, size.cols}, row{1, size.cols};
    const Tensor x = input(g, shape, type), other = input(g, shape, type), factor = input(g, {1, 1}, type);
    Tensor (*const of_one[])(Tensor) = {relu, gelu, tanh, sigmoid, silu, copy, softmax};
    for (const auto op : of_one) with_gradients(op(x), {x});
    for (Tensor y : {add(x, other), mul(x, other)}) with_gradients(y, {x, other});
    g.keep(transpose(x));
    with_gradients(scale(x, 0.5), {x});
    with_gradients(scale_by(x, factor), {x});
    with_gradients(dropout(x, 0.5), {x});
    const Tensor gamma = input(g, row, type), beta = input(g, row, type);
    with_gradients(layer_norm(x, gamma, beta), {x, gamma, beta});
}

void reductions(Graph& g, Size size, DType type) {
    const Shape shape{size.rows, size.cols};
    const Tensor x = input(g, shape, type), target = input(g, shape, type);
    with_gradients(mse(x, target), {x, target});
    with_gradients(sum_all(x), {x});
    g.keep(sum_rows(x));  // their gradients are products with a column or a row of ones
    g.keep(sum_cols(x));
}

// Moving and converting, in all types that there are.
void moves(Graph& g, Size size) {
    const Shape shape{size.rows, size.cols};
    const Grid halves{{size.rows}, cut(size.cols, size.cols / 2)};
    const auto move = [&](DType type, const auto& targets) {
        const Tensor x = input(g, shape, type);
        g.keep(copy(x));
        g.keep(retile(input(g, shape, type, halves), x.grid()));
        for (DType to : targets)
            if (to != type) g.keep(cast(x, to));
    };
    for (DType type : reals) move(type, reals);
    for (DType type : integers) move(type, std::array{DType::f32});
}

// The inner extent is cut in two: a first product, which overwrites, and one that adds.
void products(Graph& g, int64_t n, DType type) {
    const Shape wide{n, 2 * n}, tall{2 * n, n};
    const Grid wide_cut{{n}, {n, n}}, tall_cut{{n, n}, {n}};
    const Tensor c = input(g, {n, n}, type);
    for (bool ta : {false, true})
        for (bool tb : {false, true}) {
            const Tensor a = ta ? input(g, tall, type, tall_cut) : input(g, wide, type, wide_cut);
            const Tensor b = tb ? input(g, wide, type, wide_cut) : input(g, tall, type, tall_cut);
            g.keep(gemm(a, b, {.ta = ta, .tb = tb}));
            if (!ta && !tb) g.keep(gemm(a, b, c, {.beta = 1}));
        }
}

void update(Tensor w, Tensor dw) {
    const auto state = [&] { return input(*w.graph, w.shape(), w.dtype()); };
    sgd(w, dw, 0);
    for (bool nesterov : {false, true}) sgd(w, dw, state(), 0.9, nesterov, 0);
    for (const auto optimizer : {adam, adamw}) {
        const Tensor m = state(), v = state();
        optimizer(w, dw, m, v, 0.01);
    }
}

// A layer, its gradients and updates; in bf16 the weights stay f32.
void layer(Graph& g, const LayerSize& size, DType type) {
    const DType kept = type == DType::f64 ? DType::f64 : DType::f32;
    const Tensor x = input(g, {size.rows, size.inputs}, type);
    const Tensor w = input(g, {size.outputs, size.inputs}, kept), b = input(g, {1, size.outputs}, kept);
    const auto d = with_gradients(linear(x, cast(w, type), cast(b, type), size.activation), {x, w, b});
    const auto clipped = clip_by_global_norm({d[1], d[2]}, 1);
    update(w, clipped[0]);
    update(b, clipped[1]);
}

// A layer whose inputs are cut: the first tile, those between and the last one are tasks of different kinds.
void cut_layer(Graph& g, const LayerSize& size, DType type) {
    const std::vector<int64_t> inner(3, size.inputs);
    const int64_t inputs = 3 * size.inputs;
    const Tensor x = input(g, {size.rows, inputs}, type, {{size.rows}, inner});
    const Tensor w = input(g, {size.outputs, inputs}, type, {{size.outputs}, inner});
    g.keep(linear(x, w, input(g, {1, size.outputs}, type), size.activation));
}

void classification(Graph& g, Size size, DType type, const BatchSource& source, const Sink& sink) {
    const Tensor x = input(g, {size.rows, size.cols}, type);
    const Tensor labels = load_labels(g, source, size.rows, Grid::whole({size.rows, 1}));
    const Tensor loss = softmax_cross_entropy(x, labels);
    with_gradients(loss, {x});
    report(loss, sink);
    g.keep(count_correct(x, labels));
    g.keep(argmax(x));
}

Pictures make_pictures(const PictureSize& size) {
    const int64_t features = size.pixels * size.channels;
    Pictures p;
    p.bytes.resize(size_t(AllOps::samples * features));
    for (size_t i = 0; i < p.bytes.size(); ++i) p.bytes[i] = uint8_t(random_bits(7, 0, i));
    p.labels.assign(size_t(AllOps::samples), 0);
    p.mean.assign(size_t(size.channels), 0.5f);
    p.scale.assign(size_t(size.channels), 2.f);
    p.source = {p.bytes.data(), nullptr,       p.labels.data(), AllOps::samples,
                features,       size.channels, p.mean.data(),   p.scale.data()};
    return p;
}

template <class F>
Plan plan_of(const F& build) {
    Graph g;
    build(g);
    return Plan(g);
}

}  // namespace

AllOps::AllOps() : sink_([](int64_t, double) {}) {
    int64_t batch = 0;
    for (const Size& s : logit_sizes) batch = std::max(batch, s.rows);
    for (const PictureSize& s : picture_sizes) batch = std::max(batch, s.rows);
    for (int64_t i = 0; i < batch; ++i) batch_.push_back(int64_t(random_bits(7, 1, uint64_t(i)) % samples));
    static_assert(std::size(picture_sizes) == std::tuple_size_v<decltype(pictures_)>);
    for (size_t i = 0; i < pictures_.size(); ++i) pictures_[i] = make_pictures(picture_sizes[i]);

    const auto add_plan = [&](const auto& build) { plans.push_back(plan_of(build)); };
    for (const Size& s : activation_sizes) add_plan([&](Graph& g) { moves(g, s); });
    for (DType type : reals) {
        for (const Size& s : activation_sizes) {
            add_plan([&](Graph& g) { shape_preserving_ops(g, s, type); });
            add_plan([&](Graph& g) { reductions(g, s, type); });
        }
        for (int64_t n : square_sizes) add_plan([&](Graph& g) { products(g, n, type); });
        for (const LayerSize& s : layer_sizes) add_plan([&](Graph& g) { layer(g, s, type); });
        add_plan([&](Graph& g) { cut_layer(g, layer_sizes[std::size(layer_sizes) - 1], type); });
        for (const Size& s : logit_sizes)
            add_plan([&](Graph& g) { classification(g, s, type, pictures_[0].source, sink_); });
        for (size_t i = 0; i < pictures_.size(); ++i)
            add_plan([&](Graph& g) {
                const BatchSource& source = pictures_[i].source;
                const int64_t rows = picture_sizes[i].rows;
                g.keep(load_features(g, source, rows, type, Grid::whole({rows, source.features})));
            });
    }
}

Step AllOps::step() const {
    Step step;
    step.learning_rate = 0.01;
    step.batch = batch_.data();
    return step;
}

}  // namespace tessera
