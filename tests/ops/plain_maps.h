// plain_maps.h - what the references of ops on feature maps are made of: pixel (n, h, w) of channels-last maps is row
// (n H + h) W + w. Inputs of a case are cut anywhere; maps are cut between images.
#pragma once
#include <gtest/gtest.h>

#include <stdexcept>

#include "plain.h"

namespace tessera::test {

// [images of e.m, channels of e.n] of height x width pixels.
inline std::function<std::vector<Input>(Extents)> images(int64_t height, int64_t width, double low = -1,
                                                         double high = 1) {
    return [=](Extents e) {
        return std::vector<Input>{{.shape = {e.m * height * width, e.n}, .low = low, .high = high}};
    };
}

// x as maps: cut where its tiles end, moved up to the last end of an image.
inline Maps maps_between_images(Tensor x, int64_t height, int64_t width) {
    Grid grid{{}, x.grid().col_extents};
    const int64_t pixels = height * width;
    int64_t row = 0, done = 0;
    for (int64_t extent : x.grid().row_extents) {
        row += extent;
        if (row / pixels == done) continue;
        grid.row_extents.push_back((row / pixels - done) * pixels);
        done = row / pixels;
    }
    return {x.grid() == grid ? x : retile(x, grid), height, width};
}

// Maps of doubles; with `f(n, p, q, c)` for every element.
struct PlainMaps {
    int64_t batch, height, width, channels;
    Matrix m;
    PlainMaps(int64_t n, int64_t h, int64_t w, int64_t c)
        : batch(n), height(h), width(w), channels(c), m(n * h * w, c) {}
    PlainMaps(Matrix x, int64_t h, int64_t w)
        : batch(x.rows / h / w), height(h), width(w), channels(x.cols), m(std::move(x)) {}
    bool has(int64_t h, int64_t w) const { return h >= 0 && h < height && w >= 0 && w < width; }
    double& operator()(int64_t n, int64_t h, int64_t w, int64_t c) { return m((n * height + h) * width + w, c); }
    double operator()(int64_t n, int64_t h, int64_t w, int64_t c) const { return m((n * height + h) * width + w, c); }
    template <class F>
    void fill(F f) {
        for (int64_t n = 0; n < batch; ++n)
            for (int64_t h = 0; h < height; ++h)
                for (int64_t w = 0; w < width; ++w)
                    for (int64_t c = 0; c < channels; ++c) (*this)(n, h, w, c) = f(n, h, w, c);
    }
};

// What `build` throws for maps [rows x 3] of this height and width, cut into tiles of `tile` rows; "" if nothing.
inline std::string refusal(int64_t rows, int64_t height, int64_t width, const std::function<void(Maps)>& build,
                           int64_t tile = 0) {
    Graph g;
    Tensor x = g.value("x", {rows, 3}, DType::f32, {cut(rows, tile), {3}});
    try {
        build({x, height, width});
    } catch (const std::invalid_argument& e) { return e.what(); }
    return "";
}
inline void expect_refusal(const std::string& refusal, const std::vector<std::string>& words) {
    for (const std::string& word : words) EXPECT_NE(refusal.find(word), std::string::npos) << '"' << refusal << '"';
}

}  // namespace tessera::test
