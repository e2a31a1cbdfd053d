// Estimates against values computed by hand, and what check_models() finds in models that were poisoned one way each.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/error.h"
#include "models/check.h"
#include "models/estimate.h"

namespace tessera {
namespace {
namespace fs = std::filesystem;

// Codelets of this test: a product in two types, with an alternative on CPU cores, and an op that moves bytes.
template <class T>
struct Product {
    static constexpr auto name = "gemm_of_models_test", formula = "y = x x";
    static constexpr DType dtype = dtype_of<T>;
    using Args = NoArgs;
    static Cost cost(Args, In<T> x, Out<T> y) { return {2 * double(x.cols) * double(y.size()), bytes_of_views(x, y)}; }
    static void cpu(Args, In<T>, Out<T>) {}
    static void other(Args, In<T>, Out<T>) {}
    static void cuda(Args, In<T>, Out<T>, Stream) {}
    static constexpr std::tuple cpu_alternatives{Named{"other", &other}};
};
struct Move {
    static constexpr auto name = "move_of_models_test", formula = "y = x";
    static constexpr DType dtype = DType::f32;
    using Args = NoArgs;
    static Cost cost(Args, In<float> x, Out<float> y) { return {0, bytes_of_views(x, y)}; }
    static void cpu(Args, In<float>, Out<float>) {}
    static void cuda(Args, In<float>, Out<float>, Stream) {}
};
const Register<Product<float>, Product<double>, Move> codelets;
const CodeletInfo &gemm_f32 = Codelet<Product<float>>::info(), &gemm_f64 = Codelet<Product<double>>::info(),
                  &move_f32 = Codelet<Move>::info();

constexpr ModelDevice cpu{}, gpu{1, 0, 1};

// A plan of one task of that cost over a tile of 8 x 8.
Plan one_task(const CodeletInfo& codelet, uint32_t footprint, double flops, double bytes) {
    Graph g;
    g.value("t", {8, 8}, DType::f32, {{8}, {8}});
    Plan plan(g);
    plan.nodes.push_back({"op", "layer", "alpha=1"});
    TaskSpec task;
    task.codelet = &codelet, task.footprint = footprint, task.cost = {flops, bytes};
    task.tiles = {{0, Access::read}, {0, Access::write}};
    plan.tasks.push_back(task);
    return plan;
}

class Models : public testing::Test {
 protected:
    Models() : folder_(fs::temp_directory_path() / ("models_check_test-" + std::to_string(getpid()))) {
        fs::remove_all(folder_);
        fs::create_directories(folder_ / "bus");
        fs::create_directories(folder_ / "codelets" / "45");
        std::ofstream(folder_ / "bus" / "box.config") << "# Current configuration\n";
    }
    ~Models() override { fs::remove_all(folder_); }

    static void add(ModelFile& file, const ModelDevice& device, uint32_t footprint, double flops, double time_us) {
        file.set(device, 0,
                 entry_of(footprint, std::llround(12 * std::pow(flops / 2, 2.0 / 3)), flops,
                          std::vector<double>(20, time_us)));
    }
    // Time that complete_models() gives the one task.
    double estimate(Machine& m, const Plan& plan, const ModelDevice& device, int implementation = 0) {
        done_ = complete_models(m, {&plan}, {device}, "tessera calibrate train mlp");
        const TaskSpec& task = plan.tasks[0];
        const ModelFile model = m.model(task.codelet->name);
        const ModelEntry* e = model.find(device, implementation, task.footprint);
        return e ? e->mean_us : NAN;
    }
    Origin origin(const Machine& m, const Plan& plan, const ModelDevice& device) {
        return m.facts.entry(plan.tasks[0].codelet->name, plan.tasks[0].footprint)->on(device);
    }

    fs::path folder_;
    Completion done_;
};

TEST_F(Models, ProductsAreMappedByRate) {
    Machine m(folder_);
    ModelFile chol;  // 64^3 at 10 GFLOP/s, 1024^3 at 50
    const double small = 2 * std::pow(64, 3), large = 2 * std::pow(1024, 3);
    add(chol, gpu, 1, small, small / 10e3);
    add(chol, gpu, 2, large, large / 50e3);
    add(chol, gpu, 3, 2 * 8 * 8 * 8, 0.1);           // no launch is that fast: somebody wrote it
    chol.arch(gpu).implementations[0][0].flops = 0;  // by its size, then: 3 tiles of 64 x 64
    write_model(m.model_path("chol_model_gemm"), chol);
    const auto time_of = [&](uint32_t footprint, double n) {
        return estimate(m, one_task(gemm_f32, footprint, 2 * n * n * n, 1), gpu);
    };
    EXPECT_NEAR(time_of(10, 256), 2 * std::pow(256, 3) / 30e3, 1e-6) << "halfway between 64 and 1024 in log n";
    EXPECT_NEAR(time_of(11, 128), 2 * std::pow(128, 3) / 20e3, 1e-6);
    EXPECT_NEAR(time_of(12, 1024), large / 50e3, 1e-6);
    EXPECT_NEAR(time_of(13, 4096), 2 * std::pow(4096, 3) / 50e3, 1e-3) << "clamped to the largest";
    EXPECT_NEAR(time_of(14, 48), 2 * std::pow(48, 3) / 10e3, 1e-6) << "and to the smallest";
    EXPECT_NEAR(time_of(15, 4), launch_overhead_us(gpu), 1e-9) << "but no launch is faster than a launch";
    EXPECT_EQ(origin(m, one_task(gemm_f32, 10, 1, 1), gpu), Origin::mapped);
    EXPECT_EQ(done_.text(), "0 measured; estimates: 1 from StarPU's products");
    EXPECT_EQ(read_facts(folder_).entry(gemm_f32.name, 10)->on(gpu), Origin::mapped) << "kept in the sidecar";
}

TEST_F(Models, DoubleProductsAreMappedFromDgemm) {
    Machine m(folder_);
    ModelFile dgemm;  // C is b x b, K = 4 b: 8 b^3 flops in 72 b^2 bytes
    dgemm.set(gpu, 0, entry_of(1, 72 * 320 * 320, 0, std::vector<double>(20, 8 * std::pow(320, 3) / 1e6)));
    write_model(m.model_path("starpu_dgemm_gemm"), dgemm);
    const double flops = 2 * std::pow(500, 3);
    EXPECT_NEAR(estimate(m, one_task(gemm_f64, 1, flops, 1), gpu), flops / 1e6, 1e-6);
    EXPECT_THROW(estimate(m, one_task(gemm_f32, 1, flops, 1), gpu), Error) << "which tells nothing of f32";
}

TEST_F(Models, RegressionOverTheOpsOtherSizes) {
    Machine m(folder_);
    ModelFile model;  // 3 us + 1 us per 10^6 flops + 2 us per 10^6 bytes, exactly
    const double sizes[][2] = {{1e6, 1e6}, {5e6, 1e6}, {2e6, 8e6}, {9e6, 3e6}};
    uint32_t footprint = 1;
    for (const auto& [flops, bytes] : sizes)
        model.set(
            cpu, 0,
            entry_of(footprint++, int64_t(bytes), flops, std::vector<double>(20, 3 + flops / 1e6 + 2 * bytes / 1e6)));
    write_model(m.model_path(move_f32.name), model);
    const Plan plan = one_task(move_f32, 99, 4e6, 20e6);
    EXPECT_NEAR(estimate(m, plan, cpu), 3 + 4 + 40, 1e-6);
    EXPECT_EQ(origin(m, plan, cpu), Origin::regression);
    EXPECT_EQ(done_.text(), "0 measured; estimates: 1 from regression");
    EXPECT_NEAR(estimate(m, plan, cpu), 47, 1e-6) << "asked again: the same, and still an estimate";
    EXPECT_EQ(done_.text(), "0 measured; estimates: 1 from regression");
    EXPECT_NEAR(estimate(m, one_task(move_f32, 2, 5e6, 1e6), cpu), 10, 1e-6) << "measured: as it was";
    EXPECT_EQ(done_.text(), "1 measured");
}

TEST_F(Models, PeaksWhereNothingElseIsKnown) {
    Machine m(folder_);
    DeviceFacts k40;
    k40.device = gpu, k40.f32_gflops = 4000, k40.f64_gflops = 1000, k40.gbytes_per_s = 200;
    m.facts.devices = {k40};
    EXPECT_NEAR(estimate(m, one_task(move_f32, 1, 0, 4e6), gpu), 5 + 20, 1e-6);
    EXPECT_NEAR(estimate(m, one_task(gemm_f32, 1, 4e9, 4e6), gpu), 5 + 1000, 1e-6);
    EXPECT_NEAR(estimate(m, one_task(gemm_f64, 1, 4e9, 4e6), gpu), 5 + 4000, 1e-6);
    EXPECT_EQ(origin(m, one_task(gemm_f64, 1, 1, 1), gpu), Origin::peaks);
}

TEST_F(Models, AlternativesOnCpuAreALittleSlower) {
    Machine m(folder_);
    DeviceFacts core;
    core.device = cpu, core.f32_gflops = 100, core.gbytes_per_s = 10;
    m.facts.devices = {core};
    const Plan plan = one_task(gemm_f32, 1, 1e9, 1);
    EXPECT_NEAR(estimate(m, plan, cpu, 0), 10001, 1e-6);
    EXPECT_NEAR(estimate(m, plan, cpu, 1), 10001 * 1.001, 1e-6);
    // Only the alternative was measured: number 0 must not look better than it.
    ModelFile model;
    model.set(cpu, 1, entry_of(7, 1, 1e9, std::vector<double>(20, 500)));
    write_model(m.model_path(gemm_f32.name), model);
    EXPECT_NEAR(estimate(m, one_task(gemm_f32, 7, 1e9, 1), cpu, 0), 500.5, 1e-6);
    EXPECT_NEAR(estimate(m, one_task(gemm_f32, 7, 1e9, 1), cpu, 1), 500, 1e-6);
}

TEST_F(Models, NothingToGoByNamesCodeletDeviceAndCommand) {
    Machine m(folder_);
    const Plan plan = one_task(move_f32, 1, 0, 4e6);
    try {
        complete_models(m, {&plan}, {gpu}, "tessera calibrate train mlp");
        FAIL() << "no error";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("no time for move_of_models_test_f32 on cuda 0"), std::string::npos);
        EXPECT_EQ(e.hint(), "measure there: tessera calibrate train mlp");
    }
    EXPECT_TRUE(m.codelets().empty()) << "nothing is written";
}

TEST(FitTimes, NeverNegativeAndNeverFromTooLittle) {
    EXPECT_FALSE(fit_times({}));
    EXPECT_FALSE(fit_times({{1, 1, 1}, {2, 2, 2}, {2, 2, 3}})) << "two different sizes";
    EXPECT_FALSE(fit_times({{1, 1, 0}, {2, 2, 0}, {3, 2, 0}}));
    const auto falling = fit_times({{1, 0, 5}, {2, 0, 4}, {3, 0, 3}});  // larger is faster: overhead only
    ASSERT_TRUE(falling);
    EXPECT_EQ(falling->us_per_flop, 0);
    EXPECT_GT(falling->overhead_us, 3);
    const auto proportional = fit_times({{1e9, 2e9, 10}, {2e9, 4e9, 20}, {4e9, 8e9, 40}});
    ASSERT_TRUE(proportional) << "flops and bytes tell the same: either may carry it";
    EXPECT_NEAR(proportional->at(8e9, 16e9), 80, 1e-6);
    EXPECT_NEAR(misfit({1, 0, 0}, {{0, 0, 2}}), 0.25, 1e-12);
}

// A sound model of eight sizes at 20 GFLOP/s, described, on a machine whose core reaches 50.
class Poisoned : public Models {
 protected:
    Poisoned() : m_(folder_) {
        DeviceFacts core;
        core.device = cpu, core.f32_gflops = 50, core.gbytes_per_s = 10;
        m_.facts.devices = {core};
        CodeletFacts& facts = m_.facts.codelets[gemm_f32.name];
        facts = {"gemm_of_models_test", "f32", "models_check_test.cpp", "", {}};
        for (uint32_t i = 1; i <= 8; ++i) {
            const double flops = 1e6 * std::pow(2, i);
            add(model_, cpu, i, flops, 2 + flops / 20e3);
            facts.entries[i].flops = flops, facts.entries[i].bytes = 1e3 * i;
        }
    }
    ModelEntry& entry(uint32_t i) { return model_.arch(cpu).implementations[0][i - 1]; }
    std::vector<Finding> check(const CheckOptions& options = {}) {
        write_model(m_.model_path(gemm_f32.name), model_);
        return check_models(m_, options);
    }
    // The one finding.
    Finding finding(const CheckOptions& options = {}) {
        const auto all = check(options);
        std::string kinds;
        for (const Finding& f : all) kinds += f.kind + " (" + f.what + ") ";
        EXPECT_EQ(all.size(), 1u) << kinds;
        return all.empty() ? Finding{} : all[0];
    }
    Machine m_;
    ModelFile model_;
};

TEST_F(Poisoned, NothingIsFoundInASoundModel) {
    EXPECT_TRUE(check().empty());
    EXPECT_NEAR(*share_of_peak(m_, gemm_f32.name, cpu, entry(8)), 256e6 / (2 + 12800) * 1e-3 / 50, 1e-9);
    EXPECT_FALSE(share_of_peak(m_, gemm_f32.name, gpu, entry(8)));
    EXPECT_EQ(implementation_label(gemm_f32.name, cpu, 1), "other");
    EXPECT_EQ(implementation_label("starpu_sgemm_gemm", cpu, 1), "1");
}

TEST_F(Poisoned, Deviation) {
    entry(3).deviation_us = 0.31 * entry(3).mean_us;
    const Finding f = finding();
    EXPECT_EQ(f.kind, "deviation");
    EXPECT_EQ(f.footprint, 3u);
    EXPECT_EQ(f.device, cpu);
    EXPECT_EQ(f.what.substr(0, 4), "31 %");
    EXPECT_EQ(f.command, "tessera calibrate --all --reset");
    entry(3).deviation_us = 0.29 * entry(3).mean_us;
    EXPECT_TRUE(check().empty());
}

TEST_F(Poisoned, SpikesUpAndDownWithoutTheirNeighbours) {
    entry(4).mean_us *= 8;
    EXPECT_EQ(finding().kind, "spike");
    EXPECT_EQ(finding().footprint, 4u);
    entry(4).mean_us /= 8;
    m_.facts.devices.clear();  // no peak to be above
    entry(5).mean_us /= 100;
    EXPECT_EQ(finding().footprint, 5u);
    entry(2).mean_us *= 30;
    EXPECT_EQ(check().size(), 2u);
    entry(2).mean_us /= 30, entry(5).mean_us *= 100;
    entry(5).mean_us *= 4;
    EXPECT_TRUE(check().empty()) << "within a factor of five";
}

TEST_F(Poisoned, AboveThePeak) {
    entry(8).mean_us = entry(8).flops / 60e3;
    EXPECT_EQ(finding().kind, "above peak");
    EXPECT_NE(finding().what.find("60 GFLOP/s"), std::string::npos) << finding().what;
}

TEST_F(Poisoned, APeakBelowMostRowsIsOneFinding) {
    m_.facts.devices[0].f32_gflops = 15;  // the rows reach 19.6 to 20
    EXPECT_EQ(finding().kind, "peak");
    EXPECT_EQ(finding().codelet, "");
    EXPECT_EQ(finding().device, cpu);
    EXPECT_EQ(finding().what.substr(0, 33), "stored for f32: 15 GFLOP/s; 8 row") << finding().what;
    EXPECT_EQ(finding().command, "tessera calibrate --all") << "which keeps the higher of two measurements";
    entry(3).deviation_us = 0.31 * entry(3).mean_us;
    ASSERT_EQ(check().size(), 2u);
    EXPECT_EQ(check()[1].kind, "deviation") << "what else is wrong is told beside it";
    entry(3).deviation_us = 0;
    m_.facts.devices[0].f32_gflops = 19.01;  // times 1.05: four rows are above, too few to blame it
    EXPECT_EQ(check().size(), 4u);
    EXPECT_EQ(check()[0].kind, "above peak");
}

TEST_F(Poisoned, TooFewSamplesNeedNoReset) {
    entry(1).samples = 9;
    m_.facts.command = "tessera calibrate train mlp --reset";
    EXPECT_EQ(finding().kind, "few samples");
    EXPECT_EQ(finding().command, "tessera calibrate train mlp");
    entry(1) = {1, 5, 6, 0, 0, 0, 0, 0};
    EXPECT_TRUE(check().empty()) << "seen once, never timed: no time that could be wrong";
}

TEST_F(Poisoned, WhatRunsHaveLeftNeedsTheCommandThatRunsIt) {
    m_.facts.codelets[gemm_f32.name].entries.erase(1);
    entry(1).samples = 9;
    EXPECT_EQ(finding().kind, "few samples");
    EXPECT_EQ(finding().command, "tessera calibrate COMMAND") << "the last did not";
    entry(1).samples = 10;
    entry(1).deviation_us = entry(1).mean_us;
    EXPECT_EQ(finding().kind, "deviation");
    EXPECT_EQ(finding().command, "tessera calibrate COMMAND --reset") << "the last did not";
}

TEST_F(Poisoned, TheCommandThatMeasuredARowMendsIt) {
    auto& entries = m_.facts.codelets[gemm_f32.name].entries;
    entries[1].command = "tessera calibrate gemm --n 96", entries[2].command = "tessera calibrate train mlp";
    m_.facts.command = "tessera calibrate train lenet5";
    entry(1).samples = 9;
    EXPECT_EQ(finding().command, "tessera calibrate gemm --n 96");
    entry(1).samples = 10, entry(1).deviation_us = entry(1).mean_us;
    EXPECT_EQ(finding().command, "tessera calibrate gemm --n 96 --reset");
    CheckOptions options;
    options.elsewhere = true;
    EXPECT_EQ(finding(options).command, "measure there: tessera calibrate gemm --n 96 --reset");
    std::ofstream(m_.model_path(gemm_f32.name)) << "45";
    const auto damaged = check_models(m_);
    ASSERT_EQ(damaged.size(), 1u);
    EXPECT_EQ(damaged[0].command, "tessera calibrate gemm --n 96 --reset && tessera calibrate train mlp --reset");
}

TEST_F(Poisoned, OnlyACommandThatMeasuresItMendsIt) {
    m_.facts.command = "tessera calibrate train mlp";
    entry(3).samples = 9;
    CheckOptions options;
    options.measures = [](const std::string& codelet, std::optional<uint32_t> footprint) {
        return codelet == gemm_f32.name && footprint == 3u;
    };
    EXPECT_EQ(finding(options).command, "tessera calibrate train mlp");
    options.measures = [](const std::string&, std::optional<uint32_t> footprint) { return footprint != 3u; };
    EXPECT_EQ(finding(options).command, "tessera calibrate COMMAND");
}

TEST_F(Poisoned, AnotherMachineIsMeasuredThere) {
    CheckOptions options;
    options.elsewhere = true;
    m_.facts.codelets[gemm_f32.name].entries.erase(1);
    entry(1).samples = 9;
    EXPECT_EQ(finding(options).kind, "few samples");
    EXPECT_EQ(finding(options).command, "measure there");
    m_.facts.command = "tessera calibrate train mlp";
    EXPECT_EQ(finding(options).command, "measure there: tessera calibrate train mlp");
}

TEST_F(Poisoned, EstimatesClaimNothing) {
    entry(1).samples = 1, entry(2).mean_us *= 50, entry(3).deviation_us = 1e9, entry(8).mean_us = 1;
    for (auto& [footprint, e] : m_.facts.codelets[gemm_f32.name].entries) e.origin[cpu] = Origin::peaks;
    EXPECT_TRUE(check().empty());
}

TEST_F(Poisoned, StaleAndUnknownSources) {
    EXPECT_EQ(source_state(m_.facts, gemm_f32.name), SourceState::unknown);
    CodeletInfo& info = const_cast<CodeletInfo&>(gemm_f32);
    info.source_hash = "aaaa";
    m_.facts.codelets[gemm_f32.name].hash = "aaaa";
    EXPECT_EQ(source_state(m_.facts, gemm_f32.name), SourceState::current);
    EXPECT_TRUE(check().empty());
    info.source_hash = "bbbb";
    EXPECT_EQ(finding().kind, "stale");
    EXPECT_FALSE(finding().device);
    EXPECT_EQ(finding().command, "tessera calibrate --all");
    describe(m_.facts, one_task(gemm_f32, 77, 1, 1));
    EXPECT_EQ(finding().kind, "stale") << "describing another size makes the old times no younger";
    info.source_hash = "";
}

TEST_F(Poisoned, DriftAgainstASecondLook) {
    CheckOptions options;
    options.remeasure = [&](const std::string& codelet, uint32_t i, int implementation) -> std::optional<double> {
        EXPECT_EQ(codelet, gemm_f32.name);
        EXPECT_EQ(implementation, 0);
        if (i == 8) return {};
        return entry(i).mean_us * (i == 6 ? 1.2 : 1.05);
    };
    EXPECT_EQ(finding(options).kind, "drift");
    EXPECT_EQ(finding(options).footprint, 6u);
    EXPECT_NE(finding(options).what.find("+20 %"), std::string::npos) << finding(options).what;
}

TEST_F(Poisoned, DamagedFilesAreFoundNotThrown) {
    std::ofstream(m_.model_path("torn")) << "45\n1\n";
    EXPECT_EQ(finding().kind, "damaged");
    EXPECT_EQ(finding().codelet, "torn");
}

TEST_F(Models, DescribeSaysWhatAFootprintIs) {
    MachineFacts facts;
    const Plan plan = one_task(gemm_f32, 5, 123, 456);
    describe(facts, plan, &move_f32);
    EXPECT_TRUE(facts.codelets.empty());
    describe(facts, plan);
    const EntryFacts* e = facts.entry(gemm_f32.name, 5);
    ASSERT_NE(e, nullptr);
    EXPECT_EQ(e->arguments, "op alpha=1: R 8x8 W 8x8");
    EXPECT_EQ(e->tiles, (std::vector<std::array<int64_t, 3>>{{8, 8, 8}, {8, 8, 8}}));
    EXPECT_EQ(e->flops, 123);
    EXPECT_EQ(facts.codelets.at(gemm_f32.name).op, "gemm_of_models_test");
    EXPECT_EQ(facts.codelets.at(gemm_f32.name).dtype, "f32");
    EXPECT_EQ(facts.codelets.at(gemm_f32.name).source, "models_check_test.cpp");
}

}  // namespace
}  // namespace tessera
