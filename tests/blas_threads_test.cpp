// blas_threads_test.cpp - several threads in one BLAS: small integers make every product exact, so any difference is a
// race. (The serial flavour of OpenBLAS has no locks and fails here.)
#include <cblas.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "codelets/blas.h"
#include "core/random.h"

namespace tessera::blas {
namespace {

template <class T>
struct Case {
    Product<T> product;  // its pointers are set for each call
    std::vector<T> a, b, c, expected;
};

// Operands in -4..4 and at most 128 terms: every sum is below 2^24. Leading dimensions leave gaps, which must stay.
template <class T>
Case<T> make_case(uint64_t number) {
    uint64_t index = 0;
    const auto draw = [&](int64_t most) { return int64_t(random_bits(number, 1, index++) % uint64_t(most)); };
    const auto values = [&](int64_t count) {
        std::vector<T> v(static_cast<size_t>(count));
        for (T& x : v) x = T(draw(9) - 4);
        return v;
    };
    Case<T> t;
    Product<T>& p = t.product;
    p.ta = draw(2), p.tb = draw(2);
    const int64_t most = number % 4 == 0 ? 128 : 24;  // larger ones take OpenBLAS's packed, shared-buffer path
    p.m = 1 + draw(most), p.n = 1 + draw(most), p.k = 1 + draw(most);
    p.lda = (p.ta ? p.m : p.k) + draw(4), p.ldb = (p.tb ? p.k : p.n) + draw(4), p.ldc = p.n + draw(4);
    p.alpha = double(1 + draw(2)), p.beta = double(draw(2));
    t.a = values((p.ta ? p.k : p.m) * p.lda), t.b = values((p.tb ? p.n : p.k) * p.ldb), t.c = values(p.m * p.ldc);
    t.expected = t.c;
    for (int64_t i = 0; i < p.m; ++i)
        for (int64_t j = 0; j < p.n; ++j) {
            int64_t sum = 0;
            for (int64_t l = 0; l < p.k; ++l)
                sum += int64_t(t.a[size_t(p.ta ? l * p.lda + i : i * p.lda + l)]) *
                       int64_t(t.b[size_t(p.tb ? j * p.ldb + l : l * p.ldb + j)]);
            T& c = t.expected[size_t(i * p.ldc + j)];
            c = T(int64_t(p.alpha) * sum + int64_t(p.beta) * int64_t(c));
        }
    return t;
}

template <class T>
const std::vector<Case<T>>& cases() {
    static const std::vector<Case<T>> all = [] {
        std::vector<Case<T>> v;
        for (uint64_t i = 0; i < 128; ++i) v.push_back(make_case<T>(i));
        return v;
    }();
    return all;
}

template <class T>
using Multiply = void (*)(const Product<T>&);

constexpr int64_t products_per_thread = 20000;

// Runs the products on this thread; counts those that are not exact, gaps included.
template <class T>
int64_t wrong_products(Multiply<T> multiply, uint64_t seed) {
    int64_t wrong = 0;
    std::vector<T> c;
    for (int64_t i = 0; i < products_per_thread; ++i) {
        const Case<T>& t = cases<T>()[random_bits(seed, 2, uint64_t(i)) % cases<T>().size()];
        c = t.c;
        Product<T> p = t.product;
        p.a = t.a.data(), p.b = t.b.data(), p.c = c.data();
        multiply(p);
        wrong += std::memcmp(c.data(), t.expected.data(), c.size() * sizeof(T)) != 0;
    }
    return wrong;
}

// Two threads, each with its own multiplication.
template <class T, class U>
void hammer(Multiply<T> first, Multiply<U> second) {
    openblas_set_num_threads(1);
    cases<T>(), cases<U>();
    std::atomic<int> ready{0};
    int64_t wrong[2] = {-1, -1};
    const auto together = [&] {
        ++ready;
        while (ready < 2) {}
    };
    std::thread other([&] { together(), wrong[1] = wrong_products(second, 7); });
    together();
    wrong[0] = wrong_products(first, 8);
    other.join();
    EXPECT_EQ(wrong[0], 0) << "of " << products_per_thread << " on the first thread";
    EXPECT_EQ(wrong[1], 0) << "of " << products_per_thread << " on the second thread";
}

constexpr Multiply<float> openblas_f32 = openblas, onednn_f32 = onednn;
constexpr Multiply<double> openblas_f64 = openblas;

TEST(BlasThreads, OpenBlasIsTheFlavourWithLocks) {
    EXPECT_EQ(openblas_get_parallel(), OPENBLAS_THREAD) << openblas_get_config();
}
TEST(BlasThreads, OneProductUsesOneThread) {
    for (const bool f64 : {false, true}) {
        openblas_set_num_threads(2);  // as where nobody has said how many
        EXPECT_EQ(f64 ? wrong_products(openblas_f64, 1) : wrong_products(openblas_f32, 1), 0);
        EXPECT_EQ(openblas_get_num_threads(), 1);
    }
}
TEST(BlasThreads, OpenBlasF32) { hammer(openblas_f32, openblas_f32); }
TEST(BlasThreads, OpenBlasF64) { hammer(openblas_f64, openblas_f64); }
TEST(BlasThreads, OneDnnF32) { hammer(onednn_f32, onednn_f32); }
TEST(BlasThreads, OpenBlasBesideOneDnn) { hammer(openblas_f32, onednn_f32); }
TEST(BlasThreads, SingleBesideDouble) { hammer(openblas_f32, openblas_f64); }

}  // namespace
}  // namespace tessera::blas
