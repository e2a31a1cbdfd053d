// Charts are well-formed XML whatever the data; ticks are round; gaps stay gaps.
#include "apps/plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "xml_flaw.h"

namespace tessera {
namespace {

TEST(Plot, EmptyChartsDoNotCrash) {
    EXPECT_EQ(flaw(svg({})), "");
    EXPECT_NE(svg({}).find("no data"), std::string::npos);
    Chart chart{"t", "x", "y", "r", true, {}, {}};
    chart.series.resize(3);
    chart.series[1].right_axis = true;
    chart.series[2] = {"only gaps", {1, NAN}, {NAN, 1}};
    EXPECT_EQ(flaw(svg(chart)), "");
    EXPECT_NE(svg(chart).find("no data"), std::string::npos);
}

TEST(Plot, HardValues) {
    const std::vector<std::vector<double>> values{{0},
                                                  {5},
                                                  {-3, -3, -3},
                                                  {1e300, -1e300},
                                                  {1e-320, 2e-320},
                                                  {1e-300, 1e300},
                                                  {1e308, -1e308, 1},
                                                  {INFINITY, -INFINITY, 2},
                                                  {1, 1 + 1e-15},
                                                  {1e20, 1e20},
                                                  {1e15, 1e15 + 1},
                                                  {-0.0, 1e-12},
                                                  {0.5, -1}};
    for (const auto& x : values)
        for (const auto& y : values)
            for (bool log : {false, true})
                for (bool right : {false, true}) {
                    Series s{"s", x, y, right};
                    s.x.resize(3, 1);
                    s.y.resize(3, NAN);
                    const std::string text = svg({"t", "x", "y", "r", log, {s}, std::pair{0., 100.}});
                    EXPECT_EQ(flaw(text), "") << x[0] << " " << y[0];
                }
}

TEST(Plot, NanIsAGapAndALonePointADot) {
    const auto moves = [](const std::vector<double>& y) {
        Series s{"", {1, 2, 3, 4, 5}, y};
        s.faint = true;
        const std::string text = svg({"", "", "", "", false, {s}, {}});
        return count(text.substr(text.rfind("<path")), "M");
    };
    EXPECT_EQ(moves({1, 2, 3, 4, 5}), 1);
    EXPECT_EQ(moves({1, 2, NAN, 4, 5}), 2);
    EXPECT_EQ(moves({1, NAN, 3, NAN, INFINITY}), 2);
    EXPECT_NE(svg({"", "", "", "", false, {{"dot", {1}, {1}}}, {}}).find("h0"), std::string::npos);
    EXPECT_EQ(count(svg({"", "", "", "", false, {{"dots", {1, 2, 3}, {1, NAN, 2}}}, {}}), "<circle"), 2);
}

TEST(Plot, MarksAlone) {
    Series s{"", {1, 2, 2, 3}, {1, 2, 3, 4}};
    const auto drawn = [&] { return svg({"", "", "", "", false, {s}, {}}); };
    const int paths = count(drawn(), "<path");
    s.marks = Series::only_marks;
    EXPECT_EQ(count(drawn(), "<path"), paths - 1);
    EXPECT_EQ(count(drawn(), "<circle"), 4);
    s.marks = Series::unmarked;
    EXPECT_EQ(count(drawn(), "<path"), paths);
    EXPECT_EQ(count(drawn(), "<circle"), 0);
}

TEST(Plot, NotPositiveIsAGapOnALogAxis) {
    Series s{"", {1, 2, 3, 4}, {1, 0, -1, 10}};
    EXPECT_EQ(count(svg({"", "", "", "", true, {s}, {}}), "<circle"), 2);
}

// The x of the points' circles, in pixels.
std::vector<double> circles(const std::string& drawing) {
    std::vector<double> x;
    for (size_t i = drawing.find("cx=\""); i != std::string::npos; i = drawing.find("cx=\"", i + 1))
        x.push_back(std::stod(drawing.substr(i + 4)));
    return x;
}

TEST(Plot, LogarithmicXAxis) {
    Chart c;
    c.log_x = true;
    c.series = {{"s", {1e3, 1e5, 1e7}, {1, 2, 3}}};
    const std::string drawing = svg(c);
    EXPECT_EQ(flaw(drawing), "");
    const auto x = circles(drawing);
    ASSERT_EQ(x.size(), 3u);
    EXPECT_NEAR(x[1] - x[0], x[2] - x[1], 0.2) << "equal factors are equal distances";
    EXPECT_NE(drawing.find(">10⁴<"), std::string::npos);
    c.series[0].x[1] = 0;  // not positive: a gap
    EXPECT_EQ(circles(svg(c)).size(), 2u);
    for (const std::vector<double>& lonely : {std::vector<double>{}, {5e6}, {1e6}, {-1}, {1e-9, 1e20}}) {
        c.series = {{"s", lonely, std::vector<double>(lonely.size(), 1)}};
        EXPECT_EQ(flaw(svg(c)), "");
    }
}

TEST(Plot, NamesAreEscaped) {
    const std::string text =
        svg({"a < b & \"c\" > d\n\x01", "<x>", "&y", "\"r\"", false, {{"</svg>", {1}, {1}, true}}, {}});
    EXPECT_EQ(flaw(text), "");
    EXPECT_NE(text.find("a &lt; b &amp; &quot;c&quot; &gt; d"), std::string::npos);
}

TEST(Plot, LongRunsStaySmallAndKeepTheirSpikes) {
    Series s{"loss", {}, {}};
    for (int i = 0; i < 200'000; ++i) s.x.push_back(i), s.y.push_back(i == 123'457 ? 9 : 1 + 0.1 * (i % 7));
    const std::string text = svg({"", "", "", "", false, {s}, {}});
    EXPECT_LT(text.size(), 80'000u);
    Series low = s;
    low.y[123'457] = 1;
    EXPECT_NE(text, svg({"", "", "", "", false, {low}, {}}));
}

TEST(Plot, RightAxisShowsItsRange) {
    const std::string text = svg({"",
                                  "step",
                                  "loss",
                                  "accuracy (%)",
                                  false,
                                  {{"loss", {1, 2}, {2, 1}}, {"accuracy", {1, 2}, {96, 97}, true}},
                                  std::pair{0., 100.}});
    for (const char* part : {">100</text>", ">80</text>", "accuracy (right)", "accuracy (%)", "rotate(90)"})
        EXPECT_NE(text.find(part), std::string::npos) << part;
}

TEST(Plot, LengthsMustMatch) {
    EXPECT_THROW(svg({"", "", "", "", false, {{"s", {1, 2}, {1}}}, {}}), std::invalid_argument);
}

TEST(Ticks, AreRoundAndEnclose) {
    EXPECT_EQ(nice_ticks(0, 100, 6), (std::vector<double>{0, 20, 40, 60, 80, 100}));
    EXPECT_EQ(nice_ticks(0.13, 2.31, 5), (std::vector<double>{0, 0.5, 1, 1.5, 2, 2.5}));
    EXPECT_EQ(nice_ticks(-7, 12, 4), (std::vector<double>{-10, -5, 0, 5, 10, 15}));
    for (double low : {-1e300, -123.4, -1e-9, 0., 1e-7, 5., 3e8})
        for (double size : {0., 1e-12, 0.3, 17., 1e9, 1e299})
            for (int n : {1, 4, 6, 10}) {
                const auto ticks = nice_ticks(low, low + size, n);
                ASSERT_GE(ticks.size(), 2u);
                EXPECT_LE(ticks.size(), size_t(2 * n + 4));
                const double step = ticks[1] - ticks[0];
                EXPECT_LE(ticks.front(), low + 1e-5 * step);
                EXPECT_GE(ticks.back(), low + size - 1e-5 * step);
            }
}

TEST(Ticks, Logarithmic) {
    EXPECT_EQ(log_ticks(0.01, 10).size(), 4u);
    EXPECT_EQ(log_ticks(1, 10), (std::vector<double>{1, 2, 5, 10}));
    EXPECT_EQ(log_ticks(3, 3), (std::vector<double>{2, 5}));
    for (double low : {1e-300, 1e-12, 0.03, 1., 4e7})
        for (double ratio : {1., 1.5, 10., 99., 1e4, 1e200}) {
            const auto ticks = log_ticks(low, low * ratio);
            ASSERT_GE(ticks.size(), 2u);
            EXPECT_LE(ticks.size(), 11u);
            EXPECT_LE(ticks.front(), low * (1 + 1e-6));
            EXPECT_GE(ticks.back(), low * ratio * (1 - 1e-6));
            EXPECT_TRUE(std::is_sorted(ticks.begin(), ticks.end()));
        }
}

TEST(Smoothed, AveragesWithoutBiasAtTheStart) {
    const Series raw{"raw", {1, 2, 3, 4}, {4, 4, NAN, 4}};
    const Series s = smoothed(raw, 100, "smooth");
    EXPECT_EQ(s.name, "smooth");
    EXPECT_NEAR(s.y[0], 4, 1e-12);
    EXPECT_NEAR(s.y[3], 4, 1e-12);
    EXPECT_TRUE(std::isnan(s.y[2]));
    EXPECT_EQ(smoothed(raw, 1, "").y[1], 4);
}

}  // namespace
}  // namespace tessera
