// Choosing implementations for the company that tasks have: which tasks run side by side, what is chosen from measured
// times, that times alone stay as they are, and that what is chosen is what runs.
#include "models/corun.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "codelets/ops.h"
#include "core/runtime.h"
#include "tests/child.h"
#include "tests/plans_by_hand.h"
#include "tests/tiny_training.h"

namespace tessera {
namespace {

using testing_tools::TemporaryFolder;

constexpr Access r = Access::read, w = Access::write;
constexpr ModelDevice cores{}, gpu{1, 0, 1};

// 0 -> {1, 2} -> 3
Plan diamond() { return by_hand(4, {{{0, w}}, {{0, r}, {1, w}}, {{0, r}, {2, w}}, {{1, r}, {2, r}, {3, w}}}); }

TEST(PairsSideBySide, WhatOverlapsOnThoseWorkers) {
    const auto pairs = pairs_side_by_side(diamond(), {0, 1, 2, 3}, {1, 2, 5, 3}, 2);
    ASSERT_EQ(pairs.size(), 1u);
    EXPECT_EQ(std::pair(pairs[0].first, pairs[0].second), (std::pair<size_t, size_t>{1, 2}));
    EXPECT_DOUBLE_EQ(pairs[0].seconds, 2);
    EXPECT_TRUE(pairs_side_by_side(diamond(), {0, 1, 2, 3}, {1, 2, 5, 3}, 1).empty());
}

TEST(PairsSideBySide, TheLongestFirstAndAClassBesideItself) {
    // Six tasks that wait for nothing on three workers: 0, 1, 2 of class 0 and 3, 4, 5 of class 1.
    const Plan p = by_hand(6, {{{0, w}}, {{1, w}}, {{2, w}}, {{3, w}}, {{4, w}}, {{5, w}}});
    const auto pairs = pairs_side_by_side(p, {0, 0, 0, 1, 1, 1}, {4, 4, 4, 1, 1, 1}, 3);
    ASSERT_EQ(pairs.size(), 2u);
    EXPECT_EQ(pairs[0].first + pairs[0].second, 0u);
    EXPECT_DOUBLE_EQ(pairs[0].seconds, 3 * 4);
    EXPECT_EQ(std::pair(pairs[1].first, pairs[1].second), (std::pair<size_t, size_t>{1, 1}));
    EXPECT_DOUBLE_EQ(pairs[1].seconds, 3 * 1);
}

// Two products of different sizes that wait for nothing, and a machine whose cores know their times alone.
struct TwoProducts {
    TemporaryFolder folder{"corun"};
    Graph graph;
    std::vector<Tensor> inputs;
    Plan plan;
    CoRunTask small[2], large[2];

    TwoProducts() {
        const auto product = [&](const char* name, int64_t n) {
            for (const char* side : {"a", "b"})
                inputs.push_back(graph.value(side + std::string(name), {n, n}, DType::f32));
            graph.keep(gemm(inputs[inputs.size() - 2], inputs.back()));
        };
        product("small", 128), product("large", 192);
        plan = Plan(graph);
        std::filesystem::create_directories(folder.path / "bus");
        std::filesystem::create_directories(folder.path / "codelets" / "45");
        std::ofstream(folder.path / "bus" / "here.config") << "1\n";
        const Machine machine(folder.path);
        for (int i : {0, 1}) {
            small[i] = {plan.tasks[0].codelet->name, plan.tasks[0].footprint, i};
            large[i] = {plan.tasks[1].codelet->name, plan.tasks[1].footprint, i};
        }
        ModelFile model;
        for (const ModelDevice& device : {cores, gpu})
            for (int i : {0, 1}) {
                model.set(device, i, entry_of(small[i].footprint, 1, 1, std::vector<double>(10, 10.0 + i)));
                model.set(device, i, entry_of(large[i].footprint, 1, 1, std::vector<double>(10, 12.0 + i)));
            }
        write_model(machine.model_path(small[0].codelet), model);
    }
    Machine machine(double both_0_us, double mixed_us, double both_1_us, const ModelDevice& device = cores) const {
        Machine m(folder.path);
        for (int i : {0, 1})
            for (int j : {0, 1}) {
                const double us = i + j == 0 ? both_0_us : i + j == 1 ? mixed_us : both_1_us;
                m.facts.together_us[{device, small[i], large[j]}] = us;
                m.facts.together_us[{device, large[j], small[i]}] = us;
            }
        return m;
    }
};

TEST(ChooseTogether, WhatIsBestAloneGivesWayToWhatIsBestInCompany) {
    TwoProducts t;
    ASSERT_NE(t.small[0].footprint, t.large[0].footprint);
    const JointChoice choice = choose_together(t.plan, t.machine(40, 30, 14), cores, 2);
    ASSERT_EQ(choice.changes.size(), 2u);
    for (const auto& change : choice.changes) EXPECT_EQ(std::pair(change.alone, change.together), std::pair(0, 1));
    for (const TaskSpec& task : t.plan.tasks) EXPECT_EQ(task.chosen, (std::array<int, 2>{1, -1}));
    EXPECT_LT(choice.together_s, 0.5 * choice.alone_s);
}

TEST(ChooseTogether, NothingChangesWithoutNeed) {
    TwoProducts t;
    EXPECT_TRUE(choose_together(t.plan, t.machine(13, 14, 14), cores, 2).changes.empty()) << "no better in company";
    EXPECT_TRUE(choose_together(t.plan, Machine(t.folder.path), cores, 2).changes.empty()) << "nothing measured";
    EXPECT_TRUE(choose_together(t.plan, t.machine(40, 30, 14), cores, 1).changes.empty()) << "no company";
    EXPECT_TRUE(choose_together(t.plan, t.machine(40, 30, 14, gpu), cores, 2).changes.empty()) << "another device";
    for (const TaskSpec& task : t.plan.tasks) EXPECT_EQ(task.chosen, (std::array<int, 2>{-1, -1}));
}

TEST(GainOfCompany, TwiceTheTimesAloneByThoseInCompany) {
    TwoProducts t;
    EXPECT_DOUBLE_EQ(gain_of_company(Machine(t.folder.path), cores), 1);
    Machine m(t.folder.path);
    m.facts.together_us[{cores, t.small[0], t.large[0]}] = 10;  // 10 alone: for nothing
    m.facts.together_us[{cores, t.large[0], t.small[0]}] = 24;  // 12 alone: half as fast
    EXPECT_DOUBLE_EQ(gain_of_company(m, cores), (2 * 10.0 / 10 + 2 * 12.0 / 24) / 2);
    EXPECT_DOUBLE_EQ(gain_of_company(m, gpu), 1);
}

TEST(Facts, TimesInCompanyReadBackEqualAndDamageIsNamed) {
    TwoProducts t;
    const auto written = t.machine(40, 1.0 / 3, 14, gpu).facts;
    write_facts(t.folder.path, written);
    EXPECT_EQ(read_facts(t.folder.path).together_us, written.together_us);
    EXPECT_EQ(read_facts(t.folder.path).together_us.size(), 8u);
    std::ofstream(t.folder.path / "tessera.json") << R"({"version": 1, "name": "", "description": "", "starpu": "",
        "date": "", "command": "", "derived": "", "devices": [], "codelets": {},
        "together": [{"device": "cpu", "task": ["gemm_f32", "xyz", 0], "beside": ["gemm_f32", "1", 0], "us": 1}]})";
    try {
        read_facts(t.folder.path);
        ADD_FAILURE() << "'xyz' was taken for a footprint";
    } catch (const Error& e) { EXPECT_NE(std::string(e.what()).find("tessera.json"), std::string::npos) << e.what(); }
}

TEST(MeasureTogether, KeepsTimesInCompanyBesideTheOthersAndOnce) {
    TwoProducts t;
    const Runtime runtime(testing_tools::with_workers(2));
    Machine machine(t.folder.path);
    const ModelFile before = machine.model(t.small[0].codelet);
    CoRunOptions options;
    EXPECT_EQ(measure_together(runtime, machine, t.plan, {}, options), 4);
    EXPECT_EQ(machine.model(t.small[0].codelet), before);
    const auto times = read_facts(t.folder.path).together_us;
    EXPECT_EQ(times.size(), 8u);
    for (const auto& [pair, us] : times) EXPECT_TRUE(us > 0 && std::isfinite(us));
    EXPECT_EQ(measure_together(runtime, machine, t.plan, {}, options), 0) << "all is there";
    options.reset = true, options.pairs = 0;
    EXPECT_EQ(measure_together(runtime, machine, t.plan, {}, options), 0) << "no pair is wanted";
    options.pairs = 1;
    EXPECT_EQ(measure_together(runtime, machine, t.plan, {}, options), 4) << "again";
}

TEST(Chosen, IsWhatRunsUnlessBitsMustBeTheSame) {
    const Runtime runtime(testing_tools::with_workers(2));
    for (bool deterministic : {false, true})
        for (int implementation : {0, 1}) {
            TwoProducts t;
            for (TaskSpec& task : t.plan.tasks) task.chosen = {implementation, -1};
            Trace trace;
            ExecutorOptions options;
            options.trace = &trace, options.deterministic = deterministic;
            Executor executor(runtime, options);
            const int number = executor.load(t.plan);
            for (Tensor x : t.inputs) executor.write(number, x, std::vector<double>(size_t(x.shape().size()), 0.5));
            for (int i = 0; i < 8; ++i) executor.submit(number, {});
            executor.wait();
            int64_t tasks = 0;
            for (const auto& worker : trace.data({&executor.plan(number)}).tasks)
                for (const TaskEvent& e : worker) {
                    EXPECT_EQ(e.implementation, deterministic ? 0 : implementation);
                    ++tasks;
                }
            EXPECT_EQ(tasks, 16);
        }
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) { return tessera::testing_tools::engine_main(argc, argv, {}); }
