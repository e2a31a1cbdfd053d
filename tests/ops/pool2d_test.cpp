// max_pool2d, avg_pool2d, adaptive_avg_pool2d, global_avg_pool2d.
#include "plain_maps.h"

namespace tessera::test {
namespace {

struct Pool {
    std::string name;
    int64_t height, width;
    Extent2d window;
    PoolOptions options;

    // Outputs along one direction: starts of windows, counted one after the other.
    static int64_t outputs(int64_t extent, int64_t window, int64_t stride, int64_t padding, bool ceil) {
        int64_t n = 0;
        for (int64_t start = -padding; start + window <= extent + padding; start += stride) ++n;
        const int64_t start = n * stride - padding;  // one more, if it begins inside and does not end inside
        return n + (ceil && start < extent && (n - 1) * stride + window - padding < extent + padding);
    }
    PlainMaps output(const PlainMaps& x) const {
        const auto& o = options;
        return {x.batch, outputs(x.height, window.height, o.stride.height, o.padding.height, o.ceil),
                outputs(x.width, window.width, o.stride.width, o.padding.width, o.ceil), x.channels};
    }
    // Calls f(h, w, whether that is a pixel) for what window (p, q) covers of the padded x.
    template <class F>
    void visit(const PlainMaps& x, int64_t p, int64_t q, F f) const {
        for (int64_t r = 0; r < window.height; ++r)
            for (int64_t s = 0; s < window.width; ++s) {
                const int64_t h = p * options.stride.height + r - options.padding.height;
                const int64_t w = q * options.stride.width + s - options.padding.width;
                if (h < height + options.padding.height && w < width + options.padding.width) f(h, w, x.has(h, w));
            }
    }
};

const Pool pools[] = {
    {"3_s2_p1", 7, 6, 3, {.stride = 2, .padding = 1}},
    {"3_s1_p1", 4, 5, 3, {.stride = 1, .padding = 1}},
    {"2x3_s2x1_ceil", 5, 7, {2, 3}, {.stride = {2, 1}, .ceil = true}},
    {"4x5_s3x2_p2_ceil", 8, 6, {4, 5}, {.stride = {3, 2}, .padding = 2, .ceil = true}},
    {"2_s3", 7, 8, 2, {.stride = 3}},  // pixels that no window covers
    {"all_of_4x3", 4, 3, {4, 3}, {}},
    {"of_one_pixel", 1, 1, 3, {.padding = 1}},
};

Matrices max_of(const Pool& pool, const Matrices& in) {
    const PlainMaps x(in[0], pool.height, pool.width);
    PlainMaps y = pool.output(x);
    y.fill([&](int64_t n, int64_t p, int64_t q, int64_t c) {
        double most = -INFINITY;
        pool.visit(x, p, q, [&](int64_t h, int64_t w, bool inside) {
            if (inside) most = std::max(most, x(n, h, w, c));
        });
        return most;
    });
    return {y.m};
}
// No two values so close that a central difference changes which one is the largest of a window.
bool has_clear_maxima(const Pool& pool, const Matrices& in) {
    const PlainMaps x(in[0], pool.height, pool.width);
    PlainMaps gaps = pool.output(x);
    gaps.fill([&](int64_t n, int64_t p, int64_t q, int64_t c) {
        double most = -INFINITY, second = -INFINITY;
        pool.visit(x, p, q, [&](int64_t h, int64_t w, bool inside) {
            if (!inside) return;
            const double v = x(n, h, w, c);
            second = std::max(second, std::min(v, most)), most = std::max(most, v);
        });
        return most - second;
    });
    return std::all_of(gaps.m.v.begin(), gaps.m.v.end(), [](double gap) { return gap > 1e-4; });
}
Matrices mean_of(const Pool& pool, const Matrices& in) {
    const PlainMaps x(in[0], pool.height, pool.width);
    PlainMaps y = pool.output(x);
    y.fill([&](int64_t n, int64_t p, int64_t q, int64_t c) {
        double sum = 0, count = 0;
        pool.visit(x, p, q, [&](int64_t h, int64_t w, bool inside) {
            if (inside) sum += x(n, h, w, c);
            count += inside || pool.options.count_padding;
        });
        return sum / count;
    });
    return {y.m};
}

struct DeclarePools {
    DeclarePools() {
        for (Pool pool : pools) {
            // In bf16 two values of a window are often equal: its gradient is checked below.
            declare("max_pool2d_" + pool.name, pool, max_of, {DType::f32, DType::f64}, true);
            declare("max_pool2d_bf16_" + pool.name, pool, max_of, {DType::bf16}, false);
            declare("avg_pool2d_" + pool.name, pool, mean_of, {DType::f32, DType::f64, DType::bf16}, true);
            if (pool.options.padding == Extent2d(0)) continue;
            pool.options.count_padding = true;
            declare("avg_pool2d_counting_" + pool.name, pool, mean_of, {DType::f32, DType::f64, DType::bf16}, true);
        }
    }
    static void declare(const std::string& name, const Pool& pool, Matrices (*reference)(const Pool&, const Matrices&),
                        std::vector<DType> types, bool gradient) {
        const bool max = reference == max_of;
        OpCase c{.name = name,
                 .inputs = images(pool.height, pool.width),
                 .build =
                     [=](Graph&, const auto& x) {
                         const Maps maps = maps_between_images(x[0], pool.height, pool.width);
                         return std::vector{(max ? max_pool2d : avg_pool2d)(maps, pool.window, pool.options).tensor};
                     },
                 .reference = [=](const Matrices& x) { return reference(pool, x); },
                 .types = std::move(types),
                 .gradient = gradient,
                 .tolerance_factor = max ? 0.0 : 1.0,
                 .reduction = [=](Extents) { return max ? 1 : pool.window.height * pool.window.width; }};
        if (max) c.suitable = [=](const Matrices& x) { return has_clear_maxima(pool, x); };
        c.perf = {64, 64, 1};
        Declare{std::move(c)};
    }
} const declare_pools;

OpCase adaptive(const std::string& name, Extent2d from, Extent2d to, bool global = false) {
    return {.name = name,
            .inputs = images(from.height, from.width),
            .build =
                [=](Graph&, const auto& x) {
                    const Maps maps = maps_between_images(x[0], from.height, from.width);
                    return std::vector{global ? global_avg_pool2d(maps) : adaptive_avg_pool2d(maps, to).tensor};
                },
            .reference =
                [=](const Matrices& in) {
                    const PlainMaps x(in[0], from.height, from.width);
                    PlainMaps y(x.batch, to.height, to.width, x.channels);
                    y.fill([&](int64_t n, int64_t p, int64_t q, int64_t c) {
                        double sum = 0, count = 0;  // pixel h lies between p / P and (p + 1) / P of the height
                        for (int64_t h = 0; h < from.height; ++h)
                            for (int64_t w = 0; w < from.width; ++w)
                                if ((h + 1) * to.height > p * from.height && h * to.height < (p + 1) * from.height &&
                                    (w + 1) * to.width > q * from.width && w * to.width < (q + 1) * from.width)
                                    sum += x(n, h, w, c), ++count;
                        return sum / count;
                    });
                    return Matrices{y.m};
                },
            .reduction = [=](Extents) { return from.height * from.width; },
            .perf = {64, 256, 1}};
}
const Declare adaptive_fewer{adaptive("adaptive_avg_pool2d", {7, 5}, {3, 2})};
const Declare adaptive_more{adaptive("adaptive_avg_pool2d_more", {3, 4}, {5, 7})};
const Declare adaptive_same{adaptive("adaptive_avg_pool2d_same", {3, 4}, {3, 4})};
const Declare global_case{adaptive("global_avg_pool2d", {5, 7}, 1, true)};
const Declare global_pixel{adaptive("global_avg_pool2d_of_one_pixel", 1, 1, true)};

// y and dx of a pooling of one image with one channel.
struct Result {
    std::vector<double> y, dx;
};
Result pooled(DType type, int64_t height, int64_t width, const std::vector<double>& x, const std::vector<double>& dy,
              const std::function<Maps(Maps)>& pool) {
    Graph g;
    Tensor in = g.value("x", {height * width, 1}, type), y = pool({in, height, width}).tensor;
    Tensor seed = g.value("dy", y.shape(), type, y.grid());
    Tensor dx = g.backward(y, seed, {in}, [](Tensor a, Tensor b) { return add(a, b); })[0];
    g.keep(y), g.keep(dx);
    Interpreter run(g);
    Matrix values(height * width, 1), gradient(y.shape().rows, 1);
    values.v = x, gradient.v = dy;
    run.write(in, values), run.write(seed, gradient);
    run.run();
    return {run.read(y).v, run.read(dx).v};
}

class MaxPool2d : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, MaxPool2d, testing::Values(DType::f32, DType::f64, DType::bf16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST_P(MaxPool2d, OfEqualOnesTheFirstGetsTheGradient) {
    const auto pool = [](Maps x) { return max_pool2d(x, 2, {.stride = 1}); };
    const Result r = pooled(GetParam(), 3, 3, {1, 1, 0, 1, 1, 2, 2, 0, 2}, {1, 2, 4, 8}, pool);
    EXPECT_EQ(r.y, (std::vector<double>{1, 2, 2, 2}));
    EXPECT_EQ(r.dx, (std::vector<double>{1, 0, 0, 0, 0, 10, 4, 0, 0}));
}

TEST_P(MaxPool2d, NanWinsAndNegativeInfinityIsAValue) {
    const auto pool = [](Maps x) { return max_pool2d(x, 3, {.stride = 2, .padding = 1}); };
    const double low = -INFINITY;
    const Result r = pooled(GetParam(), 3, 3, {low, low, 5, low, low, low, 7, NAN, 9}, {1, 2, 4, 8}, pool);
    EXPECT_EQ(r.y[0], low);
    EXPECT_EQ(r.y[1], 5);
    EXPECT_TRUE(std::isnan(r.y[2]) && std::isnan(r.y[3]));
    EXPECT_EQ(r.dx, (std::vector<double>{1, 0, 2, 0, 0, 0, 0, 12, 0}));
}

// Overwrites the places that a pooling noted, as calibration does with made-up values.
struct PlacesZero {
    static constexpr auto name = "test_places_zero", formula = "places = 0";
    static constexpr DType dtype = DType::u8;
    struct Args {};
    static Cost cost(Args, Out<uint8_t> places) { return {0, bytes_of_views(places)}; }
    static void cpu(Args, Out<uint8_t> places) {
        for (int64_t i = 0; i < places.rows; ++i) std::fill_n(places.row(i), places.cols, uint8_t(0));
    }
};
const Register<PlacesZero> places_zero;

// Written in the padding - before the workspace, or at the end of the row above - they corrupted memory.
TEST_P(MaxPool2d, PlacesInThePaddingGetNothing) {
    const auto pool = [](Maps x) {
        const Maps y = max_pool2d(x, 3, {.stride = 2, .padding = 1});
        Graph& g = *y.tensor.graph;
        const Tensor places{&g, y.tensor.id + 1};
        EXPECT_EQ(places.name(), "places");
        Node node;
        node.op = "places_zero", node.outputs = {places};
        node.lower = [=](Lowering& to) { to.task<PlacesZero>({}, to.tile(places, 0, 0)); };
        g.add(std::move(node));
        return y;
    };
    const Result r = pooled(GetParam(), 3, 3, std::vector<double>(9, 1), {1, 2, 4, 8}, pool);
    EXPECT_EQ(r.dx, (std::vector<double>{0, 0, 0, 0, 8, 0, 0, 0, 0}));
}

// Places count row by row in windows of up to 255 of them, clipped or not.
TEST_P(MaxPool2d, LargestWindow) {
    std::vector<double> x(size_t(15 * 17), -1);
    x.back() = 3;
    const auto all = [](Maps maps) { return max_pool2d(maps, {15, 17}, {}); };
    const Result r = pooled(GetParam(), 15, 17, x, {2}, all);
    EXPECT_EQ(r.y, std::vector<double>{3});
    EXPECT_EQ(r.dx.back(), 2);
    EXPECT_EQ(std::count(r.dx.begin(), r.dx.end(), 0), 15 * 17 - 1);
}

// Against torch.nn.functional.avg_pool2d (1.13) of ones [1 x 1 x 4 x 5]: windows that reach beyond the right padding
// are cut off there, and what is cut off is not counted.
TEST(AvgPool2d, DividesAsPyTorchDoes) {
    const std::vector<double> ones(20, 1);
    const auto mean = [&](bool count_padding) {
        const auto pool = [&](Maps x) {
            return avg_pool2d(x, 3, {.stride = 2, .padding = 1, .ceil = true, .count_padding = count_padding});
        };
        return pooled(DType::f64, 4, 5, ones, std::vector<double>(9, 1), pool).y;
    };
    const std::vector<double> counted{4. / 9, 6. / 9, 4. / 9, 6. / 9, 1, 6. / 9, 2. / 6, 3. / 6, 2. / 6};
    const auto actual = mean(true);
    ASSERT_EQ(actual.size(), counted.size());
    for (size_t i = 0; i < counted.size(); ++i) EXPECT_DOUBLE_EQ(actual[i], counted[i]) << i;
    EXPECT_EQ(mean(false), std::vector<double>(9, 1));
}

TEST(Pool2d, MapsHaveTheNewExtentsAndTiles) {
    Graph g;
    Tensor x = g.value("x", {3 * 7 * 6, 5}, DType::f32, {{2 * 7 * 6, 7 * 6}, {2, 3}});
    for (Maps y : {max_pool2d({x, 7, 6}, 3, {.stride = 2, .padding = 1}),
                   avg_pool2d({x, 7, 6}, 3, {.stride = 2, .padding = 1}), adaptive_avg_pool2d({x, 7, 6}, {4, 3})}) {
        EXPECT_EQ(y.height, 4);
        EXPECT_EQ(y.width, 3);
        EXPECT_EQ(y.tensor.grid(), (Grid{{24, 12}, {2, 3}}));
    }
    EXPECT_EQ(global_avg_pool2d({x, 7, 6}).grid(), (Grid{{2, 1}, {2, 3}}));
}

TEST(Pool2d, RefusesWhatDoesNotFit) {
    for (const std::string name : {"max_pool2d", "avg_pool2d"}) {
        const auto text = [&](Extent2d window, PoolOptions o) {
            return refusal(40, 4, 5, [&](Maps x) { (name[0] == 'm' ? max_pool2d : avg_pool2d)(x, window, o); });
        };
        expect_refusal(text({0, 2}, {}), {name, "window", "not 0 x 2", "x [40 x 3] f32"});
        expect_refusal(text(2, {.stride = {1, 0}}), {name, "stride", "not 1 x 0"});
        expect_refusal(text(2, {.stride = -1}), {name, "stride", "not -1 x -1"});
        expect_refusal(text(2, {.padding = {0, -1}}), {name, "padding", "not 0 x -1"});
        expect_refusal(text(3, {.padding = 2}), {name, "padding 2 x 2 is more than half of the window 3 x 3"});
        expect_refusal(text({5, 5}, {}), {name, "4 x 5 pixels shrink to nothing under the window 5 x 5"});
        expect_refusal(text({2, int64_t(1) << 40}, {}), {name, "window"});
        EXPECT_EQ(text({4, 5}, {}), "");
        EXPECT_EQ(text({5, 5}, {.stride = 2, .ceil = true}), "");  // a window that is cut off, as in PyTorch
    }
    expect_refusal(refusal(600, 20, 30, [](Maps x) { max_pool2d(x, 16, {}); }), {"16 x 16 has more than 255 places"});
    expect_refusal(refusal(40, 4, 5, [](Maps x) { max_pool2d(x, 2, {.count_padding = true}); }), {"count_padding"});
    expect_refusal(refusal(40, 4, 5,
                           [](Maps x) {
                               adaptive_avg_pool2d(x, {0, 2});
                           }),
                   {"adaptive_avg_pool2d", "not 0 x 2"});
}

TEST(Pool2d, RefusesMapsThatAreNoImages) {
    const auto max = [](Maps x) { max_pool2d(x, 1, {}); };
    const auto mean = [](Maps x) { avg_pool2d(x, 1, {}); };
    const auto global = [](Maps x) { global_avg_pool2d(x); };
    expect_refusal(refusal(41, 4, 5, max), {"max_pool2d: the rows of x must be whole images of 4 x 5 pixels"});
    expect_refusal(refusal(40, 0, 5, mean), {"avg_pool2d: the rows of x must be whole images of 0 x 5 pixels"});
    expect_refusal(refusal(40, -4, -5, global), {"global_avg_pool2d: the rows of x must be whole images"});
    expect_refusal(refusal(60, 4, 5, max, 30), {"max_pool2d: x must be cut between images of 4 x 5", "30+30 x 3"});
    EXPECT_EQ(refusal(60, 4, 5, max, 20), "");
}

}  // namespace
}  // namespace tessera::test
