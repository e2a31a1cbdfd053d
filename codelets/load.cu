// load_features, load_labels: a batch gathered from samples in host memory, y(i, :) = features of sample batch[row0 +
// i]; the indices come with the step. Tasks like any other, so that loading overlaps training. f32, f64, bf16; i32
// labels.
#include "codelets/load.h"

#include "codelets/elementwise.h"
#include "codelets/load_cuda.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct LoadArgs {
    const BatchSource* source;
    const int64_t* batch;
    int64_t row0, col0;
};

template <class T>
struct LoadFeatures {
    static constexpr auto name = "load_features", formula = "y(i, :) = normalised features of sample batch[i]";
    static constexpr DType dtype = dtype_of<T>;
    using Args = LoadArgs;
    static void at_step(Args& a, const Step& s) { a.batch = s.batch; }
    static Cost cost(Args, Out<T> y) { return {2 * double(y.size()), bytes_of_views(y) + double(y.size())}; }
    static void cpu(Args a, Out<T> y) {
        const BatchSource& s = *a.source;
        const std::array<T, 256>* of = s.values ? nullptr : values_of_bytes<T>(s);
        for (int64_t i = 0; i < y.rows; ++i) {
            const int64_t at = a.batch[a.row0 + i] * s.features + a.col0;
            T* __restrict to = y.row(i);
            if (s.values)
                for (int64_t j = 0; j < y.cols; ++j) to[j] = T(s.values[at + j]);
            else if (s.channels == 1)
                for (int64_t j = 0; j < y.cols; ++j) to[j] = of[0][s.bytes[at + j]];
            else
                for (int64_t j = 0, c = a.col0 % s.channels; j < y.cols; ++j, c = c + 1 == s.channels ? 0 : c + 1)
                    to[j] = of[c][s.bytes[at + j]];
        }
    }
    static void cuda(Args a, Out<T> y, Stream stream);
};

struct LoadLabels {
    static constexpr auto name = "load_labels", formula = "y(i, 0) = label of sample batch[i]";
    static constexpr DType dtype = DType::i32;
    using Args = LoadArgs;
    static void at_step(Args& a, const Step& s) { a.batch = s.batch; }
    static Cost cost(Args, Out<int32_t> y) { return {0, 2 * bytes_of_views(y)}; }
    static void cpu(Args a, Out<int32_t> y) {
        for (int64_t i = 0; i < y.rows; ++i) y(i, 0) = a.source->labels[a.batch[a.row0 + i]];
    }
    static void cuda(Args a, Out<int32_t> y, Stream stream);
};

#ifdef TESSERA_CUDA
template <class T>
void LoadFeatures<T>::cuda(Args a, Out<T> y, Stream stream) {
    load_on_cuda<LoadFeatures>(a, y, stream);
}
void LoadLabels::cuda(Args a, Out<int32_t> y, Stream stream) { load_on_cuda<LoadLabels>(a, y, stream); }
#endif
const Register<LoadFeatures<float>, LoadFeatures<double>, LoadFeatures<bf16>, LoadLabels> codelets;
const Example example(codelets, picture_sizes, [](ExampleGraph& e, PictureSize s) {
    struct Samples {
        std::vector<uint8_t> bytes;
        std::vector<int32_t> labels;
        std::vector<float> mean, scale;
        BatchSource source;
    };
    const int64_t features = s.pixels * s.channels;
    Samples& made = e.shared<std::map<int64_t, Samples>>()[features];
    if (made.bytes.empty()) {
        made.bytes.resize(size_t(example_samples * features));
        for (size_t i = 0; i < made.bytes.size(); ++i) made.bytes[i] = uint8_t(i);
        made.labels.resize(size_t(example_samples));
        made.mean.assign(size_t(s.channels), 0.5f);
        made.scale.assign(size_t(s.channels), 2.f);
        made.source = {made.bytes.data(), nullptr,    made.labels.data(), example_samples,
                       features,          s.channels, made.mean.data(),   made.scale.data()};
    }
    if (e.type == DType::i32) e.keep(load_labels(e.graph, made.source, s.rows, Grid::whole({s.rows, 1})));
    else e.keep(load_features(e.graph, made.source, s.rows, e.type, Grid::whole({s.rows, features})));
});

}  // namespace

Tensor load_features(Graph& g, const BatchSource& source, int64_t batch, DType type, Grid grid) {
    require_type<float, double, bf16>(type, "load_features");
    Tensor y = g.buffered("x", {batch, source.features}, type, std::move(grid));
    Node node;
    node.op = "load_features", node.outputs = {y};
    node.lower = [=, from = &source](Lowering& to) {
        dispatch<float, double, bf16>(type, "load_features", [&]<class T>() {
            int64_t row = 0;
            for (int64_t i = 0; i < y.grid().rows(); row += y.grid().row_extents[size_t(i++)]) {
                int64_t col = 0;
                for (int64_t j = 0; j < y.grid().cols(); col += y.grid().col_extents[size_t(j++)])
                    to.task<LoadFeatures<T>>({from, nullptr, row, col}, to.tile(y, i, j));
            }
        });
    };
    g.add(std::move(node));
    return y;
}

Tensor load_labels(Graph& g, const BatchSource& source, int64_t batch, Grid grid) {
    Tensor y = g.buffered("labels", {batch, 1}, DType::i32, std::move(grid));
    Node node;
    node.op = "load_labels", node.outputs = {y};
    node.lower = [=, from = &source](Lowering& to) {
        int64_t row = 0;
        for (int64_t i = 0; i < y.grid().rows(); row += y.grid().row_extents[size_t(i++)])
            to.task<LoadLabels>({from, nullptr, row, 0}, to.tile(y, i, 0));
    };
    g.add(std::move(node));
    return y;
}

}  // namespace tessera
