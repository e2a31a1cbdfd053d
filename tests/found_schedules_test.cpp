// found_schedules_test.cpp - what a search found comes back as it was, for the same search and times only; damaged
// files and folders that cannot be written stop nobody.
#include "apps/found_schedules.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/file.h"
#include "tests/draw.h"
#include "tests/plans_by_hand.h"

namespace tessera {
namespace {
namespace fs = std::filesystem;

using Times = FoundSchedules::Times;
constexpr auto r = Access::read, w = Access::write;

struct FoundSchedulesTest : testing::Test {
    fs::path folder = fs::path(testing::TempDir()) / "found_schedules" /
                      testing::UnitTest::GetInstance()->current_test_info()->name();
    Plan plan = by_hand(3, {{{0, w}}, {{0, r}, {1, w}}, {{1, r}, {2, w}}});
    Times times = {{1e-3, 0.1, 3}, {INFINITY, 0.3, 2}};
    Draw draw{7};
    std::vector<TaskSchedule> schedules = {drawn(), drawn()};

    FoundSchedulesTest() { fs::remove_all(folder); }
    TaskSchedule drawn() {
        TaskSchedule s;
        s.step_s = draw.real(0, 1);
        for (int t = 0; t < 3; ++t)
            s.tasks.push_back({int(draw.whole(1, 4)), t, draw.real(-1, 1), draw.real(0, 1) / 3});
        return s;
    }
    Devices devices() const {
        Devices d;
        d.kind = {0, 1}, d.memory = {1, 2};
        d.latency_s.assign(3, {0, 1e-6, 2e-6}), d.bytes_per_s.assign(3, {1e9, 2e9, 3e9});
        return d;
    }
    FoundSchedules kept(double tolerance = 0) const { return {folder, tolerance}; }
};

void expect_same(const std::vector<TaskSchedule>& got, const std::vector<TaskSchedule>& expected) {
    ASSERT_EQ(got.size(), expected.size());
    for (size_t s = 0; s < got.size(); ++s) {
        EXPECT_EQ(got[s].step_s, expected[s].step_s);
        ASSERT_EQ(got[s].tasks.size(), expected[s].tasks.size());
        for (size_t t = 0; t < got[s].tasks.size(); ++t) {
            EXPECT_EQ(got[s].tasks[t].place, expected[s].tasks[t].place);
            EXPECT_EQ(got[s].tasks[t].turn, expected[s].tasks[t].turn);
            EXPECT_EQ(got[s].tasks[t].starts_s, expected[s].tasks[t].starts_s);
            EXPECT_EQ(got[s].tasks[t].takes_s, expected[s].tasks[t].takes_s);
        }
    }
}

TEST_F(FoundSchedulesTest, ComeBackAsTheyWere) {
    EXPECT_TRUE(kept().find(5, plan, times).empty()) << "nothing is kept yet";
    kept().keep(5, schedules, times);
    expect_same(kept().find(5, plan, times), schedules);
    EXPECT_TRUE(kept().find(6, plan, times).empty());
}

TEST_F(FoundSchedulesTest, OnlyForTimesLikeThoseTheyWereMadeFor) {
    kept().keep(5, schedules, times);
    Times other = times;
    other[0][1] *= 1.01;
    EXPECT_TRUE(kept(0).find(5, plan, other).empty());
    expect_same(kept(0.1).find(5, plan, other), schedules);
    other[0][2] *= 1.5;
    EXPECT_TRUE(kept(0.1).find(5, plan, other).empty());
    other = times;
    other[1][0] = 1;  // runs there now
    EXPECT_TRUE(kept(0.1).find(5, plan, other).empty());
    EXPECT_TRUE(kept(0.1).find(5, plan, {times[0]}).empty());
}

TEST_F(FoundSchedulesTest, AnotherSearchHasAnotherKey) {
    const uint64_t key = FoundSchedules::key(plan, devices(), false, 1000);
    EXPECT_EQ(FoundSchedules::key(plan, devices(), false, 1000), key);
    EXPECT_NE(FoundSchedules::key(plan, devices(), true, 1000), key);
    EXPECT_NE(FoundSchedules::key(plan, devices(), false, 1001), key);
    const auto with = [&](auto change) {
        Devices d = devices();
        change(d);
        return FoundSchedules::key(plan, d, false, 1000);
    };
    EXPECT_NE(with([](Devices& d) { d.kind[1] = 0; }), key);
    EXPECT_NE(with([](Devices& d) { d.memory[1] = 1; }), key);
    EXPECT_NE(with([](Devices& d) { d.latency_s[0][1] = 3e-6; }), key);
    EXPECT_NE(with([](Devices& d) { d.bytes_per_s[1][0] = 5e9; }), key);
    EXPECT_NE(with([](Devices& d) { d.fetch_s = {0, 1e-5, 1e-5}; }), key);
    EXPECT_NE(with([](Devices& d) { d.link_bytes_per_s = {1e9}; }), key);
    const auto of = [&](const Plan& p) { return FoundSchedules::key(p, devices(), false, 1000); };
    EXPECT_NE(of(by_hand(3, {{{0, w}}, {{0, r}, {1, w}}, {{0, r}, {2, w}}})), key);
    EXPECT_NE(of(by_hand(3, {{{0, w}}, {{0, r}, {1, w}}})), key);
    Plan larger = plan;
    larger.tiles[2].bytes *= 2;
    EXPECT_NE(of(larger), key);
}

TEST_F(FoundSchedulesTest, DamagedFilesAreNoFiles) {
    kept().keep(5, schedules, times);
    const fs::path path = fs::directory_iterator(folder)->path();
    const auto whole = read_file(path);
    const auto write = [&](const std::vector<uint8_t>& bytes) {
        std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), long(bytes.size()));
    };
    for (size_t length = 0; length < whole.size(); length += 1 + size_t(draw.whole(0, 9))) {
        write({whole.begin(), whole.begin() + long(length)});
        EXPECT_TRUE(kept().find(5, plan, times).empty()) << length << " of " << whole.size() << " bytes";
    }
    for (int i = 0; i < 100; ++i) {
        auto other = whole;
        other[size_t(draw.whole(0, int64_t(whole.size()) - 1))] ^= uint8_t(1 << draw.whole(0, 7));
        write(other);
        EXPECT_TRUE(kept().find(5, plan, times).empty());
    }
    write(whole);
    expect_same(kept().find(5, plan, times), schedules);
    EXPECT_TRUE(kept().find(5, by_hand(1, {{{0, w}}}), times).empty()) << "another number of tasks";
    fs::rename(path, folder / "0000000000000006");
    EXPECT_TRUE(kept().find(6, plan, times).empty()) << "of another search";
}

TEST_F(FoundSchedulesTest, AFolderThatCannotBeWrittenStopsNobody) {
    fs::create_directories(folder.parent_path());
    std::ofstream(folder) << "a file";
    kept().keep(5, schedules, times);
    EXPECT_TRUE(kept().find(5, plan, times).empty());
    EXPECT_TRUE(fs::is_regular_file(folder));
}

TEST_F(FoundSchedulesTest, TheLongestUnusedGo) {
    const auto age = [&](uint64_t hours) {
        for (const auto& entry : fs::directory_iterator(folder))
            fs::last_write_time(entry.path(), entry.last_write_time() - std::chrono::hours(hours));
    };
    for (uint64_t key = 0; key < FoundSchedules::most_files; ++key) kept().keep(key, schedules, times), age(1);
    expect_same(kept().find(0, plan, times), schedules);  // used
    kept().keep(1000, schedules, times);
    EXPECT_TRUE(kept().find(1, plan, times).empty());
    for (const uint64_t key : {0, 2, 1000}) expect_same(kept().find(key, plan, times), schedules);
}

}  // namespace
}  // namespace tessera
