// Checks every op's CUDA bodies as op_test checks those for the CPU, on an emulated device: tests/emulated_cuda. --seed
// N repeats a run. No proof of speed, nor of what only hardware does; of indices, formulas, barriers and library calls.
#include <gtest/gtest.h>

#include <cstdio>

#include "op_check.h"

namespace tessera::test {
namespace {

TEST(EmulatedCuda, EveryCodeletThatWorksOnTilesHasABody) {
    for (const CodeletInfo* c : all_codelets()) {
        if (c->host_only || !*c->source_hash) continue;  // without one, it is a test's own
        ASSERT_FALSE(c->cuda.empty()) << c->name;
        for (size_t i = 0; i < c->cuda.size(); ++i) EXPECT_TRUE(c->starpu->cuda_funcs[i]) << c->name << ' ' << i;
    }
}

}  // namespace
}  // namespace tessera::test

int main(int argc, char** argv) {
    using namespace tessera::test;
    testing::InitGoogleTest(&argc, argv);
    take_seed(argc, argv);
    interpreted() = Bodies::cuda;
    if (testing::GTEST_FLAG(filter) == "*")  // implicit products on the device need no workspace
        testing::GTEST_FLAG(filter) = "-Conv2d.AWorkspaceForNoAlgorithmIsAnError";
    register_tests();
    std::printf("seed %llu\n", static_cast<unsigned long long>(run_seed()));
    return RUN_ALL_TESTS();
}
