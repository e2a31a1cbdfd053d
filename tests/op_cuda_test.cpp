// Checks every op's CUDA bodies through the executor, on CUDA workers only. Ends with 77 if there is none.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"
#include "op_check.h"

namespace {

int skip(const char* why) {
    std::printf("SKIPPED: %s\n", why);
    return 77;
}

}  // namespace

int main(int argc, char** argv) {
    using namespace tessera;
    testing::InitGoogleTest(&argc, argv);
    test::take_seed(argc, argv);
    const auto& all = all_codelets();
    if (std::none_of(all.begin(), all.end(), [](auto* c) { return c->starpu->cuda_funcs[0]; }))
        return skip("this build has no CUDA bodies");
    setenv("STARPU_NCPU", "0", 1);
    try {
        const Runtime runtime;
        if (runtime.cuda_workers() == 0) return skip("no CUDA worker");
        if (testing::GTEST_FLAG(filter) == "*") testing::GTEST_FLAG(filter) = "*_cuda*";
        test::register_cuda_tests(runtime);
        std::printf("seed %llu\n", static_cast<unsigned long long>(test::run_seed()));
        return RUN_ALL_TESTS();
    } catch (const std::exception& e) {
        if (std::string(e.what()).starts_with("no worker")) return skip("no CUDA worker");
        std::fprintf(stderr, "error: %s\n", e.what());
        return 1;
    }
}
