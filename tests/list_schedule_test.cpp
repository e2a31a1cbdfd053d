// list_schedule_test.cpp - schedules on plans small enough to see, and on random ones: nothing starts before its data
// is there, no worker and no link does two things at once, nothing beats the bounds, a search never loses.
#include "core/list_schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "core/reuse.h"
#include "core/sends.h"
#include "tests/draw.h"
#include "tests/plans_by_hand.h"

namespace tessera {
namespace {

constexpr double never = std::numeric_limits<double>::infinity(), relative = 1e-9;
constexpr auto r = Access::read, w = Access::write, rw = Access::read_write;

void expect_close(double got, double expected) {
    EXPECT_TRUE(std::abs(got - expected) <= relative * expected) << got << " for " << expected;
}

// The host, which has no worker, and GPUs; all links alike. Tiles of by_hand() have 4 bytes.
Devices gpus(int count, double seconds_per_tile) {
    Devices d;
    for (int i = 0; i < count; ++i) d.kind.push_back(0), d.memory.push_back(i + 1);
    d.latency_s.assign(size_t(count + 1), std::vector<double>(size_t(count + 1), seconds_per_tile));
    d.bytes_per_s.assign(size_t(count + 1), std::vector<double>(size_t(count + 1), 1e300));
    return d;
}

TEST(ListSchedule, AChainStaysOnOneDevice) {
    const Plan p = by_hand(3, {{{0, rw}}, {{0, r}, {1, w}}, {{1, r}, {2, w}}, {{2, r}, {0, rw}}});
    const ListScheduler s(p, {{1, 2, 3, 4}}, gpus(3, 0.5), false);
    const Placement best = s.search(50).front();
    expect_close(best.step_s, 10);
    EXPECT_EQ(best.workers_used(), 1);
    EXPECT_EQ(best.order, (std::vector{0, 1, 2, 3}));
}

TEST(ListSchedule, IndependentWorkIsShared) {
    const Plan p = by_hand(4, {{{0, rw}}, {{1, rw}}, {{2, rw}}, {{3, rw}}});
    const auto seconds = [&](int count) {
        return ListScheduler(p, {{1, 1, 1, 1}}, gpus(count, 9), false).search(50).front().step_s;
    };
    expect_close(seconds(1), 4);
    expect_close(seconds(2), 2);
    expect_close(seconds(4), 1);
}

// Two halves of 4 s that meet: worth a transfer of 1 s, not one of 5 s.
TEST(ListSchedule, TransfersAreWeighed) {
    const Plan p = by_hand(4, {{{0, rw}}, {{0, r}, {1, w}}, {{0, r}, {2, w}}, {{1, r}, {2, r}, {0, rw}}});
    const auto best = [&](double transfer) {
        return ListScheduler(p, {{1, 4, 4, 1}}, gpus(2, transfer), false).search(200).front();
    };
    expect_close(best(1).step_s, 1 + 1 + 4 + 1 + 1);
    EXPECT_EQ(best(1).workers_used(), 2);
    expect_close(best(5).step_s, 10);
    EXPECT_EQ(best(5).workers_used(), 1);
}

// One GPU sends two tiles: the second waits for the first.
TEST(ListSchedule, ALinkCarriesOneTileAtATime) {
    const Plan p = by_hand(2, {{{0, rw}}, {{1, rw}}, {{0, r}}, {{1, r}}});
    const ListScheduler s(p, {{1, 1, 1, 1}, {1, 1, never, never}, {never, never, 1, 1}},
                          {{1, 2}, {1, 2}, gpus(2, 3).latency_s, gpus(2, 3).bytes_per_s}, false);
    // 0 and 1 end at 1 and 2; sent until 4 and 7; read until 5 and 8. The next step writes 0 again at 5.
    const Placement once = s.greedy({});
    EXPECT_EQ(once.worker, (std::vector{0, 0, 1, 1}));
    expect_close(once.step_s, 6);  // two transfers
}

// Two pairs of GPUs exchange a tile in each step: side by side, or over the link that both ways take.
TEST(ListSchedule, SharedLinksAreShared) {
    const Plan p = by_hand(2, {{{0, rw}}, {{1, rw}}, {{0, r}}, {{1, r}}});
    const std::vector<std::vector<double>> times{
        {1, never, never, never}, {never, 1, never, never}, {never, never, 1, never}, {never, never, never, 1}};
    Devices d = gpus(4, 0);
    d.kind = {0, 1, 2, 3};
    for (auto& row : d.bytes_per_s) std::fill(row.begin(), row.end(), 1);  // 4 s per tile
    const auto step = [&] { return ListScheduler(p, times, d, false).search(50).front().step_s; };
    expect_close(step(), 1 + 4 + 1);
    d.links.assign(5, std::vector<std::vector<int>>(5));
    d.links[1][3] = {0}, d.links[2][4] = {0};
    d.link_bytes_per_s = {1};
    expect_close(step(), 4 + 4);
    d.link_bytes_per_s = {2};  // wide enough for both, once the second has waited for its turn
    expect_close(step(), 1 + 4 + 1);
    d.links[2][4] = {1};
    d.link_bytes_per_s = {1, 1};
    expect_close(step(), 1 + 4 + 1);
}

TEST(ListSchedule, FasterWorkersAreChosen) {
    const Plan p = by_hand(2, {{{0, rw}}, {{1, rw}}});
    Devices d = gpus(1, 0.1);
    d.kind.push_back(1), d.memory.push_back(0);  // and a core of the host
    expect_close(ListScheduler(p, {{1, 1}, {10, 10}}, d, false).search(50).front().step_s, 2);
    expect_close(ListScheduler(p, {{1, 1}, {1, 10}}, d, false).search(50).front().step_s, 1);
    expect_close(ListScheduler(p, {{1, never}, {never, 3}}, d, false).search(50).front().step_s, 3);
    EXPECT_THROW(ListScheduler(p, {{1, never}, {1, never}}, d, false), Error);
}

// A random plan in which every task writes a tile of its own or goes on with one.
Plan random_plan(Draw& draw, int tasks) {
    std::vector<std::vector<TileUse>> uses;
    for (int t = 0; t < tasks; ++t) {
        std::set<int> inputs;
        for (int64_t i = draw.whole(0, 3); i > 0 && t > 0; --i) inputs.insert(int(draw.whole(0, t - 1)));
        auto& use = uses.emplace_back();
        for (int tile : inputs) use.push_back({tile, r});
        use.push_back({t, draw.whole(0, 3) == 0 ? rw : w});
    }
    return by_hand(tasks, uses);
}

TEST(ListSchedule, IsFeasibleAndWithinTheBounds) {
    Draw draw{4};
    for (int round = 0; round < 40; ++round) {
        SCOPED_TRACE(round);
        const int tasks = int(draw.whole(1, 40)), workers = int(draw.whole(1, 4));
        const Plan p = random_plan(draw, tasks);
        std::vector<std::vector<double>> times(1);
        for (int t = 0; t < tasks; ++t) times[0].push_back(draw.real(0.1, 2));
        Devices d = gpus(workers, draw.real(0, 1));
        if (round % 2) d.fetch_s.assign(size_t(workers + 1), draw.real(0, 0.5));
        const ListScheduler s(p, times, d, false);
        const Placement greedy = s.greedy({}), best = s.search(400).front();
        const auto before = dependencies(p, false);
        double sum = 0;
        for (double t : times[0]) sum += t;
        for (const Placement& one : {greedy, best}) {
            std::vector<int> place(size_t(tasks), -1);
            for (size_t i = 0; i < one.order.size(); ++i) place[size_t(one.order[i])] = int(i);
            for (int t = 0; t < tasks; ++t) {
                ASSERT_GE(place[size_t(t)], 0);
                for (int b : before[size_t(t)]) EXPECT_LT(place[size_t(b)], place[size_t(t)]);
                EXPECT_TRUE(one.worker[size_t(t)] >= 0 && one.worker[size_t(t)] < workers);
            }
            const auto at = s.times(one);
            std::vector<double> free(size_t(workers), -never);
            for (int t : one.order) {
                const auto& [start, takes] = at[size_t(t)];
                EXPECT_EQ(takes, times[0][size_t(t)]);
                EXPECT_TRUE(start <= one.step_s * (1 + relative) - takes) << "it ends with its step";
                double& worker_free = free[size_t(one.worker[size_t(t)])];
                EXPECT_TRUE(start >= worker_free - relative) << "one task at a time";
                worker_free = start + takes;
                for (int b : before[size_t(t)])
                    EXPECT_TRUE(start >= at[size_t(b)].start_s + at[size_t(b)].takes_s - relative);
            }
            EXPECT_TRUE(one.step_s >= sum / workers * (1 - relative));
            expect_close(s.step_seconds(one), one.step_s);
        }
        EXPECT_TRUE(best.step_s <= greedy.step_s && best.step_s <= sum * (1 + relative));
        const Placement again = s.search(400).front();
        EXPECT_TRUE(again.worker == best.worker && again.order == best.order) << "the same seed, the same schedule";
    }
}

// Task 2 on the second GPU reads what 0 and 1 write on the first, after 1 and 5 s. Tiles take 2 s.
TEST(ListSchedule, TilesGoWhenTheirReaderIsReadyOrWhenTheyAreWritten) {
    const Plan p = by_hand(3, {{{0, w}}, {{1, w}}, {{0, r}, {1, r}, {2, w}}});
    Devices d = gpus(2, 2);
    const auto second_reads = [&](bool sent_on) {
        d.sent_on = sent_on;
        const ListScheduler s(p, {{1, 4, 1}}, d, false);
        return s.times({0, {0, 0, 1}, {0, 1, 2}})[2].start_s - s.times({0, {0, 0, 1}, {0, 1, 2}})[1].start_s;
    };
    expect_close(second_reads(false), 4 + 2 + 2);
    expect_close(second_reads(true), 4 + 2);
}

// The first GPU sends tile 0 only when its reader's other input is there, at 6; tile 2, booked later, is ready at 3.
TEST(ListSchedule, WithInsertionATransferGoesBeforeOneThatWaits) {
    const Plan p = by_hand(5, {{{0, w}}, {{1, w}}, {{0, r}, {1, r}, {3, w}}, {{0, r}, {2, w}}, {{2, r}, {4, w}}});
    // Workers 0 and 3 on the first GPU, 1 and 2 on the second.
    Devices d = gpus(2, 2);
    d.kind = {0, 0, 0, 0}, d.memory = {1, 2, 2, 1};
    const Placement placed{0, {0, 1, 1, 3, 2}, {0, 1, 2, 3, 4}};
    const auto last_starts = [&](bool insertion) {
        d.insertion = insertion;
        const ListScheduler s(p, {{1, 6, 1, 2, 1}}, d, false);
        return s.times(placed)[4].start_s - s.times(placed)[1].start_s;
    };
    expect_close(last_starts(false), 6 + 2 + 2);
    expect_close(last_starts(true), 1 + 2 + 2);
}

// Worker 0 waits 4 s for task 1, with room for task 3, which comes later in the order.
TEST(ListSchedule, WithInsertionATaskGoesBeforeOneThatWaits) {
    const Plan p = by_hand(4, {{{0, w}}, {{1, w}}, {{0, r}, {1, r}, {2, w}}, {{3, rw}}});
    Devices d = gpus(1, 0);
    d.kind = {0, 0}, d.memory = {1, 1};
    const Placement placed{0, {0, 1, 0, 0}, {0, 1, 2, 3}};
    const auto last_starts = [&](bool insertion) {
        d.insertion = insertion;
        const ListScheduler s(p, {{1, 5, 1, 3}}, d, false);
        return s.times(placed)[3].start_s - s.times(placed)[1].start_s;
    };
    expect_close(last_starts(false), 5 + 1);
    expect_close(last_starts(true), 1);
    EXPECT_EQ(ListScheduler(p, {{1, 5, 1, 3}}, d, false).by_start(placed).order, (std::vector{0, 1, 3, 2}));
}

// Tile 2 lies where tile 0 was: task 2 waits until task 1 has read that, though nothing says so but the memory.
TEST(ListSchedule, WhatTakesATilesMemoryWaitsForItsReaders) {
    Plan p = by_hand(3, {{{0, w}}, {{0, r}, {1, w}}, {{2, w}}});
    Devices d = gpus(1, 0);
    d.kind = {0, 0}, d.memory = {1, 1};
    const Placement placed{0, {0, 0, 1}, {0, 1, 2}};
    for (const bool insertion : {false, true}) {
        d.insertion = insertion;
        p.tiles[2].reuses = -1;
        const auto apart = ListScheduler(p, {{2, 3, 1}}, d, false).times(placed);
        EXPECT_LE(apart[2].start_s, apart[0].start_s);
        p.tiles[2].reuses = 0;
        const ListScheduler s(p, {{2, 3, 1}}, d, false);
        expect_close(s.times(placed)[2].start_s - s.times(placed)[1].start_s, 3);
        EXPECT_EQ(s.by_start(placed).order, (std::vector{0, 1, 2}));
    }
}

// Random plans whose activations take each other's memory, and tasks that take no time.
TEST(ListSchedule, InOrderOfTheirStartTasksComeBehindThoseThatTheyWaitFor) {
    Draw draw{11};
    int shared = 0;
    for (int round = 0; round < 200; ++round) {
        Plan p = random_plan(draw, 30);
        std::vector<double> times;
        for (int t = 0; t < 30; ++t) times.push_back(draw.whole(0, 3) ? draw.real(0, 1) : 0);
        reuse_memory(p, times, false);
        for (const PlanTile& tile : p.tiles) shared += tile.reuses >= 0;
        Devices d = gpus(3, draw.real(0, 0.1));
        d.insertion = true, d.fetch_s.assign(4, draw.real(0, 0.1));
        const ListScheduler s(p, {times}, d, false);
        const std::vector<int> order = s.by_start(s.greedy({})).order;
        std::vector<size_t> position(30);
        for (size_t i = 0; i < order.size(); ++i) position[size_t(order[i])] = i;
        const auto before = dependencies(p, false);
        for (size_t t = 0; t < 30; ++t)
            for (const int b : before[t])
                ASSERT_LT(position[size_t(b)], position[t]) << "task " << t << " waits for " << b;
    }
    EXPECT_GT(shared, 200);
}

// Idle times that steps leave to each other end some day.
TEST(ListSchedule, AStepTakesNoLessThanItsWorkers) {
    Draw draw{9};
    for (int round = 0; round < 20; ++round) {
        const Plan p = random_plan(draw, 12);
        Devices d = gpus(2, draw.real(0, 1));
        d.insertion = true;
        std::vector<double> times;
        for (int t = 0; t < 12; ++t) times.push_back(draw.real(0.1, 2));
        const ListScheduler s(p, {times}, d, false);
        const Placement best = s.search(300).front();
        double work[2] = {0, 0};
        for (size_t t = 0; t < 12; ++t) work[best.worker[t]] += times[t];
        EXPECT_GE(best.step_s, std::max(work[0], work[1]) * (1 - relative));
        EXPECT_LE(s.search(300, {best}, 2).front().step_s, best.step_s) << "never worse than where it starts";
    }
}

// The second GPU is busy for 5 s; the tile that it reads then has come after 3.
TEST(ListSchedule, AFetchTakesTimeOfTheWorkerToo) {
    const Plan p = by_hand(3, {{{0, w}}, {{1, w}}, {{0, r}, {2, w}}});
    Devices d = gpus(2, 2);
    const auto third_starts = [&] {
        const ListScheduler s(p, {{1, 5, 1}}, d, false);
        return s.times({0, {0, 1, 1}, {0, 1, 2}})[2].start_s - s.times({0, {0, 1, 1}, {0, 1, 2}})[1].start_s;
    };
    expect_close(third_starts(), 5);
    d.fetch_s = {0, 0, 0.5};
    expect_close(third_starts(), 5.5);
    d.fetch_s = {9, 9, 0};
    expect_close(third_starts(), 5);
}

// Steps of 1 to 3 s by three schedules, each followed by steps that were submitted before the next was known.
TEST(ScheduleTrial, KeepsTheScheduleWhoseStepsAreShortest) {
    const double step_s[] = {2, 1, 3};
    ScheduleTrial trial(3);
    EXPECT_FALSE(trial.over());
    std::vector<size_t> submitted;
    double now = 0;
    int64_t number = 0;
    const auto step = [&] {
        submitted.push_back(trial.current());
        if (submitted.size() < 4) return;  // in flight
        const size_t ends = submitted[submitted.size() - 4];
        now += step_s[ends];
        trial.ended(number++, ends, now);
    };
    while (!trial.over() && number < 100) step();
    EXPECT_EQ(trial.current(), 1u);
    EXPECT_LT(number, 3 * (ScheduleTrial::warm + ScheduleTrial::timed + 4) + 4);
    for (int i = 0; i < 20; ++i) step();
    EXPECT_EQ(trial.current(), 1u) << "for good";
}

TEST(ScheduleTrial, OneStepThatWaitedDoesNotDecide) {
    ScheduleTrial trial(2);
    double now = 0;
    for (int64_t number = 0; !trial.over() && number < 100; ++number) {
        const size_t by = trial.current();
        now += by == 0 ? (number == ScheduleTrial::warm + 2 ? 100 : 1) : 1.5;
        trial.ended(number, by, now);
    }
    EXPECT_TRUE(trial.over());
    EXPECT_EQ(trial.current(), 0u);
}

TEST(ScheduleTrial, StepsOfOtherPlansBetweenAreNotTimed) {
    ScheduleTrial trial(2);
    for (int64_t number = 0; number < 200; number += 2) trial.ended(number, trial.current(), double(number));
    EXPECT_FALSE(trial.over());
    EXPECT_EQ(trial.current(), 0u);
}

TEST(ScheduleTrial, OneScheduleNeedsNone) { EXPECT_TRUE(ScheduleTrial(1).over()); }

using Sends = std::vector<Send>;

TEST(Sends, GoWhereATileIsRead) {
    // Weights 0, read at first and updated at last; 1 is read in three memories; 2 is read where it is written.
    Plan p = by_hand(
        4, {{{0, r}, {1, w}}, {{1, r}, {2, w}}, {{1, r}, {2, rw}}, {{1, r}, {3, w}}, {{2, r}, {3, r}, {0, rw}}});
    TaskSchedule schedule;
    schedule.tasks.resize(5);
    EXPECT_EQ(sends_of(p, schedule), std::vector<Sends>(5)) << "without places there are none";
    const int places[] = {1, 2, 2, 3, 2};
    for (size_t t = 0; t < p.tasks.size(); ++t) schedule.tasks[t].place = places[t];
    const std::vector<Sends> expected = {
        {{1, 2, 1, false}, {1, 3, 3, false}}, {}, {}, {{1, 2, 4, false}}, {{2, 1, 0, true}}};
    EXPECT_EQ(sends_of(p, schedule), expected);
}

}  // namespace
}  // namespace tessera
