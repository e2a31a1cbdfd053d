// What `calibrate --all` measures: every codelet of the program, at sizes that a machine gets through in minutes.
#include "apps/all_ops.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace tessera {
namespace {

TEST(AllOps, HoldEveryCodelet) {
    const AllOps all;
    std::set<const CodeletInfo*> held;
    for (const Plan& plan : all.plans)
        for (const TaskSpec& t : plan.tasks) held.insert(t.codelet);
    for (const CodeletInfo* c : all_codelets())
        EXPECT_TRUE(held.contains(c) || c->host_only)
            << c->name << " is in no example: codelets/" << c->source << " needs an Example with it (core/examples.h)";
}

TEST(AllOps, AreMeasuredInMinutes) {
    const AllOps all;
    std::map<std::pair<const CodeletInfo*, uint32_t>, double> classes;
    for (const Plan& plan : all.plans) {
        EXPECT_FALSE(plan.tasks.empty());
        EXPECT_LT(plan.tasks.size(), 200u);
        EXPECT_LE(plan.largest_task_bytes(), int64_t(64) << 20);
        const auto times = estimated_times(plan);
        for (size_t i = 0; i < times.size(); ++i) classes[{plan.tasks[i].codelet, plan.tasks[i].footprint}] = times[i];
    }
    double seconds = 0;
    for (const auto& [what, time] : classes) seconds += time;
    EXPECT_LE(classes.size(), 1200u);
    EXPECT_LT(12 * seconds, 120);
    RecordProperty("classes", int(classes.size()));
}

TEST(AllOps, HaveProductsWithAllTransposesInAllTypes) {
    const AllOps all;
    for (const char* name : {"gemm_f32", "gemm_f64", "gemm_bf16"}) {
        std::set<uint32_t> footprints;
        for (const Plan& plan : all.plans)
            for (const TaskSpec& t : plan.tasks)
                if (t.codelet->name == name && plan.tiles[size_t(t.tiles[0].tile)].rows == 512 &&
                    plan.tiles[size_t(t.tiles[0].tile)].cols == 512 && t.cost.flops == 2.0 * 512 * 512 * 512)
                    footprints.insert(t.footprint);
        EXPECT_EQ(footprints.size(), 8u) << name << ": 4 transposes, overwriting and adding";
    }
}

// The plans point to samples that live as long as AllOps.
TEST(AllOps, GiveABatchWithinTheSamples) {
    const AllOps all;
    int64_t rows = 0;
    for (const Plan& plan : all.plans)
        for (const TaskSpec& t : plan.tasks)
            if (t.codelet->op == "load_features" || t.codelet->op == "load_labels")
                rows = std::max(rows, plan.tiles[size_t(t.tiles[0].tile)].rows);
    ASSERT_GT(rows, 0);
    ASSERT_LE(rows, example_batch);
    const Step step = all.step();
    for (int64_t i = 0; i < rows; ++i) EXPECT_TRUE(step.batch[i] >= 0 && step.batch[i] < example_samples) << i;
}

TEST(AllOps, HaveEveryCodelet) {
    const AllOps all;
    std::set<const CodeletInfo*> measured;
    for (const Plan& plan : all.plans)
        for (const TaskSpec& t : plan.tasks) measured.insert(t.codelet);
    for (const CodeletInfo* c : all_codelets())
        EXPECT_TRUE(measured.contains(c) || c->host_only) << "no Example has " << c->name << " of " << c->source;
}

TEST(AllOps, ComeFromEachFileInEachOfItsTypesAtEachSize) {
    std::map<std::string, const Example*> one_of;
    for (const Example* e : all_examples()) one_of.emplace(e->file, e);
    ASSERT_TRUE(one_of.contains("relu.cu") && one_of.contains("copy.cu"));
    EXPECT_EQ(one_of["relu.cu"]->types, (std::vector{DType::f32, DType::f64, DType::bf16}));
    EXPECT_EQ(one_of["copy.cu"]->types.size(), 5u);
    EXPECT_EQ(one_of["relu.cu"]->builds.size(), std::size(activation_sizes));
}

// Tasks of several examples point to what they share.
TEST(AllOps, ShareObjectsByTheirType) {
    ExampleObjects objects;
    ExampleGraph first(DType::f32, {}, objects), second(DType::f64, {}, objects);
    first.shared<std::vector<int>>().push_back(7);
    EXPECT_EQ(&first.shared<std::vector<int>>(), &second.shared<std::vector<int>>());
    EXPECT_EQ(second.shared<std::vector<int>>().size(), 1u);
    EXPECT_TRUE(second.shared<std::vector<double>>().empty());
}

}  // namespace
}  // namespace tessera
