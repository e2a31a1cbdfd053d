// product_test.cpp - C := alpha op(A) op(B) + beta C in the caller's memory, run by CPU workers, against plain loops in
// double: the shapes of the reference BLAS's tests, rows longer than their elements, NaN and infinity, wrong use,
// several products at once, every policy. Inputs are new in every run; --gtest_random_seed=N gives those of a run.
#include "graphs/product.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "core/random.h"
#include "tests/child.h"
#include "tests/tiny_training.h"

namespace tessera {
namespace {

using namespace testing_tools;

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

uint64_t seed_of_run() {
    static const uint64_t seed = [] {
        const int wanted = GTEST_FLAG_GET(random_seed);
        const uint64_t s = wanted > 0 ? uint64_t(wanted) : 1 + std::random_device{}() % 99999;
        std::printf("inputs of --gtest_random_seed=%d\n", int(s));
        return s;
    }();
    return seed;
}

struct Draw {
    uint64_t seed, next = 0;
    int64_t whole(int64_t low, int64_t high) {
        return low + int64_t(random_bits(seed, 31, next++) % uint64_t(high - low + 1));
    }
    double real() { return 2 * double(random_uniform(seed, 32, next++)) - 1; }
    template <class X>
    X one_of(std::initializer_list<X> all) {
        return all.begin()[whole(0, int64_t(all.size()) - 1)];
    }
};

// A matrix with more memory than elements; what is none of them, and every element at first, is a NaN of all bits set.
template <class T>
struct Stored {
    int64_t rows, cols, ld;
    std::vector<T> memory;
    Stored(int64_t rows, int64_t cols, int64_t padding)
        : rows(rows), cols(cols), ld(std::max<int64_t>(1, cols + padding)), memory(size_t(rows * ld + 2 * guard)) {
        std::memset(static_cast<void*>(memory.data()), 0xff, memory.size() * sizeof(T));
    }
    static constexpr int64_t guard = 9;
    T& operator()(int64_t i, int64_t j) { return memory[size_t(guard + i * ld + j)]; }
    double at(int64_t i, int64_t j) const { return double(memory[size_t(guard + i * ld + j)]); }
    Matrix view() { return {memory.data() + guard, rows, cols, ld, dtype_of<T>}; }
    void fill(Draw& draw) {
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < cols; ++j) (*this)(i, j) = T(Compute<T>(draw.real()));
    }
    // Only elements differ.
    bool same_around(const Stored& before) const {
        Stored now = *this;
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < cols; ++j) now(i, j) = before.memory[size_t(guard + i * ld + j)];
        return now.same(before);
    }
    bool same(const Stored& other) const {
        return std::memcmp(memory.data(), other.memory.data(), memory.size() * sizeof(T)) == 0;
    }
};

template <class T>
struct Case {
    GemmOptions gemm;
    int64_t m, n, k, tile;
    Stored<T> a, b, c;
    ProductOptions options;

    Case(Draw& draw, GemmOptions o, int64_t m, int64_t n, int64_t k, int64_t tile)
        : gemm(o),
          m(m),
          n(n),
          k(k),
          tile(tile),
          a(o.ta ? k : m, o.ta ? m : k, draw.one_of<int64_t>({0, 1, 5})),
          b(o.tb ? n : k, o.tb ? k : n, draw.one_of<int64_t>({0, 1, 5})),
          c(m, n, draw.one_of<int64_t>({0, 1, 5})) {
        if (o.alpha != 0) a.fill(draw), b.fill(draw);  // not read otherwise: they stay NaN
        if (o.beta != 0) c.fill(draw);
        options.gemm = o, options.tile = tile;
        const int64_t bytes = tile * tile * int64_t(sizeof(T));
        if (draw.whole(0, 1)) options.devices = {{0, 2, draw.whole(1, 40) * bytes, 0}, {0, 1, 0, 1e9}};
        options.blocked = draw.whole(0, 3) > 0;
    }
    Product product(const Runtime& runtime) { return {runtime, a.view(), b.view(), c.view(), options}; }
    std::string text() const {
        const auto ld = [](const Stored<T>& x) { return " " + std::to_string(x.ld); };
        char scalars[80];
        std::snprintf(scalars, sizeof scalars, "alpha %g, beta %g, ", gemm.alpha, gemm.beta);
        return std::string(name_of(dtype_of<T>)) + (gemm.ta ? " ta" : "") + (gemm.tb ? " tb" : "") + ", " + scalars +
               std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) + ", tile " +
               std::to_string(tile) + ", ld" + ld(a) + ld(b) + ld(c) + (options.blocked ? ", blocked" : "");
    }
};

std::string kind_of(double x) {
    return std::isnan(x) ? "NaN" : x == infinity ? "+Inf" : x == -infinity ? "-Inf" : "finite";
}

// Largest error of what a product left in `c`, whose old values are `before`, in units of what is allowed; all that is
// no element of C is as it was.
template <class T>
double check_result(const Case<T>& now, const Case<T>& before) {
    const GemmOptions& o = now.gemm;
    EXPECT_TRUE(now.a.same(before.a) && now.b.same(before.b)) << "A or B changed: " << now.text();
    EXPECT_TRUE(now.c.same_around(before.c)) << "wrote outside of C: " << now.text();
    // Sums within a tile are in the type of arithmetic; one rounding to the stored type per tile of k.
    const double tiles = std::ceil(double(now.k) / double(now.tile)), length = std::sqrt(double(now.k)) + 1,
                 arithmetic = facts(dtype_of<Compute<T>>).epsilon, stored = facts(dtype_of<T>).epsilon,
                 allowed = 4 * (arithmetic * length + stored * (1 + length * std::sqrt(tiles) / 4));
    double worst = 0;
    for (int64_t i = 0; i < now.m; ++i)
        for (int64_t j = 0; j < now.n; ++j) {
            double sum = 0;
            for (int64_t l = 0; l < now.k && o.alpha != 0; ++l)
                sum += (o.ta ? before.a.at(l, i) : before.a.at(i, l)) * (o.tb ? before.b.at(j, l) : before.b.at(l, j));
            const double expected = (o.alpha == 0 ? 0 : o.alpha * sum) + (o.beta == 0 ? 0 : o.beta * before.c.at(i, j));
            const double got = now.c.at(i, j), tolerance = allowed + stored * std::abs(expected),
                         error = std::abs(got - expected) / tolerance;
            if (!std::isfinite(expected)) {
                EXPECT_EQ(kind_of(got), kind_of(expected)) << "(" << i << "," << j << ") of " << now.text();
            } else if (!(error <= 1)) {
                ADD_FAILURE() << "(" << i << "," << j << ") is " << got << ", not " << expected << ", allowed "
                              << tolerance << ": " << now.text();
                return infinity;
            }
            if (std::isfinite(expected)) worst = std::max(worst, error);
        }
    return worst;
}

template <class T>
double run(const Runtime& runtime, Case<T> c) {
    const Case<T> before = c;
    gemm(runtime, c.a.view(), c.b.view(), c.c.view(), c.options);
    return check_result(c, before);
}

template <class T>
Case<T> random_case(Draw& draw, GemmOptions o) {
    const int64_t tile = draw.one_of<int64_t>({1, 7, 64});
    const auto extent = [&] {
        return tile == 1 ? draw.one_of<int64_t>({0, 1, 2, 3, 7}) : draw.one_of<int64_t>({0, 1, 2, 3, 7, 64, 65, 130});
    };
    const int64_t m = extent(), n = extent(), k = extent();
    return {draw, o, m, n, k, tile};
}

constexpr double scalars[] = {0, 1, -1, 0.7};

// --- results -----------------------------------------------------------------------------------------------------

template <class T>
class Products : public testing::Test {};
using Types = testing::Types<float, double, bf16>;
TYPED_TEST_SUITE(Products, Types);

TYPED_TEST(Products, AgreeWithPlainLoops) {
    const Runtime runtime(with_workers(2));
    Draw draw{seed_of_run()};
    double worst = 0;
    for (int repeat = 0; repeat < 4; ++repeat)
        for (bool ta : {false, true})
            for (bool tb : {false, true})
                for (double alpha : scalars)
                    for (double beta : scalars)
                        worst =
                            std::max(worst, run(runtime, random_case<TypeParam>(draw, {alpha, beta, ta, tb, false})));
    std::printf("largest error: %.2g of what is allowed\n", worst);
}

TYPED_TEST(Products, NanAndInfinityGoTheirWay) {
    const Runtime runtime(with_workers(2));
    Draw draw{seed_of_run() + 1};
    for (int repeat = 0; repeat < 40; ++repeat) {
        const GemmOptions o{draw.one_of({1.0, -1.0, 0.7}), draw.one_of({0.0, 1.0, -1.0}), draw.whole(0, 1) == 1,
                            draw.whole(0, 1) == 1, false};
        Case<TypeParam> c(draw, o, draw.whole(2, 30), draw.whole(2, 30), draw.whole(1, 30),
                          draw.one_of<int64_t>({7, 64}));
        const auto spoil = [&](Stored<TypeParam>& x, int64_t count) {
            for (int64_t s = 0; s < count && x.rows > 0 && x.cols > 0; ++s)
                x(draw.whole(0, x.rows - 1), draw.whole(0, x.cols - 1)) =
                    TypeParam(Compute<TypeParam>(draw.one_of({nan, infinity, -infinity, 0.0})));
        };
        spoil(c.a, 2), spoil(c.b, 2);
        if (o.beta != 0) spoil(c.c, 3);
        run(runtime, std::move(c));
    }
}

// On cores, and where there is a GPU also on it alone: its copies must not outlive what the caller changes.
TYPED_TEST(Products, AgainAfterWaitWithWhatIsThere) {
    Draw draw{seed_of_run() + 2};
    bool gpu = false;
    for (int cores : {2, 0}) {
        if (cores == 0 && !gpu) break;
        const Runtime runtime(with_workers(cores));
        gpu = runtime.cuda_workers() > 0;
        Case<TypeParam> c(draw, {1, 1, false, true, false}, 65, 30, 64, 64);
        Product product = c.product(runtime);
        for (int times = 0; times < 3; ++times) {
            const Case<TypeParam> before = c;
            product.submit();
            product.wait();
            check_result(c, before);
            for (Stored<TypeParam>* x : {&c.a, &c.b, &c.c})  // after wait() they are the caller's
                (*x)(0, 0) = TypeParam(Compute<TypeParam>(draw.real()));
        }
    }
}

// --- several at once ---------------------------------------------------------------------------------------------

TEST(Asynchronous, ProductsAreSubmittedBeforeAnyIsWaitedFor) {
    const Runtime runtime(with_workers(2));
    Draw draw{seed_of_run() + 3};
    for (int repeat = 0; repeat < 10; ++repeat) {
        const double alpha = draw.one_of({1.0, 0.7}), beta = draw.one_of({0.0, -1.0});
        auto first = random_case<float>(draw, {alpha, beta, false, true, false});
        auto second = random_case<double>(draw, {alpha, beta, true, false, false});
        Case<float> third(draw, {1, 0, false, false, false}, 65, 65, 65, 7);
        const auto first_before = first, third_before = third;
        const auto second_before = second;
        Product p = first.product(runtime), q = second.product(runtime);
        p.submit(), q.submit();
        {
            Product gone = third.product(runtime);
            gone.submit();  // its end waits, and brings C home
        }
        q.wait(), p.wait();
        check_result(first, first_before), check_result(second, second_before), check_result(third, third_before);
    }
}

TEST(Asynchronous, SeveralReadTheSameMatrices) {
    const Runtime runtime(with_workers(2));
    Draw draw{seed_of_run() + 4};
    const Case<float> original(draw, {1, 0, false, true, false}, 64, 64, 130, 64);
    std::vector<Case<float>> all(4, original);  // C of each, A and B of the first
    std::vector<std::unique_ptr<Product>> products;
    for (auto& c : all) {
        products.push_back(std::make_unique<Product>(runtime, all[0].a.view(), all[0].b.view(), c.c.view(), c.options));
        products.back()->submit();
    }
    for (auto& p : products) p->wait();
    for (auto& c : all) check_result(c, original);
}

TEST(Interface, WithTheArgumentsOfBlas) {
    const Runtime runtime(with_workers(2));
    Draw draw{seed_of_run() + 5};
    for (bool ta : {false, true})
        for (bool tb : {false, true}) {
            Case<double> c(draw, {0.7, -1, ta, tb, false}, 7, 65, 3, 1024);
            const auto before = c;
            gemm(runtime, ta, tb, c.m, c.n, c.k, 0.7, c.a.memory.data() + c.a.guard, c.a.ld,
                 c.b.memory.data() + c.b.guard, c.b.ld, -1.0, c.c.memory.data() + c.c.guard, c.c.ld);
            check_result(c, before);
        }
}

// --- wrong use ---------------------------------------------------------------------------------------------------

void expect_refused(const Runtime& runtime, Matrix a, Matrix b, Matrix c, const std::string& matrix,
                    const std::string& what, int64_t tile = 64) {
    ProductOptions options;
    options.tile = tile;
    try {
        const Product product(runtime, a, b, c, options);
        FAIL() << "accepted, instead of: " << matrix << what;
    } catch (const std::exception& e) {
        const std::string text = e.what();
        EXPECT_NE(text.find(matrix), std::string::npos) << text;
        EXPECT_NE(text.find(what), std::string::npos) << text;
        EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    }
}

TEST(Interface, WrongMatricesAreNamed) {
    const Runtime runtime(with_workers(1));
    std::vector<double> memory(64);
    const Matrix good{memory.data(), 4, 4, 4, DType::f32};
    Matrix a, b, c;
    const auto with = [&](auto&& change) {
        Matrix m = good;
        change(m);
        return m;
    };
    const auto each = [&](const Matrix& bad, const std::string& what) {
        expect_refused(runtime, bad, good, good, "A [", what);
        expect_refused(runtime, good, bad, good, "B [", what);
        expect_refused(runtime, good, good, bad, "C [", what);
    };
    each(with([](Matrix& m) { m.rows = -1; }), "negative");
    each(with([](Matrix& m) { m.cols = -4; }), "negative");
    each(with([](Matrix& m) { m.rows = std::numeric_limits<int64_t>::min(); }), "negative");
    each(with([](Matrix& m) { m.ld = 3; }), "leading dimension 3");
    each(with([](Matrix& m) { m.ld = -1; }), "leading dimension -1");
    each(with([](Matrix& m) { m.rows = int64_t(1) << 61; }), "bytes");
    each(with([](Matrix& m) { m.cols = int64_t(1) << 61, m.ld = 0; }), "bytes");
    each(with([](Matrix& m) { m.ld = std::numeric_limits<int64_t>::max(); }), "bytes");
    each(with([](Matrix& m) { m.dtype = DType::i32; }), "i32");
    each(with([](Matrix& m) { m.rows = 3; }), "extents do not match");
    each(with([](Matrix& m) { m.cols = 3; }), "extents do not match");
    // StarPU's rows are less than 2^32 elements apart.
    each(with([](Matrix& m) { m.ld = (int64_t(1) << 32) + 16; }), "leading dimension 4294967312");
    for (Matrix* other : {&a, &b, &c}) {
        a = b = c = good;
        other->dtype = DType::f64;
        expect_refused(runtime, a, b, c, "A, B and C must have one type", "f64");
    }
    const Matrix apart = with([](Matrix& m) { m.data = static_cast<float*>(m.data) + 16; });
    expect_refused(runtime, good, good, apart, "gemm", "tile", 0);
    expect_refused(runtime, good, good, apart, "gemm", "tile", -5);
    const auto null = [&](const Matrix& m) { return Matrix{nullptr, m.rows, m.cols, m.ld, m.dtype}; };
    expect_refused(runtime, null(good), good, apart, "A [4 x 4]", "null");
    expect_refused(runtime, good, null(good), apart, "B [4 x 4]", "null");
    expect_refused(runtime, good, good, null(apart), "C [4 x 4]", "null");
}

TEST(Interface, CMustNotShareMemoryWithWhatIsRead) {
    const Runtime runtime(with_workers(1));
    std::vector<float> memory(400, 1.f);
    const auto part = [&](int64_t first, int64_t ld = 4) {
        return Matrix{memory.data() + first, 4, 4, ld, DType::f32};
    };
    expect_refused(runtime, part(0), part(100), part(0), "C [4 x 4] shares memory with A", "4 x 4");
    expect_refused(runtime, part(100), part(0), part(15), "C [4 x 4] shares memory with B", "4 x 4");
    expect_refused(runtime, part(15), part(100), part(0), "C [4 x 4] shares memory with A", "4 x 4");
    expect_refused(runtime, part(0, 20), part(100), part(43, 10), "C [4 x 4] shares memory with A", "4 x 4");
    // Parts of one matrix of 20 columns, side by side; and A and B may be one.
    gemm(runtime, part(0, 20), part(4, 20), part(8, 20));
    EXPECT_EQ(memory[8], 4);
    gemm(runtime, part(0, 20), part(0, 20), part(96, 4));
    EXPECT_EQ(memory[96], 4);
    // What is not read may be anything.
    ProductOptions scaled;
    scaled.gemm.alpha = 0, scaled.gemm.beta = 0.5;
    gemm(runtime, Matrix{nullptr, 4, 4, 4, DType::f32}, part(200), part(200), scaled);
    EXPECT_EQ(memory[200], 0.5f);
}

TEST(Interface, LeadingDimensionsOfBlasAreNotGuessed) {
    const Runtime runtime(with_workers(1));
    std::vector<float> a(20), b(20), c(20);
    const auto refused = [&](int64_t lda, int64_t ldb, int64_t ldc, const std::string& text) {
        try {
            gemm(runtime, false, true, 3, 4, 5, 1.0, a.data(), lda, b.data(), ldb, 0.0, c.data(), ldc);
            FAIL() << "accepted";
        } catch (const UsageError& e) { EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what(); }
    };
    refused(0, 5, 4, "A has leading dimension 0, less than its 5 columns");
    refused(5, 4, 4, "B has leading dimension 4, less than its 5 columns");
    refused(5, 5, 3, "C has leading dimension 3, less than its 4 columns");
}

// --- policies ----------------------------------------------------------------------------------------------------

// Arguments: seed. Prints the policy and the bits of results whose sums are in order; the others are near enough.
int policy_role(const std::vector<std::string>& arguments) {
    const Runtime runtime(with_workers(2));
    std::printf("%s\n", runtime.policy().c_str());
    Draw draw{std::stoull(arguments[0])};
    const auto random = [&] {
        return Case<float>(
            draw, {draw.one_of({1.0, 0.7}), draw.one_of({0.0, 1.0, -1.0}), draw.whole(0, 1) == 1, false, false},
            draw.whole(1, 130), draw.whole(1, 130), draw.whole(1, 130), draw.one_of<int64_t>({13, 64}));
    };
    uint64_t hash = 0;
    for (int repeat = 0; repeat < 12; ++repeat) {
        Case<float> c = random(), other = random();
        run(runtime, c);
        c.options.executor.deterministic = true;
        const Case<float> before = c, other_before = other;
        {
            Product p = c.product(runtime), q = other.product(runtime);
            p.submit(), q.submit();
            p.wait(), q.wait();
        }
        check_result(c, before), check_result(other, other_before);
        for (int64_t i = 0; i < c.m; ++i)
            for (int64_t j = 0; j < c.n; ++j) {
                uint32_t bits;
                std::memcpy(&bits, &c.c(i, j), 4);
                hash = mix64(hash + bits);
            }
    }
    std::printf("%016lx\n", hash);
    return testing::UnitTest::GetInstance()->Failed() ? 1 : 0;
}

TEST(EveryPolicy, GivesTheSame) {
    std::string expected;
    for (const char* policy : {"list", "reuse", "dmdas", "lws"}) {
        const Outcome o = run_role("policy", {std::to_string(seed_of_run())}, {{"STARPU_SCHED", policy}}, 120);
        const auto lines = lines_of(o.out);
        ASSERT_TRUE(o.code == 0 && lines.size() == 2) << policy << ": " << o.all();
        EXPECT_EQ(lines[0], policy);
        if (expected.empty()) expected = lines[1];
        EXPECT_EQ(lines[1], expected) << policy;
    }
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
    return tessera::testing_tools::engine_main(argc, argv, {{"policy", tessera::policy_role}});
}
