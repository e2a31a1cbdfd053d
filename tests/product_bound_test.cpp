// product_bound_test.cpp - the least time of a product against closed forms, a fine grid of shares and schedules that
// could be run; the linear program below it.
#include "core/product_bound.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "core/error.h"
#include "core/linear_program.h"
#include "core/random.h"

namespace tessera {
namespace {

constexpr double relative = 1e-9;

void expect_close(double got, double expected, const std::string& what = {}) {
    EXPECT_TRUE(std::abs(got - expected) <= relative * std::max(1e-12, std::abs(expected)))
        << got << " for " << expected << " " << what;
}

struct Draw {
    uint64_t seed, next = 0;
    int64_t whole(int64_t low, int64_t high) {
        return low + int64_t(random_bits(seed, 21, next++) % uint64_t(high - low + 1));
    }
    double real(double low, double high) { return low + (high - low) * double(random_uniform(seed, 22, next++)); }
};

// --- closed forms ------------------------------------------------------------------------------------------------

constexpr double rate = 1e12;
const ProductProblem square{1000, 1000, 1000};

TEST(ProductBound, OneDeviceThatHoldsAllComputesAllTheTime) {
    const ProductBound b = product_bound(square, {{rate, 0, {0}, {1}}}, {1e12, 1e12});
    expect_close(b.seconds, 2e9 / rate);
    EXPECT_EQ(b.kind, "area");
    EXPECT_EQ(b.share, std::vector<double>{1});
    expect_close(least_bytes(square, {{rate, 0, {0}, {1}}}, {1}), 4 * 3e6, "A, B and C once");
}

TEST(ProductBound, WhatComputesInHostMemoryMovesNothing) {
    const ProductBound b = product_bound({1000, 1000, 1000, 4, true}, {{rate, 1000, {}, {}}}, {});
    expect_close(b.seconds, 2e9 / rate);
    EXPECT_EQ(least_bytes(square, {{rate, 1000, {}, {}}}, {1}), 0);
}

TEST(ProductBound, LeastTrafficIsThatOfTheGivenShares) {
    const std::vector<ProductDevice> devices = {{rate, 0, {0}, {1}}, {rate, 0, {}, {}}};
    expect_close(least_bytes(square, devices, {0.25, 0.75}), 4 * 3e6 / 4, "a quarter is computed elsewhere");
    EXPECT_EQ(least_bytes(square, devices, {0, 1}), 0);
}

TEST(ProductBound, TwoDevicesShareBySpeed) {
    const ProductBound b = product_bound(square, {{3 * rate, 0, {0}, {0}}, {rate, 0, {1}, {1}}}, {1e13, 1e13});
    expect_close(b.seconds, 2e9 / (4 * rate));
    EXPECT_EQ(b.kind, "area");
    expect_close(b.share[0], 0.75);
    expect_close(b.share[1], 0.25);
}

TEST(ProductBound, ASlowLinkIsTheBound) {
    // A and B in at 1 GB/s, C out beside it.
    const ProductProblem p{300, 200, 500, 8};
    const ProductBound b = product_bound(p, {{rate, 0, {0}, {1}}}, {1e9, 1e9});
    expect_close(b.seconds, 8.0 * (300 * 500 + 500 * 200) / 1e9);
    EXPECT_EQ(b.kind, "transfers");
    const ProductBound both_ways = product_bound(p, {{rate, 0, {0}, {0}}}, {1e9});  // one link both ways: C adds to it
    expect_close(both_ways.seconds, 8.0 * (300 * 500 + 500 * 200 + 300 * 200) / 1e9);
    const ProductBound reads_c = product_bound({300, 200, 500, 8, true}, {{rate, 0, {0}, {1}}}, {1e9, 1e9});
    expect_close(reads_c.seconds, 8.0 * (300 * 500 + 500 * 200 + 300 * 200) / 1e9);
}

TEST(ProductBound, TheSlowestLinkOfAWayCounts) {
    const ProductBound b = product_bound(square, {{rate, 0, {0, 1, 2}, {3}}}, {4e9, 1e9, 2e9, 9e9});
    expect_close(b.seconds, 4 * 2e6 / 1e9);
}

TEST(ProductBound, MemoryBound) {
    const double elements = 10000;  // blocks of 100 x 100
    const ProductBound b = product_bound(square, {{1e15, 40000, {0}, {1}}}, {1e9, 1e12});
    expect_close(b.seconds, 4 * 2e9 / std::sqrt(elements) / 1e9);
    EXPECT_EQ(b.kind, "transfers");
    expect_close(least_bytes(square, {{1e15, 40000, {0}, {1}}}, {1}), 4 * (2e9 / std::sqrt(elements) + 1e6));
    // Twice the memory: a factor of sqrt(2) less, until A and B need be there only once.
    const ProductBound twice = product_bound(square, {{1e15, 80000, {0}, {1}}}, {1e9, 1e12});
    expect_close(twice.seconds, b.seconds / std::sqrt(2.0));
    const ProductBound all = product_bound(square, {{1e15, int64_t(1) << 40, {0}, {1}}}, {1e9, 1e12});
    expect_close(all.seconds, 4 * 2e6 / 1e9);
}

TEST(ProductBound, SeveralDevicesBehindOneLink) {
    // Whoever computes, all comes over the one link: shares change nothing.
    const std::vector<ProductDevice> devices(4, {rate, 40000, {0}, {0}});
    const ProductBound b = product_bound(square, devices, {1e9});
    expect_close(b.seconds, 4 * (2e9 / 100 + 1e6) / 1e9);
    EXPECT_EQ(b.kind, "transfers");
    // One with four times the memory needs half: it does all there is.
    auto better = devices;
    better[2].memory_bytes *= 4;
    const ProductBound one = product_bound(square, better, {1e9});
    expect_close(one.seconds, 4 * (2e9 / 200 + 1e6) / 1e9);
    expect_close(one.share[2], 1);
}

TEST(ProductBound, ADeviceWithoutSpeedHasNoPart) {
    const ProductBound b = product_bound(square, {{0, 0, {0}, {1}}, {rate, 0, {2}, {2}}}, {1e15, 1e15, 1e13});
    expect_close(b.seconds, 2e9 / rate);
    EXPECT_EQ(b.share, (std::vector<double>{0, 1}));
    EXPECT_EQ(b.kind, "area");
}

TEST(ProductBound, TinyAndHugeNumbers) {
    const ProductProblem huge{int64_t(1) << 20, int64_t(1) << 20, int64_t(1) << 20};
    expect_close(product_bound(huge, {{1e9, 0, {0}, {1}}}, {1e6, 1e6}).seconds,
                 std::max(huge.flops() / 1e9, 4 * 2 * std::pow(2, 40) / 1e6));
    expect_close(product_bound({1, 1, 1}, {{1e15, 0, {0}, {1}}}, {1e12, 1e12}).seconds, 8 / 1e12);
    const ProductBound mixed = product_bound(square, {{1e15, 0, {0}, {0}}, {1e6, 0, {1}, {1}}}, {1e15, 1e3});
    EXPECT_LE(mixed.seconds, 2e9 / 1e15);
    EXPECT_GE(mixed.seconds, 2e9 / (1e15 + 1e6) * (1 - relative));
}

TEST(ProductBound, WithoutDevicesItThrows) {
    EXPECT_THROW(product_bound(square, {}, {}), std::invalid_argument);
    EXPECT_THROW(product_bound(square, {{0, 0, {}, {}}, {0, 0, {}, {}}}, {}), std::invalid_argument);
}

// --- random machines ---------------------------------------------------------------------------------------------

struct RandomMachine {
    ProductProblem problem;
    std::vector<ProductDevice> devices;
    std::vector<double> links;
};

// Devices behind links of their own and shared ones, near the point where computing and moving take equally long.
RandomMachine random_machine(Draw& draw, int64_t devices) {
    RandomMachine r;
    r.problem = {draw.whole(20, 90), draw.whole(20, 90), draw.whole(20, 90), draw.whole(0, 1) ? 4 : 8,
                 draw.whole(0, 1) == 1};
    r.links.resize(size_t(draw.whole(1, 4)));
    for (double& bytes_per_s : r.links) bytes_per_s = std::exp(draw.real(-1, 3)) * 1e9;
    for (int64_t d = 0; d < devices; ++d) {
        ProductDevice device{draw.real(1, 8) * 1e10, draw.whole(0, 3) ? draw.whole(64, 40000) : 0, {}, {}};
        const auto way = [&] {
            std::vector<int> all;
            for (int l = 0; l < int(r.links.size()); ++l)
                if (draw.whole(0, 1)) all.push_back(l);
            return all;
        };
        if (d > 0 || draw.whole(0, 1)) device.in = way(), device.out = draw.whole(0, 1) ? device.in : way();
        r.devices.push_back(device);
    }
    return r;
}

// Time at given shares, straight from methods/gemm.md's definition.
double seconds_at(const RandomMachine& r, const std::vector<double>& share) {
    const ProductProblem& p = r.problem;
    const double m = double(p.m), n = double(p.n), k = double(p.k), size = double(p.element_bytes);
    std::vector<double> bytes(r.links.size());
    double seconds = 0;
    for (size_t d = 0; d < r.devices.size(); ++d) {
        const ProductDevice& device = r.devices[d];
        double in = m * k + k * n;
        if (device.memory_bytes > 0) in = std::max(in, 2 * m * n * k / std::sqrt(double(device.memory_bytes) / size));
        if (p.reads_c) in += m * n;
        seconds = std::max(seconds, 2 * m * n * k * share[d] / device.flops_per_s);
        if (device.in.empty() && device.out.empty()) continue;
        for (int l : device.in) bytes[size_t(l)] += size * in * share[d];
        for (int l : device.out) bytes[size_t(l)] += size * m * n * share[d];
    }
    for (size_t l = 0; l < bytes.size(); ++l) seconds = std::max(seconds, bytes[l] / r.links[l]);
    return seconds;
}

TEST(ProductBound, AgreesWithAFineGridOfShares) {
    int64_t transfers = 0;
    for (uint64_t seed = 0; seed < 120; ++seed) {
        Draw draw{seed};
        const int64_t devices = 2 + int64_t(seed % 2), steps = devices == 2 ? 20000 : 400;
        const RandomMachine r = random_machine(draw, devices);
        double least = INFINITY;
        const double unit = 1 / double(steps);
        for (int64_t a = 0; a <= steps; ++a) {
            if (devices == 2) least = std::min(least, seconds_at(r, {double(a) * unit, double(steps - a) * unit}));
            else
                for (int64_t b = 0; a + b <= steps; ++b)
                    least = std::min(least,
                                     seconds_at(r, {double(a) * unit, double(b) * unit, double(steps - a - b) * unit}));
        }
        const ProductBound bound = product_bound(r.problem, r.devices, r.links);
        EXPECT_LE(bound.seconds, least * (1 + relative)) << "seed " << seed;
        EXPECT_GE(bound.seconds, least * (1 - 20 * unit)) << "seed " << seed;
        expect_close(seconds_at(r, bound.share), bound.seconds, "at its own shares, seed " + std::to_string(seed));
        expect_close(std::accumulate(bound.share.begin(), bound.share.end(), 0.0), 1);
        for (double s : bound.share) EXPECT_GE(s, 0);
        transfers += bound.kind == "transfers";
    }
    EXPECT_GT(transfers, 20);
    EXPECT_LT(transfers, 115);
}

// A schedule that could be run: C cut into rectangles of blocks that fit their device's memory beside one column of A
// and one row of B, each device streaming through its own.
double random_schedule(Draw& draw, const RandomMachine& r) {
    const ProductProblem& p = r.problem;
    const size_t n = r.devices.size();
    std::vector<double> flops(n), in(n), out(n);
    for (int64_t top = 0, h; top < p.m; top += h) {
        h = std::min(p.m - top, draw.whole(1, p.m));
        for (int64_t left = 0, w; left < p.n; left += w) {
            w = std::min(p.n - left, draw.whole(1, p.n));
            const size_t d = size_t(draw.whole(0, int64_t(n) - 1));
            const ProductDevice& device = r.devices[d];
            int64_t bh = h, bw = w;
            const int64_t elements = device.memory_bytes / p.element_bytes;
            while (device.memory_bytes > 0 && bh * bw + bh + bw > elements) (bh > bw ? bh : bw) -= 1;
            const int64_t blocks_down = (h + bh - 1) / bh, blocks_across = (w + bw - 1) / bw;
            flops[d] += 2.0 * double(h) * double(w) * double(p.k);
            in[d] += double(p.k) * double(h * blocks_across + w * blocks_down);
            if (p.reads_c) in[d] += double(h * w);
            out[d] += double(h * w);
        }
    }
    std::vector<double> bytes(r.links.size());
    double seconds = 0;
    for (size_t d = 0; d < n; ++d) {
        seconds = std::max(seconds, flops[d] / r.devices[d].flops_per_s);
        for (int l : r.devices[d].in) bytes[size_t(l)] += in[d] * double(p.element_bytes);
        for (int l : r.devices[d].out) bytes[size_t(l)] += out[d] * double(p.element_bytes);
    }
    for (size_t l = 0; l < bytes.size(); ++l) seconds = std::max(seconds, bytes[l] / r.links[l]);
    return seconds;
}

TEST(ProductBound, NoScheduleIsFaster) {
    double closest = INFINITY;
    for (uint64_t seed = 0; seed < 300; ++seed) {
        Draw draw{seed + 1000};
        const RandomMachine r = random_machine(draw, draw.whole(1, 5));
        const double bound = product_bound(r.problem, r.devices, r.links).seconds;
        for (int tries = 0; tries < 200; ++tries) {
            const double seconds = random_schedule(draw, r);
            EXPECT_GE(seconds, bound * (1 - relative)) << "seed " << seed;
            closest = std::min(closest, seconds / bound);
        }
    }
    EXPECT_LT(closest, 1.1) << "the schedules are too poor to say anything";
}

// --- the linear program ------------------------------------------------------------------------------------------

TEST(LinearProgram, ASmallOneOfTheTextbooks) {
    // max 3x + 5y, x <= 4, 2y <= 12, 3x + 2y <= 18: (2, 6), 36 (Hillier, Lieberman)
    LinearProgram lp("textbook");
    const int x = lp.variable(-3), y = lp.variable(-5);
    lp.at_most({{x, 1}}, 4);
    lp.at_most({{y, 2}}, 12);
    lp.at_most({{x, 3}, {y, 2}}, 18);
    const auto v = lp.minimise();
    expect_close(v[size_t(x)], 2);
    expect_close(v[size_t(y)], 6);
}

TEST(LinearProgram, EqualitiesAndVariablesThatNothingNeeds) {
    LinearProgram lp("diet");  // min 2x + 3y, x + y = 10, x <= 4; z is free to be 0
    const int x = lp.variable(2), y = lp.variable(3), z = lp.variable(1);
    lp.exactly({{x, 1}, {y, 1}}, 10);
    lp.at_most({{x, 1}}, 4);
    const auto v = lp.minimise();
    expect_close(v[size_t(x)], 4);
    expect_close(v[size_t(y)], 6);
    EXPECT_EQ(v[size_t(z)], 0);
}

template <class F>
void expect_no_solution(F&& rows) {
    LinearProgram lp("shares of work");
    rows(lp);
    try {
        lp.minimise();
        FAIL() << "it has no solution";
    } catch (const Error& e) { EXPECT_STREQ(e.what(), "shares of work: the linear program has no solution"); }
}

TEST(LinearProgram, WithoutASolutionItSaysWhichOne) {
    expect_no_solution([](LinearProgram& lp) {  // x + y = 5, x + y <= 4
        const int x = lp.variable(1), y = lp.variable();
        lp.exactly({{x, 1}, {y, 1}}, 5);
        lp.at_most({{x, 1}, {y, 1}}, 4);
    });
    expect_no_solution([](LinearProgram& lp) { lp.exactly({{lp.variable(1), 1}}, -1); });  // below zero
    expect_no_solution([](LinearProgram& lp) {                                             // without end
        const int x = lp.variable(-1), y = lp.variable();
        lp.at_most({{x, 1}, {y, -1}}, 1);
    });
}

}  // namespace
}  // namespace tessera
