// Peaks of workers, measured with tasks pinned to them, and counters of what workers did.
#include <gtest/gtest.h>
#include <starpu.h>
#include <unistd.h>

#include <filesystem>

#include "apps/summary.h"
#include "apps/worker_peaks.h"
#include "codelets/ops.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

// Models of this test's own: what stays behind can be seen.
class Workers : public testing::Test {
 protected:
    const fs::path folder_ = fs::temp_directory_path() / ("workers_test-" + std::to_string(getpid()));
    void SetUp() override { setenv("STARPU_PERF_MODEL_DIR", folder_.c_str(), 1); }
    void TearDown() override {
        unsetenv("STARPU_PERF_MODEL_DIR");
        fs::remove_all(folder_);
    }
    RuntimeOptions with_cores(int n) const {
        RuntimeOptions o;
        o.cpu_workers = n;
        return o;
    }
};

TEST_F(Workers, PeaksOfEachKindAndNoModelIsKept) {
    {
        const Runtime runtime(with_cores(2));
        for (const bool cuda : {false, true}) {
            const auto all = measure_workers(runtime, cuda, 0.2);
            if (!cuda) {
                EXPECT_EQ(int(all.size()), runtime.cpu_workers());
            } else {
                EXPECT_EQ(all.empty(), runtime.cuda_workers() == 0);
            }
            for (const WorkerPeaks& p : all) {
                EXPECT_EQ(p.worker.cuda, cuda);
                EXPECT_EQ(p.best.device.type, cuda ? 1 : 0);
                EXPECT_TRUE(p.best.measured);
                EXPECT_FALSE(p.best.name.empty());
                for (const double figure :
                     {p.best.f32_gflops, p.best.f64_gflops, p.best.bf16_gflops, p.best.gbytes_per_s}) {
                    EXPECT_GT(figure, 0) << p.worker.name;
                    EXPECT_LT(figure, 1e7) << p.worker.name;
                }
            }
            EXPECT_NE(starpu_profiling_status_get(), STARPU_PROFILING_ENABLE) << "it was off before";
        }
    }
    std::error_code none;
    for (const auto& file : fs::directory_iterator(folder_ / "codelets" / "45", none))
        ADD_FAILURE() << file.path() << " was kept";
}

TEST(WorkerPeaks, OddOnesAreNamed) {
    WorkerPeaks p;
    p.worker.name = "CUDA 0";
    p.best.f32_gflops = 50000, p.best.f64_gflops = 70000, p.best.bf16_gflops = 100000, p.best.gbytes_per_s = 3000;
    DeviceFacts published;
    published.f32_gflops = published.f64_gflops = 67000, published.bf16_gflops = 989000;  // GB/s: nobody says
    const auto lines = odd_peaks(p, published);
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_NE(lines[0].find("CUDA 0: 70000.0 f64 GFLOP/s, but 67000.0"), std::string::npos) << lines[0];
    EXPECT_NE(lines[1].find("another program"), std::string::npos) << lines[1];
}

// Sums belong to their reader: one of a second run, with more workers, begins anew.
TEST_F(Workers, CountersOfEachRunAreItsOwn) {
    for (const int cores : {1, 3}) {
        const Runtime runtime(with_cores(cores));
        Executor executor(runtime, {});
        Graph g;
        const Shape shape{256, 256};
        const Tensor a = fill(g, shape, DType::f32, Grid::whole(shape), 0.5);
        g.keep(gemm(a, a));
        const int plan = executor.load(Plan(g));
        WorkerCounters counters(runtime, executor);
        starpu_profiling_status_set(STARPU_PROFILING_ENABLE);
        WorkerClock last = counters.now();
        ASSERT_EQ(last.transfer_s.size(), runtime.workers().size());
        for (const double s : last.transfer_s) EXPECT_LT(s, 1);
        for (int i = 0; i < 3; ++i) {
            executor.submit(plan, {});
            executor.wait();
            const WorkerClock now = counters.now();
            double busy_s = 0;
            for (size_t w = 0; w < now.busy_s.size(); ++w) {
                EXPECT_GE(now.busy_s[w], last.busy_s[w]);
                EXPECT_GE(now.transfer_s[w], last.transfer_s[w]);
                busy_s += now.busy_s[w] - last.busy_s[w];
            }
            EXPECT_GT(busy_s, 0);
            last = now;
        }
        starpu_profiling_status_set(STARPU_PROFILING_DISABLE);
    }
}

}  // namespace
}  // namespace tessera
