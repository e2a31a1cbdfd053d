// memory_limit_test.cpp - executors in little host memory, with a disk below: the same losses, and what is refused.
#include <linux/capability.h>
#include <starpu.h>
#include <sys/syscall.h>

#include <cstdio>

#include "codelets/ops.h"
#include "core/executor.h"
#include "tests/child.h"
#include "tests/tiny_training.h"

namespace tessera {
namespace {

using namespace testing_tools;

// Arguments: host limit in bytes or "-", swap folder or "-"; a third: without root's right to write to any
// folder. Weights of about 23 MB, as much momentum and gradients.
int limit_role(const std::vector<std::string>& arguments) {
    if (arguments.size() > 2) {
        __user_cap_header_struct of_this{_LINUX_CAPABILITY_VERSION_3, 0};
        __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
        check_system(syscall(SYS_capset, &of_this, none) == 0, "cannot give up capabilities");
    }
    RuntimeOptions o;
    o.cpu_workers = 2;
    if (arguments[0] != "-") o.host_memory_bytes = std::stoll(arguments[0]);
    if (arguments[1] != "-") o.swap = arguments[1];
    Runtime runtime(o);
    TinyTraining t;
    t.network.hidden = {2048, 2048}, t.network.tile_features = 512;
    t.train.batch = 32, t.steps = 4;
    t.executor.deterministic = true;
    t.executor.in_place = false;
    const Dataset data = make_digits(128, 1);
    const auto look_at_disk = [](Executor& executor) {
        const auto bytes = executor.live_bytes();
        for (unsigned node = 0; node < bytes.size(); ++node)
            if (starpu_node_get_kind(node) == STARPU_DISK_RAM && bytes[node] > 0) std::fputs("tiles on disk\n", stderr);
    };
    for (double loss : losses_of(runtime, t, data, look_at_disk)) std::printf("%a\n", loss);
    return 0;
}

// A product in blocks whose tiles of A and B have 62 MiB and take 64, as those of C (core/tile_sizes.h). Argument:
// swap.
int uneven_role(const std::vector<std::string>& arguments) {
    RuntimeOptions o = with_workers(1);
    o.host_memory_bytes = int64_t(190) << 20, o.swap = arguments[0];
    Runtime runtime(o);
    constexpr int64_t extent = 2 * 4096, inner = 2 * 3968;
    Params params;
    Graph g;
    const auto value = [&](const char* name, int64_t rows, int64_t cols) {
        const Grid grid{{rows / 2, rows / 2}, {cols / 2, cols / 2}};
        return g.param(params.add({name, {rows, cols}, DType::f32, grid, nullptr, false}));
    };
    const Tensor a = value("a", extent, inner), b = value("b", inner, extent);
    g.keep(gemm(a, b));
    ExecutorOptions options;
    options.in_place = false;
    options.devices.emplace_back().memory_bytes = *o.host_memory_bytes;
    Executor(runtime, options).load(Plan(g));
    return 0;
}

TEST(MemoryLimit, CountsWhatTilesTake) {
    const TemporaryFolder swap("swap");
    const Outcome o = run_role("uneven", {swap.path.string()});
    EXPECT_EQ(o.code, 1) << o.all();
    EXPECT_NE(o.err.find("needs " + std::to_string(3 * (int64_t(64) << 20)) + " bytes"), std::string::npos) << o.all();
}

TEST(MemoryLimit, TrainingThroughDiskGivesTheSameLosses) {
    const Outcome free = run_role("limit", {"-", "-"});
    ASSERT_EQ(free.code, 0) << free.all();
    const TemporaryFolder swap("swap");
    for (int64_t mib : {48, 32}) {
        const Outcome limited = run_role("limit", {std::to_string(mib << 20), swap.path.string()}, {}, 100);
        ASSERT_EQ(limited.code, 0) << mib << " MiB: " << limited.all();
        EXPECT_EQ(limited.out, free.out) << mib << " MiB";
        EXPECT_NE(limited.err.find("tiles on disk"), std::string::npos) << limited.err;
    }
}

void expect_refused(const std::vector<std::string>& arguments, int code, const std::string& message) {
    const Outcome o = run_role("limit", arguments);
    EXPECT_EQ(o.code, code) << o.all();
    EXPECT_NE(o.err.find(message), std::string::npos) << o.all();
}

TEST(MemoryLimit, BelowOneTaskIsRefusedByName) {
    const TemporaryFolder swap("swap");
    expect_refused({"1048576", swap.path.string()}, 1, "largest task");
}
TEST(MemoryLimit, AMissingSwapFolderIsNotMade) {
    const TemporaryFolder swap("swap");
    const auto missing = swap.path / "not there";
    expect_refused({"67108864", missing.string()}, 1, "is not there");
    EXPECT_FALSE(std::filesystem::exists(missing));
}
TEST(MemoryLimit, AReadOnlySwapFolderIsRefused) {
    expect_refused({"67108864", "/proc"}, 1, "cannot write to the swap folder '/proc'");  // not even root can
    const TemporaryFolder swap("swap");
    std::filesystem::permissions(swap.path, std::filesystem::perms(0555));
    expect_refused({"67108864", swap.path.string(), "without rights"}, 1, "cannot write to the swap folder");
}
TEST(MemoryLimit, LimitAndSwapNeedEachOther) {
    const TemporaryFolder swap("swap");
    expect_refused({"67108864", "-"}, 2, "--host-memory needs --swap");
    expect_refused({"-", swap.path.string()}, 2, "--swap does nothing without --host-memory");
    expect_refused({"1000", swap.path.string()}, 2, "at least 1M");
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
    using namespace tessera;
    return testing_tools::engine_main(argc, argv, {{"limit", limit_role}, {"uneven", uneven_role}});
}
