// load_images: what load_features gives where nothing is changed, padding around the image, and crops and flips that
// depend on seed, step and place in the batch only.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "codelets/load.h"
#include "plain.h"

namespace tessera::test {
namespace {

// Images whose pixels differ from each other and from black.
struct Images {
    std::vector<uint8_t> bytes;
    std::vector<float> values, mean, scale;
    BatchSource source;
    Images(int64_t count, int64_t height, int64_t width, int64_t channels, bool as_values = false) {
        const int64_t features = height * width * channels;
        for (int64_t c = 0; c < channels; ++c) mean.push_back(0.3f + 0.1f * float(c)), scale.push_back(2 + float(c));
        for (int64_t i = 0; i < count * features; ++i) {
            bytes.push_back(uint8_t(1 + i * 37 % 251));
            values.push_back(float(i + 1));
        }
        source = {.bytes = as_values ? nullptr : bytes.data(),
                  .values = as_values ? values.data() : nullptr,
                  .count = count,
                  .features = features,
                  .channels = channels,
                  .mean = mean.data(),
                  .scale = scale.data(),
                  .height = height,
                  .width = width};
    }
    // Channel c of pixel (h, w) of a sample, normalised; black outside of it.
    double at(int64_t sample, int64_t h, int64_t w, int64_t c) const {
        const BatchSource& s = source;
        const bool inside = h >= 0 && h < s.height && w >= 0 && w < s.width;
        const size_t k = size_t(sample * s.features + (h * s.width + w) * s.channels + c);
        if (s.values) return inside ? double(values[k]) : 0;
        return (double(inside ? bytes[k] : 0) / 255 - double(mean[size_t(c)])) * double(scale[size_t(c)]);
    }
};

Matrix loaded(const Images& images, Extent2d wanted, const std::vector<int64_t>& rows, const Augmentation& o,
              const Step& step, DType type = DType::f32) {
    Graph g;
    const Maps x = load_images(g, images.source, wanted, rows, type, o);
    EXPECT_EQ(x.height, wanted.height);
    EXPECT_EQ(x.width, wanted.width);
    g.keep(x.tensor);
    Interpreter run(g);
    run.run(step);
    return run.read(x.tensor);
}
Step step_of(const std::vector<int64_t>& batch, int64_t number = 0, uint64_t seed = 1) {
    return {number, 0, seed, batch.data()};
}
// Image `place` of the result as the source shifted and maybe mirrored.
Matrix expected(const Images& images, const std::vector<int64_t>& batch, Extent2d wanted,
                const std::function<std::pair<int64_t, int64_t>(size_t place, int64_t p, int64_t q)>& from) {
    const int64_t pixels = wanted.height * wanted.width, channels = images.source.channels;
    Matrix y(int64_t(batch.size()) * pixels, channels);
    for (int64_t r = 0; r < y.rows; ++r)
        for (int64_t c = 0; c < channels; ++c) {
            const auto [h, w] = from(size_t(r / pixels), r % pixels / wanted.width, r % wanted.width);
            y(r, c) = images.at(batch[size_t(r / pixels)], h, w, c);
        }
    return y;
}

class LoadImages : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, LoadImages, testing::Values(DType::f32, DType::f64, DType::bf16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST_P(LoadImages, WithoutChangeAreTheFeatures) {
    const std::vector<int64_t> batch = {4, 0, 3, 3};
    for (bool as_values : {false, true})
        for (int64_t channels : {1, 3}) {
            const Images images(5, 4, 6, channels, as_values);
            Graph g;
            const Tensor features = load_features(g, images.source, 4, GetParam(), {{3, 1}, {24 * channels}});
            const Tensor x = maps_of(features, 4, 6).tensor;
            g.keep(x);
            Interpreter run(g);
            run.run(step_of(batch));
            EXPECT_EQ(difference(loaded(images, {4, 6}, {3, 1}, {}, step_of(batch), GetParam()), run.read(x), 0), "");
        }
}

TEST_P(LoadImages, LargerHaveTheImageInTheMiddle) {
    const std::vector<int64_t> batch = {1, 2};
    for (bool as_values : {false, true}) {
        const Images images(3, 4, 3, 2, as_values);
        const Extent2d wanted(8, 6);
        const Matrix y = expected(images, batch, wanted, [](size_t, int64_t p, int64_t q) {
            return std::pair{p - 2, q - 1};
        });
        double most = 1;
        for (double v : y.v) most = std::max(most, std::abs(v));
        EXPECT_EQ(difference(loaded(images, wanted, {2}, {}, step_of(batch), GetParam()), y,
                             most * std::max(facts(GetParam()).epsilon, facts(DType::f32).epsilon) * 2),
                  "");
    }
}

// Which crop, of all that there may be, an image is; none: a failure.
struct Found {
    int64_t top = 0, left = 0;
    bool mirrored = false;
    auto operator<=>(const Found&) const = default;
};
std::vector<Found> crops(const Images& images, const std::vector<int64_t>& batch, Extent2d wanted, const Matrix& y,
                         int64_t pad) {
    const int64_t pixels = wanted.height * wanted.width, above = (wanted.height - images.source.height) / 2,
                  before = (wanted.width - images.source.width) / 2;
    std::vector<Found> all;
    for (size_t place = 0; place < batch.size(); ++place) {
        const size_t known = all.size();
        for (int64_t top = -pad; top <= pad; ++top)
            for (int64_t left = -pad; left <= pad; ++left)
                for (bool mirrored : {false, true}) {
                    bool same = true;
                    for (int64_t k = 0; k < pixels && same; ++k) {
                        const int64_t p = k / wanted.width, q = k % wanted.width;
                        const int64_t column = mirrored ? wanted.width - 1 - q : q;
                        for (int64_t c = 0; c < images.source.channels; ++c)
                            same = same &&
                                   std::abs(y(int64_t(place) * pixels + k, c) -
                                            images.at(batch[place], p + top - above, column + left - before, c)) < 1e-5;
                    }
                    if (same) all.push_back({top, left, mirrored});
                }
        EXPECT_EQ(all.size(), known + 1) << "image " << place << " is one crop";
        all.resize(known + 1);
    }
    return all;
}

std::vector<int64_t> numbers(int64_t n, int64_t of) {
    std::vector<int64_t> all;
    for (int64_t i = 0; i < n; ++i) all.push_back(i * 7 % of);
    return all;
}

TEST(Augmented, CropsAndFlipsAreAllEquallyLikely) {
    const Images images(10, 5, 5, 2);
    const auto batch = numbers(1800, 10);
    const uint64_t seed = generator("crops")();
    SCOPED_TRACE("--seed " + std::to_string(run_seed()));
    for (Extent2d wanted : {Extent2d(5), Extent2d(8, 7)}) {
        const Matrix y = loaded(images, wanted, {1000, 800}, {.pad = 1, .flip = true}, step_of(batch, 3, seed));
        std::map<Found, int> count;
        for (const Found& f : crops(images, batch, wanted, y, 1)) ++count[f];
        EXPECT_EQ(count.size(), 18u);
        for (auto& [found, n] : count) EXPECT_NEAR(n, 100, 60) << found.top << " " << found.left;
    }
    for (const Found& f : crops(images, batch, 5, loaded(images, 5, {1800}, {.pad = 2}, step_of(batch)), 2))
        EXPECT_FALSE(f.mirrored);
    for (const Found& f : crops(images, batch, 5, loaded(images, 5, {1800}, {.flip = true}, step_of(batch)), 2))
        EXPECT_TRUE(f.top == 0 && f.left == 0);
}

TEST(Augmented, DoesNotDependOnTiles) {
    const Images images(10, 6, 5, 3);
    const auto batch = numbers(24, 10);
    const Augmentation o{.pad = 4, .flip = true};
    const Matrix whole = loaded(images, {6, 5}, {24}, o, step_of(batch));
    for (const std::vector<int64_t>& rows : {std::vector<int64_t>{5, 19}, {8, 8, 8}, std::vector<int64_t>(24, 1)})
        EXPECT_EQ(difference(loaded(images, {6, 5}, rows, o, step_of(batch)), whole, 0), "");
}

TEST(Augmented, ChangesWithStepSeedAndPlace) {
    const Images images(10, 6, 6, 1);
    const std::vector<int64_t> batch(32, 4);  // one sample everywhere
    const Augmentation o{.pad = 4, .flip = true};
    const auto found = [&](int64_t number, uint64_t seed) {
        return crops(images, batch, 6, loaded(images, 6, {32}, o, step_of(batch, number, seed)), 4);
    };
    const auto first = found(0, 1);
    EXPECT_EQ(found(0, 1), first);
    const auto equal = [&](const std::vector<Found>& other) {
        int n = 0;
        for (size_t i = 0; i < first.size(); ++i) n += first[i] == other[i];
        return n;
    };
    EXPECT_LT(equal(found(1, 1)), 6);
    EXPECT_LT(equal(found(0, 2)), 6);
    EXPECT_GT(std::set<Found>(first.begin(), first.end()).size(), 20u);
}

// More black than image.
TEST(Augmented, PadsWiderThanTheImage) {
    const Images images(3, 2, 3, 1);
    const auto batch = numbers(60, 3);
    const Matrix y = loaded(images, {2, 3}, {60}, {.pad = 7}, step_of(batch));
    int black = 0;
    for (int64_t n = 0; n < 60; ++n) {
        bool all = true;
        for (int64_t k = 0; k < 6; ++k) all = all && std::abs(y(6 * n + k, 0) - images.at(0, -1, -1, 0)) < 1e-6;
        black += all;
    }
    EXPECT_GT(black, 30);  // 15 x 15 places, 3 x 5 of them with a part of the image
    EXPECT_LT(black, 60);
}

TEST(LoadImagesGraph, RefusesWhatDoesNotFit) {
    const Images images(3, 4, 3, 2);
    Graph g;
    const auto refusal = [&](const BatchSource& s, Extent2d wanted, const std::vector<int64_t>& rows = {2},
                             const Augmentation& o = {}, DType type = DType::f32) {
        try {
            load_images(g, s, wanted, rows, type, o);
        } catch (const std::invalid_argument& e) { return std::string(e.what()); }
        return std::string();
    };
    const auto has = [](const std::string& text, const std::string& words) {
        EXPECT_NE(text.find(words), std::string::npos) << "'" << words << "' is not in: " << text;
    };
    has(refusal(images.source, {3, 3}), "load_images: images of 4 x 3 cannot become 3 x 3");
    has(refusal(images.source, {4, 2}), "4 x 2");
    BatchSource flat = images.source;
    flat.height = flat.width = 0;
    has(refusal(flat, {4, 3}), "samples of 24 features are no images of 0 x 0 with 2 channels");
    has(refusal(images.source, {4, 3}, {}), "positive number of images");
    has(refusal(images.source, {4, 3}, {2, 0}), "positive number of images");
    has(refusal(images.source, {4, 3}, {2}, {.pad = -1}), "pad by -1");
    has(refusal(images.source, {4, 3}, {2}, {}, DType::i32), "i32");
    EXPECT_TRUE(g.nodes().empty());
}

}  // namespace
}  // namespace tessera::test
