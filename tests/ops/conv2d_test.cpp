// conv2d: strides, padding, dilation, groups, bias, activations, several tiles; its gradients in oneDNN's shapes; the
// device's formulas on the host; workspaces; wrong use.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "codelets/conv2d_implicit.h"
#include "codelets/convolution.h"
#include "plain.h"

namespace tessera::test {
namespace {

struct Layer {
    Extent2d in, kernel;
    int64_t channels, filters;
    Conv2dOptions options;

    Extent2d out() const {
        const auto along = [](int64_t in, int64_t k, int64_t stride, int64_t padding, int64_t dilation) {
            return (in + 2 * padding - dilation * (k - 1) - 1) / stride + 1;
        };
        return {along(in.height, kernel.height, options.stride.height, options.padding.height, options.dilation.height),
                along(in.width, kernel.width, options.stride.width, options.padding.width, options.dilation.width)};
    }
    Shape x(int64_t images) const { return {images * in.height * in.width, channels}; }
    Shape y(int64_t images) const { return {images * out().height * out().width, filters}; }
    Shape w() const { return {filters, kernel.height * kernel.width * channels / options.groups}; }
};

// Calls f(output row, filter, input row, channel, w's column) for every product of the convolution.
template <class F>
void for_products(const Layer& l, int64_t images, F&& f) {
    const Conv2dOptions& o = l.options;
    const int64_t per_group = l.channels / o.groups;
    for (int64_t n = 0; n < images; ++n)
        for (int64_t p = 0; p < l.out().height; ++p)
            for (int64_t q = 0; q < l.out().width; ++q)
                for (int64_t r = 0; r < l.kernel.height; ++r)
                    for (int64_t s = 0; s < l.kernel.width; ++s) {
                        const int64_t h = p * o.stride.height + r * o.dilation.height - o.padding.height;
                        const int64_t w = q * o.stride.width + s * o.dilation.width - o.padding.width;
                        if (h < 0 || w < 0 || h >= l.in.height || w >= l.in.width) continue;
                        for (int64_t k = 0; k < l.filters; ++k)
                            for (int64_t c = 0; c < per_group; ++c)
                                f((n * l.out().height + p) * l.out().width + q, k,
                                  (n * l.in.height + h) * l.in.width + w, k / (l.filters / o.groups) * per_group + c,
                                  (r * l.kernel.width + s) * per_group + c);
                    }
}
Matrix reference_y(const Layer& l, const Matrix& x, const Matrix& w, const Matrix* b) {
    const int64_t images = x.rows / (l.in.height * l.in.width);
    Matrix y(l.y(images).rows, l.filters);
    for_products(l, images,
                 [&](int64_t i, int64_t k, int64_t j, int64_t c, int64_t at) { y(i, k) += x(j, c) * w(k, at); });
    for (int64_t i = 0; i < y.rows; ++i)
        for (int64_t k = 0; k < y.cols; ++k) y(i, k) = activated(l.options.activation, y(i, k) + (b ? (*b)(0, k) : 0));
    return y;
}

// --- the harness: values, tilings, orders, gradients ---

// Few images and channels, of numbers that depend on the extents and are often odd.
Layer sized(Layer l, Extents e) {
    const int64_t g = l.options.groups;
    l.in = {l.in.height + e.m % 3, l.in.width + e.n % 3};
    if (l.channels != g) l.channels = g * (1 + e.k % 4), l.filters = g * (1 + e.n % 5);
    return l;
}
int64_t images_of(Extents e) { return 1 + e.m % 3; }

// The same from the shape of x: no two products images * height * width are equal.
Layer sized(Layer l, const Shape& x, int64_t filters) {
    const Extent2d least = l.in;
    l.channels = x.cols, l.filters = filters;
    for (int64_t images = 1; images <= 3; ++images)
        for (int64_t h = 0; h < 3; ++h)
            for (int64_t w = 0; w < 3; ++w) {
                l.in = {least.height + h, least.width + w};
                if (images * l.in.height * l.in.width == x.rows) return l;
            }
    throw std::logic_error("no extents have " + std::to_string(x.rows) + " pixels");
}
constexpr Extent2d map{5, 9};

OpCase conv_case(const std::string& name, Layer layer, bool with_bias) {
    // |x * w| <= 16 / 4 in the case that has a kink.
    const Input bias =
        layer.options.activation == Activation::relu ? Input{.low = -5, .high = 5, .away_from_zero = 4.2} : Input{};
    const auto inputs = [=](Extents e) {
        const Layer l = sized(layer, e);
        std::vector<Input> all{{.shape = l.x(images_of(e)), .low = -0.5, .high = 0.5},
                               {.shape = l.w(), .low = -0.5, .high = 0.5}};
        if (with_bias) all.push_back(bias), all.back().shape = {1, l.filters};
        return all;
    };
    const auto build = [=](Graph&, const std::vector<Tensor>& x) {
        const Layer l = sized(layer, x[0].shape(), x[1].shape().rows);
        const int64_t rows = x[0].shape().rows, pixels = l.in.height * l.in.width;
        const bool several = x[0].grid().rows() > 1 && rows > pixels;  // whole images wherever the case was cut
        const std::vector<int64_t> cuts = several ? std::vector{pixels, rows - pixels} : std::vector{rows};
        const Tensor from = retile(x[0], {cuts, x[0].grid().col_extents});
        const Maps maps{from, l.in.height, l.in.width};
        return std::vector{conv2d(maps, x[1], with_bias ? x[2] : Tensor{}, l.kernel, l.options).tensor};
    };
    const auto reference = [=](const Matrices& x) {
        const Layer l = sized(layer, x[0].shape(), x[1].rows);
        return Matrices{reference_y(l, x[0], x[1], with_bias ? &x[2] : nullptr)};
    };
    return {.name = name,
            .inputs = inputs,
            .build = build,
            .reference = reference,
            .tolerance_factor = 2,
            .reduction = [=](Extents e) { return sized(layer, e).w().cols + 27 * images_of(e); }};
}

const Declare same{conv_case("conv2d_3x3", {map, 3, 4, 4, {.padding = 1}}, true)};
const Declare strided{conv_case("conv2d_3x3_stride2", {map, 3, 4, 4, {.stride = 2, .padding = 1}}, false)};
const Declare uneven{
    conv_case("conv2d_uneven", {map, {3, 2}, 4, 4, {.stride = {1, 3}, .padding = {2, 1}, .dilation = {2, 3}}}, true)};
const Declare pointwise{conv_case("conv2d_1x1", {map, 1, 4, 4, {}}, true)};
const Declare pointwise_strided{conv_case("conv2d_1x1_stride2", {map, 1, 4, 4, {.stride = 2}}, false)};
const Declare wide{conv_case("conv2d_4x3", {map, {4, 3}, 4, 4, {.padding = {3, 2}}}, false)};  // corners see one pixel
const Declare grouped{conv_case("conv2d_groups", {map, 3, 8, 8, {.stride = 2, .padding = 1, .groups = 2}}, true)};
const Declare grouped_pointwise{conv_case("conv2d_1x1_groups", {map, 1, 9, 9, {.groups = 3}}, false)};
const Declare depthwise_case{conv_case("conv2d_depthwise", {map, 3, 5, 5, {.padding = 1, .groups = 5}}, true)};
const Declare depthwise_strided{
    conv_case("conv2d_depthwise_stride2",
              {map, {2, 3}, 5, 5, {.stride = {2, 1}, .padding = {0, 1}, .dilation = {2, 1}, .groups = 5}}, false)};
const Declare multiplied{conv_case("conv2d_depthwise_twice", {map, 3, 3, 6, {.padding = 1, .groups = 3}}, true)};
OpCase activated_case(const std::string& name, Activation a) {
    return conv_case("conv2d_" + name, {map, 2, 4, 4, {.stride = 2, .activation = a}}, true);
}
const Declare relu_case{activated_case("relu", Activation::relu)};
const Declare tanh_case{activated_case("tanh", Activation::tanh)};
const Declare sigmoid_case{activated_case("sigmoid", Activation::sigmoid)};
const Declare gelu_case{activated_case("gelu", Activation::gelu)};
const Declare silu_case{activated_case("silu", Activation::silu)};

// --- tiles without gaps, as the executor makes them: what oneDNN takes ---

Matrix drawn(Shape s, std::mt19937_64& random) {
    Matrix m(s.rows, s.cols);
    std::uniform_real_distribution<double> real(-1, 1);
    for (double& v : m.v) v = rounded(real(random), DType::f32);
    return m;
}

void check_all_passes(const Layer& l, int64_t images, const Grid& grid, int implementation) {
    std::mt19937_64 random = generator("conv2d passes");
    Graph g;
    const Tensor x = g.value("x", l.x(images), DType::f32, grid), w = g.value("w", l.w(), DType::f32);
    const Tensor b = g.value("b", {1, l.filters}, DType::f32);
    const Maps y = conv2d({x, l.in.height, l.in.width}, w, b, l.kernel, l.options);
    const Tensor dy = g.value("dy", y.tensor.shape(), DType::f32, y.tensor.grid());
    const auto dx = g.backward(y.tensor, dy, {x, w}, [](Tensor a, Tensor c) { return add(a, c); });
    for (Tensor t : {y.tensor, dx[0], dx[1]}) g.keep(t);
    const Matrix vx = drawn(x.shape(), random), vw = drawn(w.shape(), random), vb = drawn(b.shape(), random);
    const Matrix vdy = drawn(dy.shape(), random);
    Interpreter run(g, {.implementation = implementation, .padding = 0});
    run.write(x, vx), run.write(w, vw), run.write(b, vb), run.write(dy, vdy);
    run.run();
    Matrix dvx(vx.rows, vx.cols), dvw(vw.rows, vw.cols);
    for_products(l, images, [&](int64_t i, int64_t k, int64_t j, int64_t c, int64_t at) {
        dvx(j, c) += vdy(i, k) * vw(k, at), dvw(k, at) += vdy(i, k) * vx(j, c);
    });
    const double per_term = implementation == 2 ? 3e-6 : 4e-7;  // Winograd's transforms cancel
    EXPECT_EQ(difference(run.read(y.tensor), reference_y(l, vx, vw, &vb), per_term * double(vw.cols)), "");
    EXPECT_EQ(difference(run.read(dx[0]), dvx, per_term * double(l.filters * vw.cols / l.channels)), "");
    EXPECT_EQ(difference(run.read(dx[1]), dvw, per_term * double(vdy.rows)), "");
}

struct Passes {
    std::string name;
    Layer layer;
    std::vector<int64_t> channels = {};  // of x's column tiles
};
class Conv2dPasses : public testing::TestWithParam<Passes> {};
TEST_P(Conv2dPasses, EqualTheReference) {
    const Passes& p = GetParam();
    const int64_t images = 5, pixels = p.layer.in.height * p.layer.in.width;
    const auto columns = p.channels.empty() ? std::vector{p.layer.channels} : p.channels;
    for (int implementation : {0, 1, 2})
        for (const auto& cuts : {std::vector{images}, std::vector<int64_t>{2, 1, 2}}) {
            SCOPED_TRACE("implementation " + std::to_string(implementation) + ", " + std::to_string(cuts.size()) +
                         " row tiles");
            std::vector<int64_t> rows;
            for (int64_t n : cuts) rows.push_back(n * pixels);
            check_all_passes(p.layer, images, {rows, columns}, implementation);
        }
}
const Passes passes[] = {{"Plain", {{9, 8}, 3, 32, 48, {.padding = 1}}},
                         {"ThreeChannels", {{9, 8}, 3, 3, 16, {.padding = 1}}},
                         {"OddChannels", {{9, 8}, 3, 17, 19, {.padding = 1}}},
                         {"Strided", {{9, 8}, 3, 16, 32, {.stride = 2, .padding = 1}}},
                         {"LastPixelsUnseen", {{10, 11}, {3, 2}, 16, 16, {.stride = 3}}},
                         {"Dilated", {{9, 8}, {3, 2}, 16, 32, {.padding = {2, 1}, .dilation = {2, 3}}}},
                         {"MorePaddingThanWindow", {{9, 8}, 3, 16, 32, {.padding = {4, 3}}}},
                         {"Pointwise", {{7, 5}, 1, 48, 32, {}}},
                         {"PointwiseStrided", {{7, 5}, 1, 48, 32, {.stride = 2}}},
                         {"Groups", {{9, 8}, 3, 32, 64, {.padding = 1, .groups = 2}}},
                         {"OddGroups", {{9, 8}, 3, 9, 15, {.padding = 1, .groups = 3}}},
                         {"Depthwise", {{9, 8}, 3, 35, 35, {.padding = 1, .groups = 35}}},
                         {"DepthwiseStrided", {{9, 8}, 3, 32, 32, {.stride = 2, .padding = 1, .groups = 32}}},
                         {"Concatenation", {{9, 8}, 3, 61, 32, {.padding = 1}}, {16, 32, 13}},
                         {"PointwiseConcatenation", {{7, 5}, 1, 61, 32, {}}, {16, 32, 13}},
                         {"GroupsConcatenation", {{9, 8}, 3, 32, 32, {.padding = 1, .groups = 2}}, {10, 22}}};
INSTANTIATE_TEST_SUITE_P(Layers, Conv2dPasses, testing::ValuesIn(passes), [](const auto& p) { return p.param.name; });

ConvShape shape_of(const Layer& l) {
    return {l.in, l.out(), l.kernel, l.options.stride, l.options.padding, l.options.dilation, l.options.groups};
}

TEST(Conv2d, OneDnnHasKernelsForCommonLayers) {
    using namespace convolution;
    const Layer layers[] = {{16, 3, 64, 64, {.padding = 1}},
                            {8, 1, 64, 32, {}},
                            {32, 3, 3, 64, {.padding = 1}},
                            {16, 3, 64, 128, {.stride = 2, .padding = 1}},
                            {16, 3, 64, 64, {.padding = 1, .groups = 64}}};
    for (const Layer& l : layers)
        for (Pass pass : {Pass::forward, Pass::data, Pass::weights})
            EXPECT_TRUE(prepare(
                {pass, shape_of(l), 4, l.channels, l.filters, l.w().cols, l.channels / l.options.groups, false, false}))
                << "pass " << int(pass) << " of " << l.channels << " to " << l.filters;
}

// --- the device's formulas, which need no device ---

template <class P>
void run_on_host(const P& p) {
    for (int64_t g = 0; g < p.s.groups; ++g)
        for (int64_t i = 0; i < p.rows(); ++i)
            for (int64_t j = 0; j < p.cols(); ++j) {
                double sum = 0;
                for (int64_t l = 0; l < p.depth(); ++l) sum += p.a(g, i, l) * p.b(g, l, j);
                p.store(g, i, j, sum);
            }
}
In<double> in(const Matrix& m, int64_t col, int64_t cols) { return {m.v.data() + col, m.rows, cols, m.cols}; }
In<double> in(const Matrix& m) { return in(m, 0, m.cols); }

TEST_P(Conv2dPasses, DeviceFormulas) {
    const Layer& l = GetParam().layer;
    const ConvShape s = shape_of(l);
    const bool tiles = !GetParam().channels.empty() && s.groups == 1;
    const auto columns = tiles ? GetParam().channels : std::vector{l.channels};
    std::mt19937_64 random = generator("conv2d device");
    const int64_t images = 2;
    const Matrix x = drawn(l.x(images), random), w = drawn(l.w(), random), b = drawn({1, l.filters}, random);
    const Matrix dz = drawn(l.y(images), random);
    Matrix y(dz.rows, dz.cols, NAN), dx(x.rows, x.cols, NAN), dw(w.rows, w.cols, 1);  // added to
    int64_t channel = 0, before = 0;
    implicit::Tiles<double> tiles_of_x;
    for (int64_t cols : columns) {
        const bool last = channel + cols == l.channels;
        const Out<double> part{dx.v.data() + channel, dx.rows, cols, dx.cols};
        tiles_of_x.add(in(x, channel, cols));
        if (channel == 0 || last) {  // the first tile alone, then the others together
            run_on_host(implicit::Forward<double>{s,
                                                  tiles_of_x,
                                                  in(w),
                                                  {y.v.data(), y.rows, y.cols, y.cols},
                                                  before,
                                                  before > 0,
                                                  last,
                                                  b.v.data(),
                                                  Activation::tanh});
            before += std::exchange(tiles_of_x, {}).cols;
        }
        run_on_host(implicit::DataGradient<double>{s, in(dz), in(w), part, channel});
        run_on_host(implicit::WeightGradient<double>{
            s, in(x, channel, cols), in(dz), {dw.v.data(), dw.rows, dw.cols, dw.cols}, channel, true});
        channel += cols;
    }
    Layer with_tanh = l;
    with_tanh.options.activation = Activation::tanh;
    Matrix edx(x.rows, x.cols), edw(w.rows, w.cols, 1);
    for_products(l, images, [&](int64_t i, int64_t k, int64_t j, int64_t c, int64_t at) {
        edx(j, c) += dz(i, k) * w(k, at), edw(k, at) += dz(i, k) * x(j, c);
    });
    EXPECT_EQ(difference(y, reference_y(with_tanh, x, w, &b), 1e-12), "");
    EXPECT_EQ(difference(dx, edx, 1e-12), "");
    EXPECT_EQ(difference(dw, edw, 1e-12), "");
}

// --- tasks, workspaces, wrong use ---

TEST(Conv2d, AConcatenationIsNotCopied) {
    Graph g;
    const Tensor x = g.value("x", {2 * 36, 12}, DType::f32, {{36, 36}, {4, 5, 3}}),
                 w = g.value("w", {8, 9 * 12}, DType::f32);
    const Maps y = conv2d({x, 6, 6}, w, {}, 3, {.padding = 1});
    const Tensor dy = g.value("dy", y.tensor.shape(), DType::f32, y.tensor.grid());
    for (Tensor t : g.backward(y.tensor, dy, {x, w}, [](Tensor a, Tensor b) { return add(a, b); })) g.keep(t);
    g.keep(y.tensor);
    const Plan plan(g);
    const auto count = [&](const std::string& op) {
        return std::count_if(plan.tasks.begin(), plan.tasks.end(), [&](auto& t) { return t.codelet->op == op; });
    };
    EXPECT_EQ(count("conv2d"), 2);
    EXPECT_EQ(count("conv2d_backward_data"), 6);
    EXPECT_EQ(count("conv2d_backward_weights"), 2);
    EXPECT_EQ(plan.tasks.size(), 10u);
    EXPECT_DOUBLE_EQ(plan.flops(), 3 * 2.0 * 72 * 8 * 108);
    const auto edges = dependencies(plan, false);  // data and weight gradients wait for nothing of each other
    for (size_t i = 2; i < plan.tasks.size(); ++i)
        EXPECT_TRUE(plan.tasks[i].codelet->op != "conv2d_backward_data" || edges[i].empty());
}

TEST(Conv2d, KeysTellExtentsApart) {
    std::set<uint32_t> keys;
    for (int64_t kernel : {1, 3, 5})
        for (int64_t stride : {1, 2})
            for (int64_t dilation : {1, 2})
                for (int64_t groups : {1, 2}) {
                    Graph g;
                    const Tensor x = g.value("x", {144, 4}, DType::f32);
                    const Tensor w = g.value("w", {4, kernel * kernel * 4 / groups}, DType::f32);
                    g.keep(conv2d({x, 12, 12}, w, {}, kernel,
                                  {.stride = stride, .padding = 4, .dilation = dilation, .groups = groups})
                               .tensor);
                    keys.insert(Plan(g).tasks[0].footprint);
                }
    EXPECT_EQ(keys.size(), 24u);
}

struct SmallWorkspace {
    explicit SmallWorkspace(int64_t bytes) { set_workspace_limit(bytes); }
    ~SmallWorkspace() { set_workspace_limit(before); }
    const int64_t before = workspace_limit();
};
TEST(Conv2d, SmallWorkspacesMakeSmallBlocks) {
    const Layer l{{9, 8}, 3, 32, 48, {.padding = 1}};
    for (int64_t bytes : {1 << 16, 12 << 10, 5 << 10}) {
        const SmallWorkspace limit(bytes);
        for (int implementation : {0, 1, 2}) check_all_passes(l, 3, Grid::whole(l.x(3)), implementation);
    }
}
TEST(Conv2d, AWorkspaceForNoAlgorithmIsAnError) {
    const SmallWorkspace limit(1 << 10);
    const Layer l{{9, 8}, 3, 32, 48, {.padding = 1}};
    try {
        check_all_passes(l, 3, Grid::whole(l.x(3)), 0);
        FAIL() << "nothing was thrown";
    } catch (const std::exception& e) {
        const std::string what = e.what();
        for (const char* part : {"conv2d", "TESSERA_WORKSPACE", "1024", "[216 x 32]", "[48 x 288]"})
            EXPECT_NE(what.find(part), std::string::npos) << part << " is not in: " << what;
    }
}

// relu must not hide what went wrong before it.
TEST(Conv2d, NanStaysNan) {
    for (int implementation : {0, 1, 2}) {
        Graph g;
        const Tensor x = g.value("x", {64, 16}, DType::f32), w = g.value("w", {16, 144}, DType::f32);
        const Maps y = conv2d({x, 8, 8}, w, {}, 3, {.padding = 1, .activation = Activation::relu});
        g.keep(y.tensor);
        Interpreter run(g, {.implementation = implementation, .padding = 0});
        run.write(x, Matrix(64, 16, NAN)), run.write(w, Matrix(16, 144, 1));
        run.run();
        for (double v : run.read(y.tensor).v) ASSERT_TRUE(std::isnan(v)) << "implementation " << implementation;
    }
}

TEST(Conv2d, WindowOutputs) {
    EXPECT_EQ(window_outputs(32, 3, 1, 1), 32);
    EXPECT_EQ(window_outputs(224, 7, 2, 3), 112);
    EXPECT_EQ(window_outputs(7, 3, 1, 0, 2), 3);
    EXPECT_EQ(window_outputs(2, 3, 1, 0), 0);
    EXPECT_EQ(window_outputs(2, 3, 2, 0), 0);
    EXPECT_EQ(window_outputs(3, 3, 2, 0), 1);
    EXPECT_EQ(window_outputs(112, 3, 2, 0), 55);
    EXPECT_EQ(window_outputs(112, 3, 2, 0, 1, true), 56);
    EXPECT_EQ(window_outputs(2, 3, 2, 0, 1, true), 1);
    EXPECT_EQ(window_outputs(3, 2, 3, 1, 1, true), 2);
    EXPECT_EQ(window_outputs(2, 1, 2, 1, 1, true), 2);  // a third window would start in the right padding
}

void refused(const std::string& parts, const std::function<Maps(Tensor x, Tensor w, Tensor b)>& build, Shape w_shape,
             Shape b_shape = {1, 6}) {
    Graph g;
    const Tensor x = g.value("x", {2 * 20, 4}, DType::f32), w = g.value("w", w_shape, DType::f32);
    const Tensor b = g.value("b", b_shape, DType::f32);
    try {
        build(x, w, b);
        ADD_FAILURE() << "not refused: " << parts;
    } catch (const std::invalid_argument& e) {
        const std::string what = e.what();
        EXPECT_NE(what.find(parts), std::string::npos) << what;
        EXPECT_NE(what.find("conv2d"), std::string::npos) << what;
        EXPECT_NE(what.find("[40 x 4]"), std::string::npos) << what;
    }
}
TEST(Conv2d, WrongUseIsRefused) {
    const auto with = [](Extent2d kernel, Conv2dOptions o) {
        return [=](Tensor x, Tensor w, Tensor b) { return conv2d({x, 4, 5}, w, b, kernel, o); };
    };
    refused("4 x 5 pixels shrink to nothing", with(5, {}), {6, 100});
    refused("shrink to nothing", with(3, {.dilation = {1, 3}}), {6, 36});
    refused("stride must be at least 1, not 0 x 1", with(3, {.stride = {0, 1}}), {6, 36});
    refused("dilation must be at least 1, not 1 x -1", with(3, {.dilation = {1, -1}}), {6, 36});
    refused("padding must be at least 0, not -1 x -1", with(3, {.padding = -1}), {6, 36});
    refused("kernel must be at least 1", with(0, {}), {6, 36});
    refused("groups, not into 3", with(3, {.padding = 1, .groups = 3}), {6, 12});
    refused("groups, not into 4", with(3, {.padding = 1, .groups = 4}), {6, 9});
    refused("groups, not into 0", with(3, {.padding = 1, .groups = 0}), {6, 36});
    refused("w must have 36 columns", with(3, {.padding = 1}), {6, 35});
    refused("w must have 18 columns", with(3, {.padding = 1, .groups = 2}), {6, 36});
    refused("b must be [1 x 6]", with(3, {.padding = 1}), {6, 36}, {1, 4});
    refused("whole images of 4 x 7", [](Tensor x, Tensor w, Tensor b) { return conv2d({x, 4, 7}, w, b, 3); }, {6, 36});
    refused("needs one type",
            [](Tensor x, Tensor w, Tensor b) {
                return conv2d({x, 4, 5}, w.graph->value("w64", w.shape(), DType::f64), b, 3, {.padding = 1});
            },
            {6, 36});
}

}  // namespace
}  // namespace tessera::test
