// gemm: all transposes, alpha, beta and C; linear with every activation.
#include <gtest/gtest.h>

#include "plain.h"

namespace tessera::test {
namespace {

int64_t inner(Extents e) { return e.k; }

OpCase gemm_case(const std::string& name, GemmOptions o, bool with_c) {
    return {
        .name = name,
        .inputs =
            [=](Extents e) {
                std::vector<Input> all{{.shape = o.ta ? Shape{e.k, e.m} : Shape{e.m, e.k}},
                                       {.shape = o.tb ? Shape{e.n, e.k} : Shape{e.k, e.n}}};
                if (with_c) all.push_back({.shape = {e.m, e.n}});
                return all;
            },
        .build = [=](Graph&,
                     const auto& x) { return std::vector{with_c ? gemm(x[0], x[1], x[2], o) : gemm(x[0], x[1], o)}; },
        .reference =
            [=](const Matrices& x) {
                Matrix y = product(o.ta ? transposed(x[0]) : x[0], o.tb ? transposed(x[1]) : x[1]);
                for (size_t i = 0; i < y.v.size(); ++i) y.v[i] = o.alpha * y.v[i] + (with_c ? o.beta * x[2].v[i] : 0);
                return Matrices{y};
            },
        .reduction = inner,
        .scale = 1};
}
const Declare plain{gemm_case("gemm", {}, false)};
const Declare ta{gemm_case("gemm_ta", {.ta = true}, false)};
const Declare tb{gemm_case("gemm_tb", {.tb = true}, false)};
const Declare ta_tb{gemm_case("gemm_ta_tb", {.ta = true, .tb = true}, false)};
const Declare alpha{gemm_case("gemm_alpha", {.alpha = -1.5, .ta = true}, false)};
const Declare alpha_zero{gemm_case("gemm_alpha_zero", {.alpha = 0, .beta = 2}, true)};
const Declare beta_one{gemm_case("gemm_beta_one", {.beta = 1}, true)};
const Declare beta_zero{gemm_case("gemm_beta_zero", {.beta = 0, .tb = true}, true)};
const Declare beta_minus{gemm_case("gemm_beta_minus", {.beta = -1, .ta = true}, true)};
const Declare beta_half{gemm_case("gemm_beta_half", {.alpha = 2, .beta = 0.5, .ta = true, .tb = true}, true)};
const Declare tf32{[] {
    OpCase c = gemm_case("gemm_tf32", {.tf32 = true}, false);
    c.types = {DType::f32};
    c.tolerance_factor = 0x1p13;  // 10 bits of mantissa
    return c;
}()};

OpCase linear_case(const std::string& name, Activation a) {
    const auto preactivation = [](const Matrices& x) {
        Matrix z = product(x[0], transposed(x[1]));
        for (int64_t i = 0; i < z.rows; ++i)
            for (int64_t j = 0; j < z.cols; ++j) z(i, j) += x[2](0, j);
        return z;
    };
    OpCase c{.name = name,
             .inputs =
                 [](Extents e) {
                     return std::vector<Input>{{.shape = {e.m, e.k}}, {.shape = {e.n, e.k}}, {.shape = {1, e.n}}};
                 },
             .build = [a](Graph&, const auto& x) { return std::vector{linear(x[0], x[1], x[2], a)}; },
             .reference =
                 [=](const Matrices& x) {
                     return Matrices{map(preactivation(x), [a](double z) { return activated(a, z); })};
                 },
             .tolerance_factor = 2,  // the sum's error and the activation's
             .reduction = [](Extents e) { return e.k + e.m; },
             .scale = 1};
    if (a == Activation::relu)
        c.suitable = [=](const Matrices& x) {
            const Matrix z = preactivation(x);
            return std::all_of(z.v.begin(), z.v.end(), [](double v) { return std::abs(v) > 0.04; });
        };
    return c;
}
const Declare linear_none{linear_case("linear", Activation::none)};
const Declare linear_relu{linear_case("linear_relu", Activation::relu)};
const Declare linear_gelu{linear_case("linear_gelu", Activation::gelu)};
const Declare linear_tanh{linear_case("linear_tanh", Activation::tanh)};
const Declare linear_sigmoid{linear_case("linear_sigmoid", Activation::sigmoid)};
const Declare linear_silu{linear_case("linear_silu", Activation::silu)};

// beta = 0 means that C is not looked at, as in BLAS.
TEST(Gemm, BetaZeroIgnoresNan) {
    Graph g(2, 2);
    Tensor a = g.value("a", {3, 5}, DType::f32), b = g.value("b", {5, 4}, DType::f32),
           c = g.value("c", {3, 4}, DType::f32);
    Tensor y = gemm(a, b, c, {.beta = 0});
    g.keep(y);
    Interpreter run(g);
    run.write(a, Matrix(3, 5, 1)), run.write(b, Matrix(5, 4, 2)), run.write(c, Matrix(3, 4, NAN));
    run.run();
    EXPECT_EQ(difference(run.read(y), Matrix(3, 4, 10), 0), "");
}

}  // namespace
}  // namespace tessera::test
