// Progress lines piped and on a terminal, tables, and numbers for people.
#include "apps/progress.h"

#include <gtest/gtest.h>

#include <sstream>

#include "apps/table.h"

namespace tessera {
namespace {

const ProgressState middle{3, 20, 45, 938, 1921, 18760, 0.1234, 0.9712, 12345, 85.21, 63.4};

int64_t lines_in(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(ProgressLine, Plain) {
    EXPECT_EQ(
        progress_line(middle, 0, true),
        "epoch  3/20  step  45/938   10 % of all  loss    0.1234  accuracy  97.12 %  12.3k samples/s  85.2 GFLOP/s  "
        "ETA 1m 03s");
}

TEST(ProgressLine, UnknownIsLeftOut) {
    ProgressState s;
    s.epoch = s.epochs = s.step = s.steps_in_epoch = s.done_steps = s.total_steps = 1;
    EXPECT_EQ(progress_line(s, 0, false), "epoch 1/1  step 1/1  100 % of all");
    for (int64_t width = 1; width < 100; ++width) EXPECT_LE(display_width(progress_line(s, width, false)), width);
}

TEST(ProgressLine, FitsEveryWidth) {
    for (bool utf8 : {false, true})
        for (int64_t width = 1; width < 250; ++width) {
            const std::string line = progress_line(middle, width, utf8);
            EXPECT_LE(display_width(line), width);
            EXPECT_TRUE(width <= 50 || line.find("loss") != std::string::npos) << line;
        }
    EXPECT_NE(progress_line(middle, 80, false).find("[#"), std::string::npos);
    EXPECT_NE(progress_line(middle, 80, true).find("▕█"), std::string::npos);
    EXPECT_NE(progress_line(middle, 80, false).find("ETA 1m 03s"), std::string::npos);
    EXPECT_NE(progress_line(middle, 79, false).find(" 10 %  loss    0.1234  accuracy  97.12 %  ETA"), std::string::npos)
        << "without its steps beside it no word is needed to say what the share is of";
}

TEST(ProgressLine, BarFills) {
    ProgressState s = middle;
    s.done_steps = s.total_steps;
    const std::string line = progress_line(s, 200, false);
    EXPECT_NE(line.find("[" + std::string(40, '#') + "]"), std::string::npos) << line;
    s.done_steps = 0;
    EXPECT_NE(progress_line(s, 200, false).find("[" + std::string(40, ' ') + "]"), std::string::npos);
    s.total_steps = 0;  // nothing known yet
    EXPECT_NE(progress_line(s, 200, false).find("  0 %"), std::string::npos);
}

TEST(ProgressLine, SmallAndLargeLosses) {
    ProgressState s = middle;
    const auto loss = [&](double value) {
        s.loss = value;
        const std::string line = progress_line(s, 0, false);
        return line.substr(line.find("loss"), 14);
    };
    EXPECT_EQ(loss(9.996e-5), "loss  1.00e-04");
    EXPECT_EQ(loss(123456), "loss  1.23e+05");
    EXPECT_EQ(loss(0), "loss    0.0000");
    EXPECT_EQ(loss(-2.5), "loss   -2.5000");
    EXPECT_EQ(loss(INFINITY), "loss       inf");
}

TEST(Progress, PipedHasALineEvery30SecondsAndPerEpoch) {
    std::ostringstream out;
    double now = 100;
    Progress progress(false, false, out, [&] { return now; });
    for (int i = 0; i < 650; ++i, now += 0.1) progress.update(middle);
    EXPECT_EQ(lines_in(out.str()), 2);
    progress.line({3, 20, 0.1, NAN, 0.968, "validation", 12000, 80, 65});
    EXPECT_NE(
        out.str().find("epoch  3/20  loss    0.1000  validation  96.80 %  12.0k samples/s  80.0 GFLOP/s  1m 05s\n"),
        std::string::npos)
        << out.str();
    progress.finish();
    EXPECT_EQ(out.str().find('\r'), std::string::npos);
    EXPECT_EQ(out.str().find('\033'), std::string::npos);
}

TEST(Progress, TerminalRedrawsAtMostTenTimesASecond) {
    std::ostringstream out;
    double now = 0;
    Progress progress(false, true, out, [&] { return now; });
    for (int i = 0; i < 1000; ++i, now += 0.001) progress.update(middle);
    const std::string text = out.str();
    EXPECT_GE(std::count(text.begin(), text.end(), '\r'), 9);
    EXPECT_LE(std::count(text.begin(), text.end(), '\r'), 11);
    EXPECT_EQ(lines_in(text), 0);
    EXPECT_EQ(text.substr(text.size() - 3), "\033[K");
}

TEST(Progress, TerminalKeepsEpochLinesAndLeavesNothingElse) {
    std::ostringstream out;
    {
        Progress progress(false, true, out, [] { return 0.0; });
        progress.update(middle);
        progress.message("checkpoint written");
        EXPECT_EQ(out.str().substr(out.str().size() - 23), "\r\033[Kcheckpoint written\n");
        progress.update(middle);  // at once, after a line
        EXPECT_NE(out.str().back(), '\n');
    }
    EXPECT_EQ(out.str().substr(out.str().size() - 4), "\r\033[K");
}

TEST(Progress, QuietSaysNothing) {
    std::ostringstream out;
    Progress progress(true, true, out);
    progress.update(middle);
    progress.line({});
    progress.finish();
    EXPECT_EQ(out.str(), "");
}

TEST(EpochLine, ColumnsStayAligned) {
    const std::string a = epoch_line({1, 10, 2.3, 0.0999, 0.1, "test", 900, 8.5, 59.7});
    const std::string b = epoch_line({10, 10, 1e-4, 1, 1, "test", 123456, 1234.5, 8});
    EXPECT_EQ(a,
              "epoch  1/10  loss    2.3000  accuracy   9.99 %  test  10.00 %    900 samples/s   8.5 GFLOP/s  1m 00s");
    EXPECT_EQ(b,
              "epoch 10/10  loss  1.00e-04  accuracy 100.00 %  test 100.00 %   123k samples/s  1234 GFLOP/s  8.00 s");
}

TEST(Human, Bytes) {
    EXPECT_EQ(human_bytes(0), "0 B");
    EXPECT_EQ(human_bytes(512), "512 B");
    EXPECT_EQ(human_bytes(1023), "1023 B");
    EXPECT_EQ(human_bytes(1024), "1.0 KiB");
    EXPECT_EQ(human_bytes(3 << 29), "1.5 GiB");
    EXPECT_EQ(human_bytes((1 << 20) - 1), "1.0 MiB");
    EXPECT_EQ(human_bytes(-2048), "-2.0 KiB");
    EXPECT_EQ(human_bytes(INT64_MAX), "8.0 EiB");
    EXPECT_EQ(human_bytes(INT64_MIN), "-8.0 EiB");
}

TEST(Human, Seconds) {
    const std::pair<double, const char*> cases[] = {
        {0, "0 us"},        {12e-6, "12.0 us"},       {4.536e-3, "4.54 ms"}, {0.0123, "12.3 ms"}, {999.6e-6, "1.00 ms"},
        {0.1234, "123 ms"}, {0.9996, "1.00 s"},       {3.21, "3.21 s"},      {9.96, "9.96 s"},    {9.996, "10 s"},
        {42.4, "42 s"},     {59.6, "1m 00s"},         {63, "1m 03s"},        {3599.7, "1h 00m"},  {7500, "2h 05m"},
        {86399, "1d 00h"},  {3.17 * 86400, "3d 04h"}, {-63, "-1m 03s"},      {NAN, "-"},          {INFINITY, "-"}};
    for (const auto& [seconds, text] : cases) EXPECT_EQ(human_seconds(seconds), text) << seconds;
}

TEST(Human, Count) {
    const std::pair<double, const char*> cases[] = {
        {0, "0"},          {999, "999"},  {999.7, "1.0k"},     {12345, "12.3k"}, {61706, "61.7k"}, {61100840, "61.1M"},
        {999'960, "1.0M"}, {4e9, "4.0G"}, {138357544, "138M"}, {NAN, "-"}};
    for (const auto& [count, text] : cases) EXPECT_EQ(human_count(count), text) << count;
}

TEST(Human, Grouped) {
    for (const auto& [count, text] : {std::pair{0, "0"}, {999, "999"}, {1000, "1,000"}, {1234567, "1,234,567"}})
        EXPECT_EQ(grouped(count), text);
    EXPECT_EQ(counted(1, "worker") + ", " + counted(0, "GPU") + ", " + counted(24, "core"),
              "1 worker, 0 GPUs, 24 cores");
}

TEST(Human, Power) {
    EXPECT_EQ(human_power(1e-4), "10⁻⁴");
    EXPECT_EQ(human_power(2.5e9), "2.5·10⁹");
    EXPECT_EQ(human_power(-9.99e12), "-1·10¹³");
    EXPECT_EQ(human_power(2e300), "2·10³⁰⁰");
}

TEST(Table, NotesAreNumberedOnceAndFitATerminal) {
    Notes notes;
    EXPECT_EQ(notes.text(), "");
    EXPECT_EQ(notes.number(""), "");
    EXPECT_EQ(notes.number("one"), "1");
    std::string words = "two";
    for (int i = 0; i < 60; ++i) words += " words";
    EXPECT_EQ(notes.number(words), "2");
    EXPECT_EQ(notes.number("one"), "1");
    std::istringstream text(notes.text());
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    ASSERT_EQ(lines.size(), 6u);
    EXPECT_EQ(lines[1], "  1: one");
    EXPECT_EQ(lines[3].substr(0, 10), "     words");
    for (const std::string& line : lines) EXPECT_LE(line.size(), 110u);
    EXPECT_EQ(wrapped("head:", std::string(200, 'x')), "head:\n      " + std::string(200, 'x') + "\n");
}

TEST(Table, AlignsNumbersRight) {
    Table table({"device", "GFLOP/s", "memory", "note"});
    table.row({"cpu 0", "85.2", "1.5 GiB", "3x3 conv"});
    table.row({"größer", "1234.0", "512 B"});
    EXPECT_EQ(table.text(),
              "device  GFLOP/s   memory  note\n"
              "------  -------  -------  --------\n"
              "cpu 0      85.2  1.5 GiB  3x3 conv\n"
              "größer   1234.0    512 B\n");
    EXPECT_THROW(table.row({"1", "2", "3", "4", "5"}), std::invalid_argument);
}

TEST(Table, WhatIsANumber) {
    const auto right = [](const std::string& cell) {
        Table table({"header longer than the cell"}, false);
        table.row({cell});
        const std::string text = table.text();
        return text[text.find('\n') + 1] == ' ';
    };
    for (const char* cell :
         {"12", "-0.5", "1e-3", "+2.5e+09", "nan", "-inf", "97.1 %", "1.5 GiB", "61.1M", "1m 03s", "1,234", "-"})
        EXPECT_TRUE(right(cell)) << cell;
    for (const char* cell : {"conv", "3x3 conv", "2.weight", "64x64", "1.", "e5", "1m 03s late", "--1"})
        EXPECT_FALSE(right(cell)) << cell;
}

TEST(Table, WithoutUnderlineOrRows) {
    EXPECT_EQ(Table({"a", "b"}, false).text(), "a  b\n");
    EXPECT_EQ(Table({}).text(), "\n\n");
}

}  // namespace
}  // namespace tessera
