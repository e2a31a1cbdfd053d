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
        EXPECT_TRUE(held.contains(c)) << c->name << " is in no plan: add it to apps/all_ops.cpp";
    EXPECT_EQ(held.size(), all_codelets().size());
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
    EXPECT_LE(classes.size(), 700u);
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
            if (t.codelet->op.starts_with("load_")) rows = std::max(rows, plan.tiles[size_t(t.tiles[0].tile)].rows);
    ASSERT_GT(rows, 0);
    const Step step = all.step();
    for (int64_t i = 0; i < rows; ++i) EXPECT_TRUE(step.batch[i] >= 0 && step.batch[i] < AllOps::samples) << i;
}

}  // namespace
}  // namespace tessera
