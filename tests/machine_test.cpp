// Buses and platforms as files: what is written is read again, what is damaged is refused with the file's name.
// Composed machines: devices numbered anew, times as their sources have them or scaled, a route for every pair of
// nodes.
#include "models/bus.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "core/error.h"
#include "models/compose.h"

namespace tessera {
namespace {
namespace fs = std::filesystem;

class MachineTest : public ::testing::Test {
 protected:
    void SetUp() override {
        folder_ = fs::temp_directory_path() / ("tessera-machine-test-" + std::to_string(getpid()));
        fs::remove_all(folder_);
        fs::create_directories(folder_);
    }
    void TearDown() override { fs::remove_all(folder_); }

    // Every speed is different, so that a swap shows.
    static Bus make_bus(const std::string& name, int cpus, int cudas, double base) {
        Bus bus = empty_bus(name, cpus, cudas);
        for (int i = 0; i < bus.nodes(); ++i)
            for (int j = 0; j < bus.nodes(); ++j)
                if (i != j) {
                    bus.mbytes_per_s[size_t(i)][size_t(j)] = base * (i && j ? 0.5 : 1) + 10 * i + j;
                    bus.latency_us[size_t(i)][size_t(j)] = 10 + i + 0.125 * j;
                }
        for (auto& d : bus.devices) d = {name + " GPU", int64_t(4) << 30, true};
        return bus;
    }
    static ModelEntry entry(uint32_t footprint, double mean_us) {
        return entry_of(footprint, 1024, 1e6, std::vector<double>(12, mean_us));
    }
    // A machine whose GPU g takes (10 + g) * factor us for footprint 7, its cores 100 * factor.
    ComposeSource make_machine(const std::string& name, int cpus, int cudas, double factor) {
        const fs::path at = folder_ / name;
        const Bus bus = make_bus(name, cpus, cudas, 1000 * factor);
        write_bus(at / "bus", bus, pci_tree(bus));
        ModelFile model;
        for (int g = 0; g < cudas; ++g) model.set({1, g, 1}, 0, entry(7, (10 + g) * factor));
        model.set({0, 0, 1}, 0, entry(7, 100 * factor));
        fs::create_directories(at / "codelets" / "45");
        write_model(at / "codelets" / "45" / ("gemm_f32." + name), model);
        write_model(at / "codelets" / "45" / ("only_" + name + "." + name), model);
        MachineFacts facts;
        facts.name = name;
        facts.codelets["gemm_f32"] = {"gemm", "f32", "codelets/gemm.cu", "hash of " + name, {{7, {}}}};
        facts.codelets["gemm_f32"].entries[7].flops = 1e6;
        for (int g = 0; g < cudas; ++g) {
            DeviceFacts d;
            d.device = {1, g, 1}, d.name = name + " GPU", d.f32_gflops = 100 * factor, d.measured = true;
            facts.devices.push_back(d);
        }
        write_facts(at, facts);
        ComposeSource source;
        source.machine = Machine(at);
        source.bus = read_bus(at / "bus", name);
        return source;
    }
    std::string text(const fs::path& path) const {
        std::ifstream in(path);
        std::stringstream all;
        all << in.rdbuf();
        return all.str();
    }
    void replace(const fs::path& path, const std::string& what, const std::string& with) const {
        std::string all = text(path);
        const size_t at = all.find(what);
        ASSERT_NE(at, std::string::npos) << what;
        std::ofstream(path) << all.replace(at, what.size(), with);
    }
    // Reading fails with one line that names the file.
    void expect_refused(const std::string& name, const std::string& file, const std::string& reason) const {
        try {
            read_bus(folder_ / "bus", name);
            ADD_FAILURE() << "a damaged " << file << " was read";
        } catch (const Error& e) {
            const std::string message = e.what();
            EXPECT_NE(message.find(file), std::string::npos) << message;
            EXPECT_NE(message.find(reason), std::string::npos) << message;
            EXPECT_EQ(message.find('\n'), std::string::npos);
        }
    }
    fs::path folder_;
};

TEST_F(MachineTest, BusIsReadAsItWasWritten) {
    for (int cudas : {0, 1, 3, 8}) {
        const Bus bus = make_bus("m", 5, cudas, 12345.5);
        write_bus(folder_ / "bus", bus, pci_tree(bus));
        const Bus read = read_bus(folder_ / "bus", "m");
        EXPECT_EQ(read.cpus, 5);
        EXPECT_EQ(read.numas, 1);
        ASSERT_EQ(read.cudas, cudas);
        for (size_t i = 0; i < size_t(bus.nodes()); ++i)
            for (size_t j = 0; j < size_t(bus.nodes()); ++j) {
                EXPECT_NEAR(read.mbytes_per_s[i][j], bus.mbytes_per_s[i][j], 1e-6 * bus.mbytes_per_s[i][j]);
                EXPECT_NEAR(read.latency_us[i][j], bus.latency_us[i][j], 1e-5);
            }
        for (const BusDevice& d : read.devices) {
            EXPECT_EQ(d.model, "m GPU");
            EXPECT_EQ(d.memory_bytes, int64_t(4) << 30);
            EXPECT_TRUE(d.peer);
        }
    }
}

TEST_F(MachineTest, EveryTruncationIsRefused) {
    const Bus bus = make_bus("m", 2, 2, 6000);
    write_bus(folder_ / "bus", bus, pci_tree(bus));
    for (const char* file : {"m.bandwidth", "m.latency", "m.platform.v4.xml"}) {
        const fs::path path = folder_ / "bus" / file;
        const std::string whole = text(path);
        for (size_t length = 0; length + 2 < whole.size(); length += 7) {
            std::ofstream(path) << whole.substr(0, length);
            EXPECT_THROW(read_bus(folder_ / "bus", "m"), Error) << file << " of " << length << " bytes";
        }
        std::ofstream(path) << whole;
        EXPECT_NO_THROW(read_bus(folder_ / "bus", "m"));
    }
    std::ofstream(folder_ / "bus" / "m.config") << "# Current configuration\n2 # Number of CPUs\n";
    expect_refused("m", "m.config", "cut off");
}

TEST_F(MachineTest, WrongFiguresAreRefused) {
    const Bus bus = make_bus("m", 2, 1, 6000);
    const auto fresh = [&] { write_bus(folder_ / "bus", bus, pci_tree(bus)); };
    const fs::path bandwidth = folder_ / "bus" / "m.bandwidth", xml = folder_ / "bus" / "m.platform.v4.xml";
    for (const char* wrong : {"-6.001000e+03", "0.000000e+00", "nan", "inf", "fast"}) {
        fresh();
        replace(bandwidth, "6.001000e+03", wrong);
        expect_refused("m", "m.bandwidth", "");
    }
    fresh();
    replace(folder_ / "bus" / "m.latency", "1.012500e+01", "-1");
    expect_refused("m", "m.latency", "must be positive");
    fresh();
    replace(folder_ / "bus" / "m.config", "1 # Number of CUDA", "2 # Number of CUDA");
    expect_refused("m", "m.platform.v4.xml", "1 CUDA devices");
    fresh();
    replace(xml, "src=\"CUDA0\"", "src=\"CUDA3\"");
    expect_refused("m", "m.platform.v4.xml", "no device CUDA3");
    fresh();
    replace(xml, "link_ctn id=\"Host\"", "link_ctn id=\"Hose\"");
    expect_refused("m", "m.platform.v4.xml", "'Hose', which is not there");
    fresh();
    replace(xml, "bandwidth=\"", "bandwidth=\"-");
    expect_refused("m", "m.platform.v4.xml", "not a positive number");
    fresh();
    replace(xml, "id=\"CPU1\"", "id=\"CPU2\"");
    expect_refused("m", "m.platform.v4.xml", "names 1 CPUs");
    std::ofstream(xml) << to_xml(pci_tree(bus), 3);
    expect_refused("m", "m.platform.v4.xml", "version 3, not 4");
    EXPECT_THROW(read_bus(folder_ / "bus", "other"), Error);
    Bus empty = empty_bus("e", 1, 1);
    EXPECT_THROW(write_bus(folder_ / "bus", empty, {}), std::invalid_argument);
}

// As on StarPU's hannibal, whose GPUs copy over the host.
TEST_F(MachineTest, RoutesBetweenGpusAreNeededForDirectCopies) {
    const Bus bus = make_bus("m", 2, 2, 6000);
    const fs::path xml = folder_ / "bus" / "m.platform.v4.xml";
    write_bus(folder_ / "bus", bus, pci_tree(bus));
    const size_t from = text(xml).find("  <route src=\"CUDA0\" dst=\"CUDA1\""), to = text(xml).find("</route>\n", from);
    replace(xml, text(xml).substr(from, to + 9 - from), "");
    expect_refused("m", "m.platform.v4.xml", "no route from CUDA0 to CUDA1, between which memcpy_peer promises");
    for (int i = 0; i < 2; ++i) replace(xml, "\"memcpy_peer\" value=\"1\"", "\"memcpy_peer\" value=\"0\"");
    EXPECT_EQ(read_bus(folder_ / "bus", "m").cudas, 2);
}

TEST_F(MachineTest, OldFilesWithoutNumaAndWithLargerTables) {
    std::string rows;
    for (int i = 0; i < 32; ++i)
        for (int j = 0; j < 32; ++j)
            rows += std::string(i > 1 || j > 1 ? "nan" : i == j ? "0.000000" : "6030.99") + (j < 31 ? "\t" : "\n");
    const Bus bus = make_bus("m", 12, 1, 6000);
    write_bus(folder_ / "bus", bus, pci_tree(bus));
    for (const char* file : {"m.bandwidth", "m.latency"}) std::ofstream(folder_ / "bus" / file) << "# to 0\t\n" << rows;
    std::ofstream(folder_ / "bus" / "m.config")
        << "# Current configuration\n12 # Number of CPUs\n1 # Number of CUDA devices\n1 # Number of OpenCL devices\n";
    const Bus read = read_bus(folder_ / "bus", "m");
    EXPECT_EQ(read.numas, 1);
    EXPECT_DOUBLE_EQ(read.mbytes_per_s[1][0], 6030.99);
}

TEST_F(MachineTest, SuspiciousRowsAreNamed) {
    Bus bus = make_bus("m", 2, 2, 6000);
    EXPECT_TRUE(suspicious(bus).empty()) << suspicious(bus)[0];
    const auto finds = [](const Bus& b, const std::string& what) {
        for (const auto& line : suspicious(b))
            if (line.find(what) != std::string::npos) return true;
        return false;
    };
    Bus slow_back = bus, fast = bus, peer = bus, unequal = bus;
    slow_back.mbytes_per_s[1][0] = 1400;
    EXPECT_TRUE(finds(slow_back, "NUMA 0 to CUDA 0: 6.0 GB/s, but 1.4 GB/s the other way"));
    slow_back.mbytes_per_s[1][0] = 140;
    EXPECT_TRUE(finds(slow_back, "NUMA 0 to CUDA 0: 6.0 GB/s, but 140 MB/s the other way"));
    fast.mbytes_per_s[0][2] = fast.mbytes_per_s[2][0] = 300000;
    EXPECT_TRUE(finds(fast, "more than any link carries"));
    peer.mbytes_per_s[1][2] = peer.mbytes_per_s[2][1] = 20000;
    EXPECT_TRUE(finds(peer, "right only with NVLink"));
    Bus all_peers = make_bus("m", 2, 4, 12000);
    for (int i = 1; i < all_peers.nodes(); ++i)
        for (int j = 1; j < all_peers.nodes(); ++j)
            if (i != j) all_peers.mbytes_per_s[size_t(i)][size_t(j)] = 450000;
    ASSERT_EQ(suspicious(all_peers).size(), 1u) << "one line for all";
    EXPECT_TRUE(finds(all_peers, "and 11 pairs more"));
    unequal.mbytes_per_s[0][1] = 3000;
    EXPECT_TRUE(finds(unequal, "where its equal CUDA 1 has 6.0 GB/s"));
}

TEST_F(MachineTest, EveryPairHasARouteOverTheTree) {
    for (int cudas : {1, 2, 5, 8}) {
        const Bus bus = make_bus("m", 1, cudas, 6000);
        for (int version : {3, 4}) {
            const Platform p = parse_platform(to_xml(pci_tree(bus), version), "tree");  // checks hosts and links, too
            EXPECT_EQ(p.count("CUDA"), cudas);
            EXPECT_EQ(p.routes.size(), size_t(cudas * (cudas + 1)));
            const auto name = [](int g) { return g < 0 ? "RAM" : "CUDA" + std::to_string(g); };
            for (int a = -1; a < cudas; ++a)
                for (int b = -1; b < cudas; ++b) {
                    if (a == b) continue;
                    const PlatformRoute* r = p.route(name(a), name(b));
                    ASSERT_NE(r, nullptr) << name(a) << " to " << name(b);
                    double narrowest = std::numeric_limits<double>::infinity();
                    for (const auto& l : r->links) narrowest = std::min(narrowest, p.link(l)->bytes_per_s);
                    const double measured = bus.mbytes_per_s[size_t(a + 1)][size_t(b + 1)] * 1e6;
                    EXPECT_NEAR(narrowest, measured, 1) << name(a) << " to " << name(b);  // the tree adds no bottleneck
                    const bool over_host = std::count(r->links.begin(), r->links.end(), "Host") > 0;
                    EXPECT_EQ(over_host, a < 0 || b < 0 || a / 2 != b / 2);
                }
        }
    }
}

TEST_F(MachineTest, FastPeersHaveWiresOfTheirOwn) {
    Bus bus = make_bus("m", 1, 4, 6000);
    bus.mbytes_per_s[1][4] = 50000;
    const Platform p = pci_tree(bus);
    EXPECT_EQ(p.route("CUDA0", "CUDA3")->links, std::vector<std::string>{"CUDA0-CUDA3"});
    EXPECT_GT(p.route("CUDA3", "CUDA0")->links.size(), 1u);
    EXPECT_LT(p.link("Host")->bytes_per_s, 7e9);
    EXPECT_DOUBLE_EQ(pci_tree(bus, 9000).link("Host")->bytes_per_s, 9e9);
}

TEST_F(MachineTest, ComposedOfTwoMachines) {
    const std::map<std::string, ComposeSource> sources = {{"one", make_machine("one", 4, 2, 1)},
                                                          {"two", make_machine("two", 4, 2, 8)}};
    ComposeOptions o;
    o.name = "both";
    o.gpus = {{2, "one", 1, 0, 0}, {3, "two", 0.5, 0, 0}};
    o.cpus = {3, "two", 1, 0, 0};
    const Machine m = compose(o, sources, folder_ / "both", false);
    EXPECT_EQ(m.name(), "both");
    const Bus bus = read_bus(m.folder() / "bus", "both");
    EXPECT_EQ(bus.cpus, 3 + 5);
    ASSERT_EQ(bus.cudas, 5);
    EXPECT_NEAR(bus.mbytes_per_s[0][2], sources.at("one").bus.mbytes_per_s[0][2], 0.01);
    EXPECT_NEAR(bus.mbytes_per_s[3][4], sources.at("two").bus.mbytes_per_s[1][2], 0.01);  // measured pair
    EXPECT_NEAR(1 / bus.mbytes_per_s[1][3], 1 / bus.mbytes_per_s[1][0] + 1 / bus.mbytes_per_s[0][3], 1e-6);
    const ModelFile model = m.model("gemm_f32");
    const double expected[] = {10, 11, 10 * 8 / 0.5, 11 * 8 / 0.5, 10 * 8 / 0.5};
    for (int g = 0; g < 5; ++g) {
        const ModelEntry* e = model.find({1, g, 1}, 0, 7);
        ASSERT_NE(e, nullptr) << g;
        EXPECT_NEAR(e->mean_us, expected[g], 1e-3);
        EXPECT_NEAR(e->sum_us, 12 * expected[g], 1e-2);
        EXPECT_NEAR(e->sum2_us2 / (12 * expected[g] * expected[g]), 1, 1e-4);
        EXPECT_EQ(e->samples, 12);
    }
    EXPECT_NEAR(model.find({0, 0, 1}, 0, 7)->mean_us, 800, 0.1);
    EXPECT_EQ(m.model("only_one").find({1, 2, 1}, 0, 7), nullptr);
    EXPECT_NE(m.model("only_two").find({1, 2, 1}, 0, 7), nullptr);
    const CodeletFacts& facts = m.facts.codelets.at("gemm_f32");
    EXPECT_EQ(facts.hash, "mixed");
    EXPECT_EQ(facts.entries.at(7).origin.count({1, 0, 1}), 0u);
    EXPECT_EQ(facts.entries.at(7).origin.at({1, 2, 1}), Origin::scaled);
    EXPECT_TRUE(m.facts.device({1, 1, 1})->measured);
    EXPECT_FALSE(m.facts.device({1, 3, 1})->measured);
    EXPECT_DOUBLE_EQ(m.facts.device({1, 3, 1})->f32_gflops, 400);
    EXPECT_NE(m.facts.derived.find("at 0.5 of its speed"), std::string::npos);
}

TEST_F(MachineTest, ComposedOfPublishedFigures) {
    std::map<std::string, ComposeSource> sources;
    sources["fast"].device = DeviceFacts{{1, 0, 1}, "Fast GPU", 1000, 500, 2000, 300, false, "data sheet"};
    ComposeOptions o;
    o.name = "half";
    o.gpus = {{1, "fast", 1, 25000, int64_t(80) << 30}, {1, "fast", 0.5, 25000, int64_t(80) << 30}};
    const Machine m = compose(o, sources, folder_ / "half", false);
    EXPECT_TRUE(m.codelets().empty());
    EXPECT_DOUBLE_EQ(m.facts.device({1, 1, 1})->gbytes_per_s, 150);
    EXPECT_NE(m.facts.derived.find("published figures, not measured"), std::string::npos);
    EXPECT_EQ(read_bus(m.folder() / "bus", "half").devices[1].memory_bytes, int64_t(80) << 30);
    o.gpus[0].link_mbytes_per_s = 0;
    EXPECT_THROW(compose(o, sources, folder_ / "no-link", false), UsageError);
    sources["core"].device = DeviceFacts{{0, 0, 1}, "one core", 50, 25, 0, 6, false, "data sheet"};
    o.gpus = {{1, "core", 1, 25000, int64_t(80) << 30}};
    EXPECT_THROW(compose(o, sources, folder_ / "core-as-gpu", false), UsageError);
    o.gpus.clear(), o.cpus = {2, "fast", 1, 0, 0};
    EXPECT_THROW(compose(o, sources, folder_ / "gpu-as-core", false), UsageError);
    o.cpus.source = "core";
    EXPECT_DOUBLE_EQ(compose(o, sources, folder_ / "half-cores", false).facts.device({0, 0, 1})->f32_gflops, 50);
}

TEST_F(MachineTest, WhatCannotBeComposed) {
    const std::map<std::string, ComposeSource> sources = {{"cpu", make_machine("cpu", 2, 0, 1)},
                                                          {"gpu", make_machine("gpu", 2, 1, 1)}};
    ComposeOptions o;
    o.name = "x";
    EXPECT_THROW(compose(o, sources, folder_ / "x", false), UsageError);
    o.gpus = {{1, "cpu", 1, 0, 0}};
    EXPECT_THROW(compose(o, sources, folder_ / "x", false), UsageError);
    o.gpus = {{100, "gpu", 1, 0, 0}};
    EXPECT_THROW(compose(o, sources, folder_ / "x", false), UsageError);
    o.gpus = {{1, "gpu", 1, 0, 0}}, o.cpus = {3, "cpu", 1, 0, 0};
    EXPECT_THROW(compose(o, sources, folder_ / "x", false), UsageError);
    o.cpus.count = 1;
    std::ofstream(folder_ / "x") << "in the way";
    EXPECT_THROW(compose(o, sources, folder_ / "x", false), Error);
    EXPECT_THROW(compose(o, sources, folder_ / "x", true), Error);
    EXPECT_EQ(text(folder_ / "x"), "in the way");
    fs::create_directories(folder_ / "mine" / "precious");
    EXPECT_THROW(compose(o, sources, folder_ / "mine", true), Error);
    EXPECT_TRUE(fs::exists(folder_ / "mine" / "precious"));
    compose(o, sources, folder_ / "y", false);
    EXPECT_THROW(compose(o, sources, folder_ / "y", false), Error);
    EXPECT_NO_THROW(compose(o, sources, folder_ / "y", true));
    EXPECT_NO_THROW(compose(o, sources, folder_ / "y" / "", true)) << "a slash at the end";
    EXPECT_TRUE(fs::exists(folder_ / "y" / "bus" / "x.config"));
    for (const auto& entry : fs::directory_iterator(folder_))
        EXPECT_TRUE(entry.path().extension().empty()) << entry.path() << ": nothing half-made stays";
}

TEST(NamedFolder, ItsLastPartIsAName) {
    for (const char* good : {"a/made", "a/made/", "a/./made//", "a/b/../made"})
        EXPECT_EQ(named_folder(good, "--out"), "a/made");
    for (const char* bad : {"", ".", "..", "../", "a/..", "/", "a b", "x.y"})
        EXPECT_THROW(named_folder(bad, "--save"), UsageError) << bad;
}

}  // namespace
}  // namespace tessera
