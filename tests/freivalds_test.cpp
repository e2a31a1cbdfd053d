// tests/freivalds_test.cpp - the checks of a product accept what rounding explains, find one wrong element, and follow
// BLAS on NaN, Inf, alpha = 0 and beta = 0; matrices in memory and in files, all transposes.
#include "data/freivalds.h"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/random.h"
#include "core/threads.h"
#include "tests/child.h"

namespace tessera {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
constexpr int rounds = 8;

// rows x cols with gaps between the rows.
template <class T>
struct Matrix {
    Matrix(int64_t rows_, int64_t cols_, uint64_t stream = 0, double scale = 1)
        : rows(rows_), cols(cols_), ld(cols_ + 3), values(size_t(rows_ * ld), T(float(nan))) {
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < cols; ++j)
                (*this)(i, j) = T(scale * (2 * random_uniform(5, stream, uint64_t(i * cols + j)) - 1));
    }
    T& operator()(int64_t i, int64_t j) { return values[size_t(i * ld + j)]; }
    T operator()(int64_t i, int64_t j) const { return values[size_t(i * ld + j)]; }
    RowMatrix view() const { return {rows, cols, rows_of(values.data(), ld, cols, dtype_of<T>)}; }
    int64_t rows, cols, ld;
    std::vector<T> values;
};

// C as a plain loop over k computes it in the type that arithmetic on T is done in.
template <class T>
struct Case {
    Case(int64_t m, int64_t n, int64_t k, bool ta_ = false, bool tb_ = false, double alpha_ = 1, double beta_ = 0)
        : ta(ta_),
          tb(tb_),
          alpha(alpha_),
          beta(beta_),
          a(ta_ ? k : m, ta_ ? m : k, 1),
          b(tb_ ? n : k, tb_ ? k : n, 2),
          c0(m, n, 3),
          c(m, n),
          inner(k) {
        compute();
    }
    void compute() {
        using S = Compute<T>;
        for (int64_t i = 0; i < c.rows; ++i)
            for (int64_t j = 0; j < c.cols; ++j) {
                S sum = 0;
                for (int64_t l = 0; l < inner; ++l) sum += S(ta ? a(l, i) : a(i, l)) * S(tb ? b(j, l) : b(l, j));
                c(i, j) = T((alpha == 0 ? S(0) : S(alpha) * sum) + (beta == 0 ? S(0) : S(beta) * S(c0(i, j))));
            }
    }
    CheckedProduct product() const {
        return {alpha, a.view(), ta, b.view(), tb, beta, c0.view(), c.view(), dtype_of<T>};
    }
    bool ta, tb;
    double alpha, beta;
    Matrix<T> a, b, c0, c;
    int64_t inner;
};

std::string text(const ProductCheck& check) {
    return "row " + std::to_string(check.row) + ": error " + std::to_string(check.worst) + ", allowed " +
           std::to_string(check.tolerance);
}

// Both checks say `right`; a wrong row is named.
void expect_checks(const CheckedProduct& p, bool right, int64_t row = -1) {
    for (const ProductCheck& check : {freivalds(p, rounds, 11), exact_product(p)}) {
        EXPECT_EQ(check.ok(), right) << text(check);
        EXPECT_TRUE(right || check.row == row) << text(check);
    }
}

template <class T>
void all_cases() {
    for (const bool ta : {false, true})
        for (const bool tb : {false, true})
            for (const double alpha : {0.0, 1.0, -1.0, 0.5})
                for (const double beta : {0.0, 1.0, -1.0, 0.5}) {
                    SCOPED_TRACE(testing::Message()
                                 << "ta " << ta << " tb " << tb << " alpha " << alpha << " beta " << beta);
                    Case<T> x(33, 65, 47, ta, tb, alpha, beta);
                    expect_checks(x.product(), true);
                    x.c(17, 64) = T(float(x.c(17, 64)) + 1.5f);
                    expect_checks(x.product(), false, 17);
                }
}

TEST(ProductCheck, EveryTransposeAlphaAndBeta) {
    all_cases<float>();
    all_cases<double>();
    all_cases<bf16>();
}

TEST(ProductCheck, Sizes) {
    for (const int64_t m : {0, 1, 2, 7, 65})
        for (const int64_t n : {0, 1, 3, 64, 1030})
            for (const int64_t k : {0, 1, 2, 65})
                for (const int transposes : {0, 1, 2, 3}) {
                    SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k << " transposes " << transposes);
                    expect_checks(Case<float>(m, n, k, transposes & 1, transposes & 2, 1, 0.5).product(), true);
                    expect_checks(Case<double>(m, n, k, transposes & 1, transposes & 2, -1, 0).product(), true);
                }
}

TEST(ProductCheck, OneWrongElementOf300x200) {
    for (const int transposes : {0, 1, 2, 3}) {
        Case<float> x(300, 200, 100, transposes & 1, transposes & 2, 0.5, -1);
        expect_checks(x.product(), true);
        for (const auto& [i, j] : {std::pair<int64_t, int64_t>{0, 0}, {299, 199}, {123, 77}}) {
            const float was = x.c(i, j);
            x.c(i, j) = was + 0.02f;
            for (uint64_t seed = 0; seed < 20; ++seed) {  // alone in its row, found by one vector of any seed
                const ProductCheck check = freivalds(x.product(), 1, seed);
                EXPECT_FALSE(check.ok()) << text(check);
                EXPECT_EQ(check.row, i);
                EXPECT_NEAR(check.worst, 0.02, 0.005);
            }
            expect_checks(x.product(), false, i);
            x.c(i, j) = was;
        }
    }
}

// Rows of thousands of elements: what rounding may add up to in a row hides much, and what is off in an element must
// not.
TEST(ProductCheck, OneWrongElementInALongRow) {
    const auto found = [](auto type, int64_t n, int64_t k, int transposes, std::initializer_list<double> errors) {
        using T = decltype(type);
        Case<T> x(7, n, k, transposes & 1, transposes & 2, 0.5, transposes == 3 ? -1 : 0);
        const ProductCheck good = freivalds(x.product(), rounds, 11);
        EXPECT_TRUE(good.ok()) << text(good);
        for (const double error : errors) {
            SCOPED_TRACE(testing::Message()
                         << n << ", k " << k << ", transposes " << transposes << ", error " << error);
            const T was = x.c(5, n / 3);
            x.c(5, n / 3) = T(Compute<T>(double(Compute<T>(was)) + error));
            const ProductCheck check = freivalds(x.product(), rounds, 11);
            EXPECT_FALSE(check.ok()) << text(check);
            EXPECT_EQ(check.row, 5);
            EXPECT_EQ(check.col, n / 3);
            x.c(5, n / 3) = was;
        }
    };
    for (const int transposes : {0, 1, 2, 3}) {
        found(float(), 3000, 3000, transposes, {1, -0.1, 0.02});
        found(float(), 5000, 100, transposes, {1, 1e-3});
        found(double(), 3000, 1000, transposes, {1, 1e-6, 1e-10});
        found(bf16(0.f), 2000, 500, transposes, {20, 5});
    }
}

// Terms of one sign, then of the other: sums on the way are large, and what they round is legitimate.
TEST(ProductCheck, LargeSumsOnTheWayToSmallElements) {
    Case<float> x(3, 200, 4000);
    std::fill(x.a.values.begin(), x.a.values.end(), 0.1f);
    for (int64_t l = 0; l < 4000; ++l)
        for (int64_t j = 0; j < 200; ++j) x.b(l, j) = (l < 2000 ? 0.7f : -0.7f);
    x.compute();
    expect_checks(x.product(), true);
}

// Two errors that cancel for half of the vectors: each round misses them with probability 1/2.
TEST(ProductCheck, RoundsMultiplyTheChances) {
    Case<double> x(20, 30, 10);
    x.c(4, 3) += 1, x.c(4, 20) -= 1;
    int missed = 0;
    for (uint64_t seed = 0; seed < 400; ++seed) missed += freivalds(x.product(), 1, seed).ok();
    EXPECT_GT(missed, 150);
    EXPECT_LT(missed, 250);
    for (uint64_t seed = 0; seed < 400; ++seed) EXPECT_FALSE(freivalds(x.product(), 30, seed).ok());
}

TEST(ProductCheck, EachRowHasItsOwnScale) {
    Case<float> x(40, 50, 60);
    for (int64_t l = 0; l < 60; ++l) x.a(7, l) *= 1e-12f, x.a(8, l) *= 1e12f;
    x.compute();
    expect_checks(x.product(), true);
    x.c(7, 9) += 1e-13f;
    expect_checks(x.product(), false, 7);
}

// Summed in f32 one by one, a sum of equal terms errs in one direction for long stretches: the worst of ordinary data.
TEST(ProductCheck, EqualTerms) {
    for (const float value : {0.1f, 0.7f, 1.3f}) {
        Case<float> x(3, 50, 1000);
        for (auto* matrix : {&x.a, &x.b}) std::fill(matrix->values.begin(), matrix->values.end(), value);
        x.compute();
        expect_checks(x.product(), true);
    }
}

TEST(ProductCheck, ResultsStoredInBf16AfterEveryTile) {
    constexpr int64_t tile = 4, tiles = 400;
    Case<bf16> x(30, 40, tile * tiles);
    for (int64_t i = 0; i < 30; ++i)
        for (int64_t j = 0; j < 40; ++j) {
            x.c(i, j) = bf16(0.f);
            for (int64_t t = 0; t < tiles; ++t) {
                float sum = x.c(i, j);
                for (int64_t l = t * tile; l < (t + 1) * tile; ++l) sum += float(x.a(i, l)) * float(x.b(l, j));
                x.c(i, j) = bf16(sum);
            }
        }
    CheckedProduct p = x.product();
    p.times_stored = tiles;
    expect_checks(p, true);
    p.times_stored = 1;
    EXPECT_FALSE(exact_product(p).ok());
}

TEST(ProductCheck, Tf32FactorsAreLessExact) {
    Case<float> x(30, 40, 200);
    const Matrix<float> a = x.a, b = x.b;
    const auto rounded = [](float v) { return float(bf16(v)) + float(int((v - float(bf16(v))) * 8192)) / 8192; };
    for (auto* matrix : {&x.a, &x.b})
        for (float& v : matrix->values) v = rounded(v);
    x.compute();
    x.a = a, x.b = b;
    CheckedProduct p = x.product();
    EXPECT_FALSE(exact_product(p).ok());
    p.tf32 = true;
    expect_checks(p, true);
}

TEST(ProductCheck, NotFinite) {
    for (const int transposes : {0, 1, 2, 3})
        for (const double bad : {nan, inf, -inf}) {
            Case<double> x(6, 5, 4, transposes & 1, transposes & 2, 1, 1);
            const Case<double> good = x;
            (x.ta ? x.a(2, 3) : x.a(3, 2)) = bad;
            expect_checks(x.product(), false, 3);  // C is finite and should not be
            x.compute();
            expect_checks(x.product(), true);
            x.c(2, 1) += 1;
            expect_checks(x.product(), false, 2);  // other rows are still judged

            x = good;
            (x.tb ? x.b(1, 2) : x.b(2, 1)) = bad;  // in every row
            expect_checks(x.product(), false, 0);
            x.compute();
            expect_checks(x.product(), true);

            x = good;
            x.c0(5, 0) = bad;
            expect_checks(x.product(), false, 5);
            x.compute();
            expect_checks(x.product(), true);

            x = good;
            x.c(1, 1) = bad;
            expect_checks(x.product(), false, 1);
        }
}

TEST(ProductCheck, ZeroFactorsHideWhatTheyMultiply) {
    Case<float> x(6, 5, 4, false, false, 0, 0.5);
    x.a(1, 1) = float(nan), x.b(2, 2) = float(inf);
    expect_checks(x.product(), true);
    Case<float> y(6, 5, 4);
    y.c0(3, 3) = float(nan);
    CheckedProduct p = y.product();
    expect_checks(p, true);
    p.c0 = {};  // nor need it be there
    expect_checks(p, true);
}

TEST(ProductCheck, ExtremeValues) {
    for (const double scale : {1e-200, 1e-160, 1e150}) {  // squares over- or underflow, products need not
        Case<double> x(20, 30, 10);
        for (double& v : x.a.values) v *= scale;
        for (double& v : x.b.values) v /= 1e3;
        for (const bool ta : {false, true}) {
            Case<double> y(20, 30, 10, ta);
            for (int64_t i = 0; i < 20; ++i)
                for (int64_t l = 0; l < 10; ++l) (ta ? y.a(l, i) : y.a(i, l)) = x.a(i, l);
            y.b = x.b;
            y.compute();
            expect_checks(y.product(), true);
            y.c(6, 6) *= 1.001;
            expect_checks(y.product(), false, 6);
        }
    }
    Case<float> big(4, 4, 4);  // f32 overflows where the reference in double does not
    for (float& v : big.a.values) v *= 1e30f;
    for (float& v : big.b.values) v *= 1e30f;
    big.compute();
    ASSERT_FALSE(std::isfinite(big.c(0, 0)));
    expect_checks(big.product(), true);
    Case<float> small(4, 4, 4);  // and underflows
    for (float& v : small.a.values) v *= 1e-30f;
    for (float& v : small.b.values) v *= 1e-30f;
    small.compute();
    ASSERT_EQ(small.c(0, 0), 0);
    expect_checks(small.product(), true);
}

TEST(ProductCheck, MatricesInFiles) {
    const testing_tools::TemporaryFolder folder("freivalds");
    const auto file = [&](const std::string& name, const auto& matrix) {
        const std::filesystem::path path = folder.path / name;
        MatrixWriter writer(path, dtype_of<std::decay_t<decltype(matrix.values[0])>>, matrix.rows, matrix.cols);
        writer.write(0, 0, matrix.rows, matrix.cols, matrix.values.data(), matrix.ld);
        writer.finish();
        return path;
    };
    const auto of = [](const MatrixReader& r) { return RowMatrix{r.rows(), r.cols(), rows_of(r)}; };
    const auto check = [&](auto x) {
        const MatrixReader a(file("a.npy", x.a)), b(file("b.npy", x.b)), c0(file("c0.npy", x.c0));
        for (const bool right : {true, false}) {
            if (!right) x.c(x.c.rows - 1, x.c.cols - 1) += 1;
            const MatrixReader c(file("c.npy", x.c));
            expect_checks({x.alpha, of(a), x.ta, of(b), x.tb, x.beta, of(c0), of(c), c.dtype()}, right, x.c.rows - 1);
        }
    };
    for (const int transposes : {0, 1, 2, 3}) {
        check(Case<float>(130, 70, 90, transposes & 1, transposes & 2, 0.5, 1));
        check(Case<double>(130, 70, 90, transposes & 1, transposes & 2, -1, 0.5));
    }
    check(Case<float>(2, 20000, 3));  // rows longer than the pieces they are read in
}

TEST(ProductCheck, Misuse) {
    const Case<float> x(3, 4, 5);
    CheckedProduct p = x.product();
    p.ta = true;
    EXPECT_THROW(freivalds(p, 1, 0), std::invalid_argument);
    EXPECT_THROW(exact_product(p), std::invalid_argument);
    p = x.product(), p.beta = 1, p.c0 = {};
    EXPECT_THROW(freivalds(p, 1, 0), std::invalid_argument);
    p = x.product(), p.dtype = DType::i32;
    EXPECT_THROW(exact_product(p), std::invalid_argument);
    EXPECT_THROW(freivalds(x.product(), 0, 0), std::invalid_argument);
    EXPECT_THROW(rows_of(x.a.values.data(), 4, 5, DType::f32), std::invalid_argument);
    EXPECT_THROW(rows_of(x.a.values.data(), 5, 5, DType::u8), std::invalid_argument);
}

// A barrier would wait for ever for one that failed.
TEST(Threads, TheFirstExceptionSurfacesAndNobodyWaitsForItsThread) {
    std::barrier together(4);
    std::atomic<int> ended = 0, failed = 0;
    const auto body = [&](int64_t i) {
        if (i % 2 == 1) throw Error("thread " + std::to_string(i));
        together.arrive_and_wait();
        ++ended;
    };
    const auto drop = [&](int64_t) { ++failed, together.arrive_and_drop(); };
    try {
        in_threads(4, body, drop);
        FAIL() << "no error";
    } catch (const Error& e) { EXPECT_STREQ(e.what(), "thread 1"); }
    EXPECT_EQ(ended, 2);
    EXPECT_EQ(failed, 2);
}

TEST(ProductCheck, AnErrorOfTheSourceSurfaces) {
    const Case<float> x(3000, 400, 5);
    CheckedProduct p = x.product();
    std::atomic<int> calls = 0;
    p.c.read = [&](int64_t, int64_t, double*) {
        ++calls;
        throw Error("cannot read 'c.npy'");
    };
    EXPECT_THROW(freivalds(p, 1, 0), Error);
    EXPECT_GT(calls, 0);
}

}  // namespace
}  // namespace tessera
