// A machine saved over what was saved before: nothing that was measured is lost, nothing stale is called current, and
// another machine's folder is refused as it is.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/codelet.h"
#include "core/error.h"
#include "models/bus.h"
#include "models/machine.h"

namespace tessera {
namespace {
namespace fs = std::filesystem;

const ModelDevice core{0, 0, 1}, gpu{1, 0, 1};

ModelEntry entry(uint32_t footprint, double mean_us) {
    return entry_of(footprint, 1024, 1e6, std::vector<double>(12, mean_us));
}

DeviceFacts device(const ModelDevice& which, double f32_gflops) {
    DeviceFacts d;
    d.device = which, d.f32_gflops = f32_gflops, d.measured = true;
    return d;
}

class SavedMachine : public ::testing::Test {
 protected:
    void SetUp() override {
        folder_ = fs::temp_directory_path() / ("tessera-saved-machine-test-" + std::to_string(getpid()));
        fs::remove_all(folder_);
        measured_ = make("box", 2, 1);
    }
    void TearDown() override { fs::remove_all(folder_); }

    fs::path make(const std::string& name, int cpus, int cudas) const {
        Bus bus = empty_bus(name, cpus, cudas);
        for (int i = 0; i < bus.nodes(); ++i)
            for (int j = 0; j < bus.nodes(); ++j)
                if (i != j) bus.mbytes_per_s[size_t(i)][size_t(j)] = 1000, bus.latency_us[size_t(i)][size_t(j)] = 10;
        for (auto& d : bus.devices) d = {"a GPU", int64_t(4) << 30, true};
        write_bus(folder_ / name / "bus", bus, pci_tree(bus));
        MachineFacts facts;
        facts.name = name;
        write_facts(folder_ / name, facts);
        return folder_ / name;
    }
    // Rows of one codelet, in place of all that it had.
    static void put(const fs::path& folder, const std::string& codelet, const std::string& hash,
                    const std::vector<std::pair<ModelDevice, ModelEntry>>& rows) {
        MachineFacts facts = read_facts(folder);
        CodeletFacts& of = facts.codelets[codelet] = {"gemm", "f32", "codelets/gemm.cu", hash, {}};
        ModelFile model;
        for (const auto& [device, row] : rows) {
            model.set(device, 0, row);
            of.entries[row.footprint].flops = 1e6;
        }
        fs::create_directories(folder / "codelets" / "45");
        write_model(folder / "codelets" / "45" / (codelet + "." + folder.filename().string()), model);
        write_facts(folder, facts);
    }
    void save() const { save_machine(Machine(measured_), folder_ / "kept"); }
    Machine kept() const { return Machine(folder_ / "kept"); }
    static void note(const fs::path& folder, const std::string& codelet, uint32_t footprint,
                     const std::string& command) {
        MachineFacts facts = read_facts(folder);
        facts.codelets[codelet].entries[footprint].command = command;
        write_facts(folder, facts);
    }
    double kept_us(const std::string& codelet, const ModelDevice& device, uint32_t footprint) const {
        return kept().model(codelet).fastest_us(device, footprint);
    }
    std::string all_files(const fs::path& folder) const {
        std::vector<fs::path> files;
        for (const auto& file : fs::recursive_directory_iterator(folder))
            if (file.is_regular_file()) files.push_back(file.path());
        std::sort(files.begin(), files.end());
        std::stringstream all;
        for (const fs::path& file : files) all << file << std::ifstream(file).rdbuf();
        return all.str();
    }
    void expect_refused(const std::string& what) const {
        const std::string before = all_files(folder_ / "kept");
        try {
            save();
            ADD_FAILURE() << "was saved over: " << what;
        } catch (const UsageError& e) {
            EXPECT_NE(std::string(e.what()).find(what), std::string::npos) << e.what();
            EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
        }
        EXPECT_EQ(all_files(folder_ / "kept"), before);
    }
    fs::path folder_, measured_;
    const std::string now_ = find_codelet("gemm_f32")->source_hash;
};

TEST_F(SavedMachine, KeepsWhatWasSavedBefore) {
    put(measured_, "gemm_f32", now_, {{core, entry(1, 100)}, {gpu, entry(1, 10)}, {core, entry(2, 200)}});
    put(measured_, "linear_f32", "a", {{core, entry(5, 50)}});
    for (uint32_t footprint : {1u, 2u}) note(measured_, "gemm_f32", footprint, "tessera calibrate gemm");
    note(measured_, "linear_f32", 5, "tessera calibrate train mlp");
    MachineFacts facts = read_facts(measured_);
    facts.together_us[{gpu, {"gemm_f32", 1, 0}, {"gemm_f32", 1, 0}}] = 15;
    facts.devices = {device(core, 100), device(gpu, 1000)};
    write_facts(measured_, facts);
    save();
    // Later, in another cache: one row anew, one more, nothing of the rest.
    fs::remove_all(measured_);
    make("box", 2, 1);
    put(measured_, "gemm_f32", now_, {{core, entry(2, 222)}, {core, entry(3, 300)}});
    note(measured_, "gemm_f32", 2, "tessera calibrate gemm --m 9");
    facts = read_facts(measured_);
    facts.devices = {device(core, 111)};
    write_facts(measured_, facts);
    save();
    EXPECT_EQ(kept_us("gemm_f32", core, 1), 100);
    EXPECT_EQ(kept_us("gemm_f32", gpu, 1), 10);
    EXPECT_EQ(kept_us("gemm_f32", core, 2), 222);
    EXPECT_EQ(kept_us("gemm_f32", core, 3), 300);
    EXPECT_EQ(kept_us("linear_f32", core, 5), 50);
    const MachineFacts after = kept().facts;
    for (uint32_t footprint : {1u, 2u, 3u}) EXPECT_NE(after.entry("gemm_f32", footprint), nullptr) << footprint;
    EXPECT_EQ(after.entry("gemm_f32", 1)->command, "tessera calibrate gemm");
    EXPECT_EQ(after.entry("gemm_f32", 2)->command, "tessera calibrate gemm --m 9");
    EXPECT_EQ(after.entry("gemm_f32", 3)->command, "") << "nobody noted it";
    ASSERT_NE(after.entry("linear_f32", 5), nullptr);
    EXPECT_EQ(after.entry("linear_f32", 5)->command, "tessera calibrate train mlp");
    EXPECT_EQ(after.codelets.at("linear_f32").hash, "a");
    EXPECT_EQ(after.together_us.size(), 1u);
    ASSERT_NE(after.device(core), nullptr);
    EXPECT_EQ(after.device(core)->f32_gflops, 111);
    ASSERT_NE(after.device(gpu), nullptr);
    EXPECT_EQ(after.device(gpu)->f32_gflops, 1000);
    EXPECT_EQ(after.name, "kept");
}

TEST_F(SavedMachine, SomethingElseInTheFolderStays) {
    fs::create_directories(folder_ / "kept");
    for (const char* name : {"tessera.json", "notes"}) std::ofstream(folder_ / "kept" / name) << "mine";
    expect_refused("no machine's folder");
    fs::remove(folder_ / "kept" / "tessera.json");
    save();
    std::string notes;
    std::ifstream(folder_ / "kept" / "notes") >> notes;
    EXPECT_EQ(notes, "mine");
    EXPECT_EQ(kept().name(), "kept");
}

TEST_F(SavedMachine, RowsOfTwoSourcesAreNotMixed) {
    put(measured_, "gemm_f32", "older", {{core, entry(1, 100)}});
    MachineFacts facts = read_facts(measured_);
    facts.together_us[{gpu, {"gemm_f32", 1, 0}, {"gemm_f32", 1, 0}}] = 15;
    write_facts(measured_, facts);
    save();
    facts.together_us.clear();
    write_facts(measured_, facts);
    put(measured_, "gemm_f32", now_, {{core, entry(2, 200)}});
    save();
    EXPECT_TRUE(std::isnan(kept_us("gemm_f32", core, 1))) << "of an older source, and would be called current";
    EXPECT_EQ(kept_us("gemm_f32", core, 2), 200);
    EXPECT_EQ(kept().facts.codelets.at("gemm_f32").hash, now_);
    EXPECT_EQ(kept().facts.entry("gemm_f32", 1), nullptr);
    EXPECT_TRUE(kept().facts.together_us.empty());
    put(measured_, "gemm_f32", "older", {{core, entry(1, 100)}});  // a cache that was left behind
    save();
    EXPECT_EQ(kept_us("gemm_f32", core, 2), 200);
    EXPECT_TRUE(std::isnan(kept_us("gemm_f32", core, 1)));
    EXPECT_EQ(kept().facts.codelets.at("gemm_f32").hash, now_);
}

TEST_F(SavedMachine, AnEstimateStaysOne) {
    put(measured_, "gemm_f32", now_, {{core, entry(1, 100)}, {core, entry(2, 200)}});
    MachineFacts facts = read_facts(measured_);
    facts.codelets["gemm_f32"].entries[1].origin[core] = Origin::regression;
    facts.codelets["gemm_f32"].entries[2].origin[core] = Origin::regression;
    write_facts(measured_, facts);
    save();
    put(measured_, "gemm_f32", now_, {{core, entry(2, 222)}});
    save();
    EXPECT_EQ(kept().facts.entry("gemm_f32", 1)->on(core), Origin::regression);
    EXPECT_EQ(kept().facts.entry("gemm_f32", 2)->on(core), Origin::measured);
}

TEST_F(SavedMachine, AnotherMachineIsRefused) {
    put(measured_, "gemm_f32", now_, {{core, entry(1, 100)}});
    make("kept", 2, 2);
    expect_refused("2 GPUs");
    fs::remove_all(folder_ / "kept");
    save();
    MachineFacts facts = read_facts(folder_ / "kept");
    facts.derived = "composed of two";
    write_facts(folder_ / "kept", facts);
    expect_refused("composed of two");
    fs::remove_all(folder_ / "kept");
    make("other", 2, 1);
    fs::rename(folder_ / "other", folder_ / "kept");
    expect_refused("other");
}

TEST_F(SavedMachine, DamagedFilesThereAreNotWrittenOver) {
    put(measured_, "gemm_f32", now_, {{core, entry(1, 100)}});
    save();
    const fs::path model = kept().model_path("gemm_f32");
    fs::resize_file(model, fs::file_size(model) / 2);
    const std::string before = all_files(folder_ / "kept");
    EXPECT_THROW(save(), Error);
    EXPECT_EQ(all_files(folder_ / "kept"), before);
}

}  // namespace
}  // namespace tessera
