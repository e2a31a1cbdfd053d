// timeline_test.cpp - idle times are found, filled and split; what is taken never overlaps.
#include "core/timeline.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "tests/draw.h"

namespace tessera {
namespace {

// Takes it where it fits.
double put(Timeline& t, double earliest, double takes) {
    const double start = t.fits(earliest, takes);
    t.take(start, takes);
    return start;
}

TEST(Timeline, FillsTheFirstIdleTimeThatIsLongEnough) {
    Timeline t;
    EXPECT_EQ(put(t, 1, 1), 1);  // idle: 0 to 1
    EXPECT_EQ(put(t, 5, 1), 5);  // 2 to 5
    EXPECT_EQ(put(t, 0, 2), 2);  // 4 to 5
    EXPECT_EQ(put(t, 0, 1), 0);  // all of the first
    EXPECT_EQ(put(t, 0, 1), 4);  // and of the other
    EXPECT_EQ(put(t, 0, 1), 6) << "none is left";
    EXPECT_EQ(t.end(), 7);
}

TEST(Timeline, SplitsAnIdleTime) {
    Timeline t;
    put(t, 10, 1);
    EXPECT_EQ(put(t, 4, 2), 4);  // 0 to 4, 6 to 10
    EXPECT_EQ(put(t, 5, 3), 6);
    EXPECT_EQ(put(t, 0, 4), 0);
    EXPECT_EQ(put(t, 0, 1), 9);
}

TEST(Timeline, WithoutInsertionNothingGoesBefore) {
    Timeline t;
    t.end_with(7);
    EXPECT_EQ(t.fits(1, 1), 7);
    EXPECT_EQ(t.fits(9, 1), 9);
    t.end_with(20);
    EXPECT_EQ(t.fits(9, 1), 20);
}

TEST(Timeline, CountsWhatIsTakenSinceTheMark) {
    Timeline t;
    put(t, 3, 1);
    t.mark();
    put(t, 0, 2), put(t, 0, 5);
    EXPECT_EQ(t.busy_since_mark(), 7);
}

TEST(Timeline, NeverTakesATimeTwice) {
    for (uint64_t seed = 1; seed <= 50; ++seed) {
        Draw draw{seed};
        Timeline t;
        std::vector<std::pair<double, double>> taken;
        for (int i = 0; i < 100; ++i) {
            const double earliest = draw.real(0, 100), takes = draw.real(0, 3), start = put(t, earliest, takes);
            EXPECT_GE(start, earliest);
            EXPECT_GE(t.end(), start + takes);
            for (const auto& [from, to] : taken) EXPECT_TRUE(start + takes <= from || start >= to) << "seed " << seed;
            taken.emplace_back(start, start + takes);
        }
    }
}

// More than are remembered: the last ones are.
TEST(Timeline, RemembersTheLastIdleTimes) {
    Timeline t;
    const int more = int(Timeline::most) + 2;
    for (int i = 0; i < more; ++i) put(t, 2 * i + 1, 1);  // idle: 0 to 1, 2 to 3, ...
    for (int i = 0; i < int(Timeline::most); ++i) EXPECT_EQ(put(t, 0, 1), 2 * (i + 2));
    EXPECT_EQ(put(t, 0, 1), 2 * more);
}

}  // namespace
}  // namespace tessera
