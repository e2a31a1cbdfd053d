// load_images: images of a batch gathered from samples in host memory as maps, y(n, p, q, c) = source of sample
// batch[n] at (p + dy, q + dx), black outside of it; where the wanted size is larger the image is in the middle. Crops
// and flips are a function of (seed, step, place in the batch): tiles and workers do not matter. f32, f64, bf16.
#include <algorithm>

#include "codelets/elementwise.h"
#include "codelets/load.h"
#include "codelets/load_cuda.h"
#include "codelets/maps_grid.h"
#include "codelets/ops.h"
#include "core/random.h"

namespace tessera {
namespace {

struct LoadImagesArgs {
    const BatchSource* source;
    const int64_t* batch;
    int64_t first;  // place in the batch of the tile's first image
    int64_t height, width, pad;
    bool flip;
    uint64_t seed = 0, step = 0;
};

// Where the pixel (0, 0) of an image comes from.
struct Cutout {
    int64_t top, left;
    bool mirrored;
};
Cutout cutout(const LoadImagesArgs& a, int64_t place) {
    constexpr uint64_t stream = 0x494d414745;  // "IMAGE"
    const auto draw = [&](uint64_t number) {
        return random_bits(a.seed, mix64(stream) ^ a.step, 3 * uint64_t(place) + number);
    };
    const auto shift = [&](uint64_t number) {
        return a.pad > 0 ? int64_t(draw(number) % uint64_t(2 * a.pad + 1)) - a.pad : 0;
    };
    const BatchSource& s = *a.source;
    return {shift(0) - (a.height - s.height) / 2, shift(1) - (a.width - s.width) / 2, a.flip && draw(2) >> 63};
}

template <class T>
struct LoadImages {
    static constexpr auto name = "load_images", formula = "y(n, p, q, :) = sample batch[n], cut out, normalised";
    static constexpr DType dtype = dtype_of<T>;
    using Args = LoadImagesArgs;
    static void at_step(Args& a, const Step& s) { a.batch = s.batch, a.seed = s.seed, a.step = uint64_t(s.number); }
    static Cost cost(Args, Out<T> y) { return {2 * double(y.size()), bytes_of_views(y) + double(y.size())}; }
    static void cpu(Args a, Out<T> y) {
        const BatchSource& s = *a.source;
        const int64_t pixels = a.height * a.width;
        if (s.values) {
            const auto value = [](const float* from, int64_t) { return T(*from); };
            for (int64_t n = 0; n * pixels < y.rows; ++n)
                image(a, n, s.values, y, value, [](int64_t) { return T(0.f); });
            return;
        }
        const std::array<T, 256>* of = values_of_bytes<T>(s);
        const auto value = [of](const uint8_t* from, int64_t c) { return of[c][*from]; };
        for (int64_t n = 0; n * pixels < y.rows; ++n)
            image(a, n, s.bytes, y, value, [of](int64_t c) { return of[c][0]; });
    }
    static void cuda(Args a, Out<T> y, Stream stream);

 private:
    // Image n of the tile; value(pointer, channel) and black(channel) are what is stored.
    template <class Stored, class Value, class Black>
    static void image(const Args& a, int64_t n, const Stored* samples, Out<T> y, Value value, Black black) {
        const BatchSource& s = *a.source;
        const Cutout from = cutout(a, a.first + n);
        const Stored* sample = samples + a.batch[a.first + n] * s.features;
        // Columns of the source that are there: [begin, end) of the result, before it is mirrored.
        const int64_t begin = std::clamp<int64_t>(-from.left, 0, a.width),
                      end = std::clamp<int64_t>(s.width - from.left, begin, a.width);
        for (int64_t p = 0; p < a.height; ++p) {
            const int64_t row = p + from.top;
            const bool inside = row >= 0 && row < s.height;
            const auto pixel = [&](int64_t q) {
                return y.row((n * a.height + p) * a.width + (from.mirrored ? a.width - 1 - q : q));
            };
            const auto fill_black = [&](int64_t q0, int64_t q1) {
                for (int64_t q = q0; q < q1; ++q)
                    for (int64_t c = 0; c < s.channels; ++c) pixel(q)[c] = black(c);
            };
            fill_black(0, inside ? begin : a.width);
            if (!inside) continue;
            for (int64_t q = begin; q < end; ++q) {
                T* to = pixel(q);
                const Stored* at = sample + (row * s.width + q + from.left) * s.channels;
                for (int64_t c = 0; c < s.channels; ++c) to[c] = value(at + c, c);
            }
            fill_black(end, a.width);
        }
    }
};
#ifdef TESSERA_CUDA
template <class T>
void LoadImages<T>::cuda(Args a, Out<T> y, Stream stream) {
    load_on_cuda<LoadImages>(a, y, stream);
}
#endif
const Register<LoadImages<float>, LoadImages<double>, LoadImages<bf16>> codelets;
constexpr MapsSize image_sizes[] = {{16, 32, 3}, {64, 32, 3}, {8, 224, 3}};
const Example example(codelets, image_sizes, [](ExampleGraph& e, MapsSize s) {
    constexpr int64_t side = 32;  // of the samples
    struct Samples {
        std::vector<uint8_t> bytes;
        std::vector<float> mean = std::vector<float>(3, 0.5f), scale = std::vector<float>(3, 2.f);
        BatchSource source;
    };
    Samples& made = e.shared<Samples>();
    if (made.bytes.empty()) {
        made.bytes.resize(size_t(example_samples * side * side * 3));
        for (size_t i = 0; i < made.bytes.size(); ++i) made.bytes[i] = uint8_t(i);
        made.source = {.bytes = made.bytes.data(),
                       .count = example_samples,
                       .features = side * side * 3,
                       .channels = 3,
                       .mean = made.mean.data(),
                       .scale = made.scale.data(),
                       .height = side,
                       .width = side};
    }
    e.keep(load_images(e.graph, made.source, s.side, {s.images}, e.type, {.pad = 4, .flip = true}).tensor);
});

void check_source(const BatchSource& s, Extent2d wanted, const std::vector<int64_t>& rows, const Augmentation& o) {
    require(s.height > 0 && s.width > 0 && s.channels > 0 && s.features == s.height * s.width * s.channels,
            "load_images",
            "samples of " + std::to_string(s.features) + " features are no images of " +
                to_string(Extent2d(s.height, s.width)) + " with " + std::to_string(s.channels) + " channels");
    require(wanted.height >= s.height && wanted.width >= s.width, "load_images",
            "images of " + to_string(Extent2d(s.height, s.width)) + " cannot become " + to_string(wanted) +
                ": they are padded where more is wanted, but not cut or scaled down");
    require(!rows.empty() && std::all_of(rows.begin(), rows.end(), [](int64_t n) { return n > 0; }), "load_images",
            "needs a positive number of images in every tile");
    require(o.pad >= 0 && o.pad < (int64_t(1) << 20), "load_images",
            "cannot pad by " + std::to_string(o.pad) + " pixels");
}

}  // namespace

Maps load_images(Graph& g, const BatchSource& source, Extent2d wanted, std::vector<int64_t> rows, DType type,
                 const Augmentation& options) {
    check_source(source, wanted, rows, options);
    require_type<float, double, bf16>(type, "load_images");
    const int64_t pixels = wanted.height * wanted.width;
    int64_t batch = 0;
    for (int64_t n : rows) batch += n;
    Tensor y =
        g.buffered("x", {batch * pixels, source.channels}, type, {rows_of_images(rows, pixels), {source.channels}});
    Node node;
    node.op = "load_images", node.outputs = {y};
    node.attributes = "pad=" + std::to_string(options.pad) + (options.flip ? " flip" : "");
    node.lower = [=, from = &source](Lowering& to) {
        dispatch<float, double, bf16>(type, "load_images", [&]<class T>() {
            LoadImagesArgs args{from, nullptr, 0, wanted.height, wanted.width, options.pad, options.flip};
            for (int64_t i = 0; i < y.grid().rows(); args.first += rows[size_t(i++)])
                to.task<LoadImages<T>>(args, to.tile(y, i, 0));
        });
    };
    g.add(std::move(node));
    return {y, wanted.height, wanted.width};
}

}  // namespace tessera
