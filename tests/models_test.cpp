// Model files, facts and machines: what is written reads back equal, StarPU's own files parse, and a file that is cut
// off, lies about its counts or is of another version gives one clear error.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <starpu.h>
#include <sys/file.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "child.h"
#include "core/error.h"
#include "core/file.h"
#include "models/calibration.h"
#include "models/machine.h"

namespace tessera {
namespace {
namespace fs = std::filesystem;

struct Scratch {
    fs::path path = fs::temp_directory_path() / ("models_test-" + std::to_string(getpid()));
    Scratch() { fs::remove_all(path), fs::create_directories(path); }
    ~Scratch() { fs::remove_all(path); }
};

std::string message_of(const std::function<void()>& f) {
    try {
        f();
    } catch (const Error& e) { return std::string(e.what()) + " | " + e.hint(); }
    return "";
}
std::string refusal(const std::string& text) {
    return message_of([&] { parse_model(text, "file"); });
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
    const size_t at = text.find(what);
    EXPECT_NE(at, std::string::npos) << what;
    return at == std::string::npos ? text : text.replace(at, what.size(), by);
}

constexpr ModelDevice cpu{}, gpu0{1, 0, 1}, gpu1{1, 1, 1};

// Awkward numbers, several devices and implementations, one of them empty.
ModelFile sample_file() {
    ModelFile file;
    file.set(gpu1, 0, entry_of(0xdeadbeef, 3 << 20, 2 * std::pow(317, 3), {1.0 / 3, 0.1, 12345.678901}));
    file.set(cpu, 1, entry_of(7, 1, 1, {1e-3}));
    file.set(cpu, 1, entry_of(0xffffffff, int64_t(1) << 40, 1e18, std::vector<double>(1000, 1e7 / 3)));
    file.set(gpu0, 0, {});
    return file;
}

fs::path published() {
    for (const auto& m : known_machines("/nonexistent"))
        if (m.kind == "StarPU's") return m.folder;
    return {};
}

TEST(ModelFile, WhatIsWrittenReadsBackEqual) {
    const ModelFile file = sample_file();
    EXPECT_EQ(parse_model(to_text(file), "file"), file);
    EXPECT_EQ(parse_model(to_text({}), "file"), ModelFile{});
    ASSERT_NE(file.find(cpu, 1, 7), nullptr);
    EXPECT_EQ(file.find(cpu, 0, 7), nullptr);
    EXPECT_EQ(file.find(cpu, 9, 7), nullptr);
    EXPECT_EQ(file.find({2, 0, 1}, 0, 7), nullptr);
}

TEST(ModelFile, SetReplacesTheFootprint) {
    ModelFile file = sample_file();
    const ModelEntry now = entry_of(7, 5, 6, {2, 4});
    file.set(cpu, 1, now);
    EXPECT_EQ(file.arch(cpu).implementations[1].size(), 2u);
    EXPECT_EQ(*file.find(cpu, 1, 7), now);
}

// StarPU truncates a file and writes it anew, however old it is: a reader in between waits.
TEST(ModelFile, RewrittenWhileItIsRead) {
    Scratch scratch;
    const fs::path path = scratch.path / "model";
    write_model(path, sample_file());
    const std::string text = to_text(sample_file());
    std::atomic<bool> stop{false};
    std::thread writer([&] {
        for (int round = 0; !stop; ++round) {
            std::ofstream file(path);
            file << text.substr(0, text.size() / 2) << std::flush;
            std::this_thread::sleep_for(std::chrono::milliseconds(3));
            file << text.substr(text.size() / 2) << std::flush;
            file.close();
            fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::seconds(100 + round));
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    });
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
    while (std::chrono::steady_clock::now() < end)
        EXPECT_EQ(message_of([&] { EXPECT_EQ(read_model(path), sample_file()); }), "");
    stop = true;
    writer.join();
}

TEST(ModelFile, FastestOfTheImplementations) {
    ModelFile file;
    file.set(cpu, 0, entry_of(7, 8, 9, {4, 4})), file.set(cpu, 2, entry_of(7, 8, 9, {3, 3}));
    file.set(gpu0, 0, entry_of(7, 8, 9, {1, 1}));
    EXPECT_EQ(file.fastest_us(cpu, 7), 3);
    EXPECT_EQ(file.fastest_us(gpu0, 7), 1);
    EXPECT_TRUE(std::isnan(file.fastest_us(gpu1, 7)));
    EXPECT_TRUE(std::isnan(file.fastest_us(cpu, 8)));
}

TEST(ModelFile, EntryOfTimes) {
    const ModelEntry e = entry_of(1, 2, 3, {1, 2, 3, 6});
    EXPECT_DOUBLE_EQ(e.mean_us, 3);
    EXPECT_DOUBLE_EQ(e.deviation_us, std::sqrt(14.0 / 4));
    EXPECT_DOUBLE_EQ(e.sum_us, 12);
    EXPECT_DOUBLE_EQ(e.sum2_us2, 50);
    EXPECT_EQ(e.samples, 4);
    EXPECT_EQ(entry_of(1, 2, 3, {}).mean_us, 0);
}

TEST(Published, AllThatStarPUPublishesParses) {
    if (published().empty()) GTEST_SKIP() << "StarPU was installed without its sampled machines";
    int64_t files = 0, entries = 0;
    for (const auto& file : fs::directory_iterator(published() / "codelets" / "45")) {
        const ModelFile model = read_model(file.path());
        EXPECT_EQ(parse_model(to_text(model), "again"), model) << file.path();
        for (const ModelArch& a : model.archs)
            for (const auto& i : a.implementations) entries += int64_t(i.size());
        ++files;
    }
    EXPECT_GT(files, 200);
    EXPECT_GT(entries, 3000);
    const ModelFile gemm = read_model(published() / "codelets" / "45" / "chol_model_gemm.sirocco");
    EXPECT_EQ(gemm.archs.size(), 5u);
    const ModelEntry* e = gemm.find(gpu1, 0, 0xf0ac7beb);
    ASSERT_NE(e, nullptr);
    EXPECT_EQ(*e, (ModelEntry{0xf0ac7beb, 4915200, 5.242880e8, 265.1541, 28.96639, 2197862, 589727200, 8289}));
}

TEST(ModelFile, StarPUReadsWhatIsWritten) {
    Scratch scratch;
    setenv("STARPU_HOME", scratch.path.c_str(), 1);
    starpu_drivers_preinit();  // else StarPU does not know how devices are called
    starpu_perfmodel_initialize();
    const fs::path path = scratch.path / "written.somewhere";
    write_model(path, sample_file());
    starpu_perfmodel model{};
    model.type = STARPU_PERFMODEL_INVALID;
    ASSERT_EQ(starpu_perfmodel_load_file(path.c_str(), &model), 0);
    EXPECT_EQ(model.type, STARPU_HISTORY_BASED);
    char* text = nullptr;
    size_t size = 0;
    FILE* out = open_memstream(&text, &size);
    starpu_perfmodel_dump_xml(out, &model);
    fclose(out);
    const std::string xml(text, size);
    free(text);
    EXPECT_NE(xml.find("footprint=\"deadbeef\" size=\"3145728\""), std::string::npos) << xml;
    EXPECT_NE(xml.find("footprint=\"00000007\" size=\"1\" flops=\"1.000000e+00\" mean=\"1.000000e-03\""),
              std::string::npos);
    EXPECT_NE(xml.find("nsample=\"1000\""), std::string::npos);
    starpu_perfmodel_unload_model(&model);
}

TEST(ModelFile, CutOffAnywhereIsAnError) {
    const std::string text = to_text(sample_file());
    const size_t last_line = text.find_last_not_of('\n') + 2;  // with its end; then an empty line
    for (size_t n = 0; n < text.size(); ++n) {
        const std::string what = refusal(text.substr(0, n));
        EXPECT_EQ(what == "", n >= last_line) << "cut to " << n << " bytes: " << what;
        EXPECT_EQ(what.find('\n'), std::string::npos);
    }
}

// StarPU rewrites a model in place when it ends: another run that starts meanwhile must not stop on the torn file.
TEST(ModelFile, OneThatIsBeingWrittenIsWaitedFor) {
    const Scratch scratch;
    const fs::path path = scratch.path / "gemm_f32.here";
    ModelFile file;
    file.set(cpu, 0, entry_of(7, 100, 10, std::vector<double>(12, 5.0)));
    write_file(path, "");
    std::thread writer([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        write_model(path, file);
    });
    EXPECT_EQ(read_model(path), file);
    writer.join();
}

// The processes that left them are gone: no number of a process is that large.
TEST(Machine, TemporariesOfTheKilledGoWhenFactsAreChanged) {
    const Scratch scratch;
    fs::create_directories(scratch.path / "codelets" / "45");
    const fs::path stale[] = {scratch.path / "tessera.json.tmp-999999999",
                              scratch.path / "codelets" / "45" / "gemm_f32.here.tmp-999999999"};
    const fs::path alive = scratch.path / ("other.json.tmp-" + std::to_string(getpid()));
    for (const fs::path& p : stale) write_file(p, "x");
    write_file(alive, "x");
    change_facts(scratch.path, [](MachineFacts& facts) { facts.description = "changed"; });
    for (const fs::path& p : stale) EXPECT_FALSE(fs::exists(p)) << p;
    EXPECT_TRUE(fs::exists(alive));
    EXPECT_EQ(read_facts(scratch.path).description, "changed");
}

// A process of another host or container, which this one does not know, holds its file's lock.
TEST(Machine, TemporariesOfOthersStayWhileTheyAreWritten) {
    const Scratch scratch;
    const fs::path theirs = scratch.path / "tessera.json.tmp-999999999";
    {
        write_file(theirs, "x");
        const Descriptor held(open(theirs.c_str(), O_RDWR | O_CLOEXEC));
        ASSERT_EQ(flock(held.value(), LOCK_EX), 0);
        remove_stale_files(scratch.path);
        EXPECT_TRUE(fs::exists(theirs));
    }
    AtomicFile writing(scratch.path / "ours");
    const Descriptor ours(open((scratch.path / ("ours.tmp-" + std::to_string(getpid()))).c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_NE(flock(ours.value(), LOCK_EX | LOCK_NB), 0) << "whoever writes one holds it";
    remove_stale_files(scratch.path);
    EXPECT_FALSE(fs::exists(theirs));
}

TEST(ModelFile, LyingCountsAllocateNothing) {
    const std::string text = to_text(sample_file());
    for (const char* lie : {"4000000000", "999999999999999999", "5"}) {
        EXPECT_NE(refusal(replaced(text, "combinations\n3", std::string("combinations\n") + lie)), "");
        EXPECT_NE(refusal(replaced(text, "implementations\n2", std::string("implementations\n") + lie)), "");
        EXPECT_NE(refusal(replaced(text, "entries\n1", std::string("entries\n") + lie)), "");
        EXPECT_NE(refusal(replaced(text, "base\n0\n", "base\n" + std::string(lie) + "\n")), "");
    }
    EXPECT_NE(refusal(replaced(text, "entries\n1", "entries\n0")), "");
    EXPECT_NE(refusal(replaced(text, "implementations\n1", "implementations\n0")), "");
    EXPECT_NE(refusal(replaced(text, "combinations\n3", "combinations\n-3")), "");
}

TEST(ModelFile, WhatIsWrongIsNamed) {
    const std::string text = to_text(sample_file());
    EXPECT_NE(refusal(replaced(text, "45\n", "44\n")).find("version 44, not 45"), std::string::npos);
    EXPECT_NE(refusal("").find("'file' is empty"), std::string::npos);
    EXPECT_NE(refusal("45").find("cut off"), std::string::npos);
    EXPECT_NE(refusal(std::string(100, '\0')), "");
    EXPECT_NE(refusal(replaced(text, "devices\n1", "devices\n2")).find("parallel workers"), std::string::npos);
    EXPECT_NE(refusal(replaced(text, "deadbeef", "deadbeef0")).find("footprint"), std::string::npos);
    EXPECT_NE(refusal(replaced(text, "deadbeef", "deadbeex")).find("line "), std::string::npos);
    EXPECT_NE(refusal(replaced(text, "00000007\t1 ", "00000007\t-1")), "");
    for (const char* bad : {"nan", "inf", "-1e0", "1e999", "x"})
        EXPECT_NE(refusal(replaced(text, "1.000000e-03", bad)), "") << bad;
    for (const char* bad : {"0.000000e+00", "1e-300", "1e+300"})
        EXPECT_NE(refusal(replaced(text, "1.000000e-03", bad)).find("which no task takes"), std::string::npos) << bad;
    EXPECT_NE(refusal(replaced(text, "TCPIP_MS - 6)\n1", "TCPIP_MS - 6)\n8")).find("none beyond 7"), std::string::npos);
    std::string twice = text;
    twice[twice.rfind("id \n0\n") + 4] = '1';  // of CUDA 0; CUDA 1 was there before
    EXPECT_NE(refusal(twice).find("cuda 1 was there before"), std::string::npos) << refusal(twice);
}

TEST(ModelFile, FormsThatStarPUAlsoWrites) {
    const std::string text = to_text(sample_file());
    const std::string several = "# n\tintercept\tM*N\t\t\n3\t1.0e+00\t-2.5e-03\tnan\n";
    EXPECT_EQ(parse_model(replaced(text, "# not multiple-regression-base\n0\n", several), "file"), sample_file());
    EXPECT_NE(refusal(replaced(text, "# not multiple-regression-base\n0\n", "3\t1\t2\n")).find("3 coefficients"),
              std::string::npos);
    const std::string flops = "00000007\t1              \t1.000000e+00   \t";
    ModelFile old = sample_file();
    ModelEntry e = *old.find(cpu, 1, 7);
    e.flops = 0;
    old.set(cpu, 1, e);
    EXPECT_EQ(parse_model(replaced(text, flops, "00000007\t1\t"), "file"), old) << "old files have no flops";
    EXPECT_EQ(parse_model(replaced(text, flops, "00000007\t1\tnan\t"), "file"), old) << "flops that differed";
}

TEST(ModelFile, DeviceNames) {
    for (const ModelDevice& d : {cpu, gpu0, gpu1, ModelDevice{0, 3, 1}, ModelDevice{0, 0, 4}, ModelDevice{5, 2, 1}})
        EXPECT_EQ(parse_device(name_of(d)), d) << name_of(d);
    EXPECT_EQ(name_of(cpu), "cpu");
    EXPECT_EQ(name_of(gpu1), "cuda 1");
    for (const char* bad : {"", "cuda", "cuda ", "cuda x", "cpu -1", "cuda 1 2", "gpu 1", "device-1 0", "cpu x"})
        EXPECT_EQ(parse_device(bad), std::nullopt) << bad;
}

MachineFacts sample_facts() {
    MachineFacts m{"here", "a \"test\"", "1.4.10", "2026-11-21", "tessera calibrate train mlp", "", {}, {}, {}};
    m.devices = {{cpu, "a core", 100, 50, 0, 12.5, true, "measured"},
                 {gpu1, "Tesla K40m", 4290, 1430, 0, 288, false, "s"}};
    CodeletFacts& c = m.codelets["gemm_f32"];
    c = {"gemm", "f32", "gemm.cu", "0123456789ab", {}};
    c.entries[0xf0000001] = {"gemm alpha=1",           {{64, 32, 128}, {1, 2, 3}}, 1e9, 3.5,
                             {{gpu1, Origin::mapped}}, "tessera calibrate gemm"};
    c.entries[2] = {"", {}, 0, 0, {}, ""};
    return m;
}

TEST(Facts, RoundTripSortedAndDiffable) {
    Scratch scratch;
    write_facts(scratch.path, sample_facts());
    const auto bytes = read_file(scratch.path / "tessera.json");
    const std::string text(bytes.begin(), bytes.end());
    const MachineFacts back = read_facts(scratch.path);
    write_facts(scratch.path, back);
    const auto again = read_file(scratch.path / "tessera.json");
    EXPECT_EQ(std::string(again.begin(), again.end()), text);
    EXPECT_NE(text.find(" \"64 x 32 ld 128\",\n"), std::string::npos) << text;
    EXPECT_EQ(back.description, "a \"test\"");
    ASSERT_NE(back.device(gpu1), nullptr);
    EXPECT_EQ(back.device(gpu1)->name, "Tesla K40m");
    EXPECT_EQ(back.device(gpu0), nullptr);
    const EntryFacts* e = back.entry("gemm_f32", 0xf0000001);
    ASSERT_NE(e, nullptr);
    EXPECT_EQ(e->tiles, (std::vector<std::array<int64_t, 3>>{{64, 32, 128}, {1, 2, 3}}));
    EXPECT_EQ(e->on(gpu1), Origin::mapped);
    EXPECT_EQ(e->on(cpu), Origin::measured);
    EXPECT_EQ(e->command, "tessera calibrate gemm");
    EXPECT_EQ(back.entry("gemm_f32", 2)->command, "");
    EXPECT_EQ(back.entry("gemm_f32", 3), nullptr);
    EXPECT_EQ(back.entry("gemm", 2), nullptr);
}

TEST(Facts, DamageIsOneClearLine) {
    Scratch scratch;
    EXPECT_TRUE(read_facts(scratch.path).devices.empty()) << "no file: no facts";
    write_facts(scratch.path, sample_facts());
    const fs::path path = scratch.path / "tessera.json";
    const auto bytes = read_file(path);
    const std::string text(bytes.begin(), bytes.end());
    const auto refused = [&](const std::string& changed) {
        std::ofstream(path, std::ios::binary) << changed;
        return message_of([&] { read_facts(scratch.path); });
    };
    for (size_t n = 0; n + 1 < text.size(); ++n) {
        const std::string what = refused(text.substr(0, n));
        ASSERT_NE(what.find("tessera.json"), std::string::npos) << "cut to " << n << " bytes";
        ASSERT_EQ(what.find('\n'), std::string::npos);
    }
    EXPECT_NE(refused(replaced(text, "\"version\": 1", "\"version\": 2")).find("version 2, not 1"), std::string::npos);
    EXPECT_NE(refused(replaced(text, "\"cuda 1\"", "\"cuda z\"")).find("no device"), std::string::npos);
    EXPECT_NE(refused(replaced(text, "\"mapped\"", "\"guessed\"")).find("no origin"), std::string::npos);
    EXPECT_NE(refused(replaced(text, "64 x 32", "64 y 32")).find("no tile"), std::string::npos);
    EXPECT_NE(refused(replaced(text, "4290.0", "-1")).find("negative"), std::string::npos);
    EXPECT_NE(refused(replaced(text, "4290.0", "\"fast\"")).find("(/devices/1/f32_gflops) "), std::string::npos);
    EXPECT_NE(refused(replaced(text, "4290.0", "-1")).find("(/devices/1) f32_gflops is negative"), std::string::npos);
    EXPECT_NE(refused(replaced(text, "64 x 32", "64 y 32")).find("(/codelets/gemm_f32/entries/f0000001) "),
              std::string::npos);
    EXPECT_NE(refused(replaced(text, "\"command\": 0", "\"command\": 1")), "") << "no such command";
    EXPECT_NE(refused(replaced(text, "f0000001", "zz")).find("no footprint"), std::string::npos);
    for (const char* other : {"[]", "3", "{}", "null", "{\"version\": 1}"}) EXPECT_NE(refused(other), "") << other;
}

TEST(Shipped, FiguresOfDevicesAreFoundByAnyName) {
    if (shipped_folder().empty()) GTEST_SKIP() << "perfmodels/ is not beside this program";
    for (const char* name : {"Tesla K40m", "Tesla M2070", "Fermi C2050", "Quadro FX5800", "NVIDIA H100 80GB HBM3"}) {
        const auto device = known_device(name);
        ASSERT_TRUE(device) << name;
        EXPECT_GT(device->f32_gflops, 0) << name;
        EXPECT_GE(device->f32_gflops, device->f64_gflops) << name;
        EXPECT_GT(device->gbytes_per_s, 0) << name;
        EXPECT_NE(device->source, "") << name;
        EXPECT_FALSE(device->measured);
    }
    EXPECT_FALSE(known_device("a toaster"));
    EXPECT_DOUBLE_EQ(known_device("Tesla K40m")->gflops(DType::bf16), 4290) << "widened to f32";
}

void make_bus(const fs::path& folder, const std::string& name, const fs::path& like) {
    fs::create_directories(folder / "bus");
    fs::create_directories(folder / "codelets" / "45");
    for (const char* kind : {"affinity", "bandwidth", "config", "latency", "platform.xml", "platform.v4.xml"})
        fs::copy_file(like / "bus" / (std::string("sirocco.") + kind), folder / "bus" / (name + "." + kind));
}

TEST(Published, CopiesOneOfManyAndKnowsItsDevices) {
    if (published().empty()) GTEST_SKIP() << "StarPU was installed without its sampled machines";
    Scratch scratch;
    const fs::path to = scratch.path / "copy";
    fs::create_directories(to / "codelets" / "45");
    write_model(to / "codelets" / "45" / "old_codelet.hannibal", {});
    for (int round = 0; round < 2; ++round) {
        const Machine m = copy_machine("hannibal", scratch.path, to);
        EXPECT_EQ(m.name(), "hannibal");
        EXPECT_EQ(m.folder(), to);
        for (const char* part : {"bus", "codelets/45"})
            for (const auto& file : fs::directory_iterator(to / part))
                EXPECT_NE(file.path().filename().string().find("hannibal"), std::string::npos) << file.path();
        EXPECT_FALSE(fs::exists(to / "bus" / "hannibal-pitch.config"));
        EXPECT_FALSE(fs::exists(m.model_path("old_codelet"))) << "what the machine has no model of stays away";
        EXPECT_NE(m.model("chol_model_gemm").find(gpu1, 0, 0x24c84a50), nullptr);
        EXPECT_TRUE(m.model("no_such_codelet").archs.empty());
        const DeviceFacts* gpu = m.facts.device(gpu0);
        EXPECT_EQ(gpu ? gpu->name : "", shipped_folder().empty() ? "" : "Quadro FX 5800");
    }
}

TEST(Published, UnknownOrDamagedOnesAreRefused) {
    if (published().empty()) GTEST_SKIP() << "StarPU was installed without its sampled machines";
    Scratch scratch;
    const fs::path mine = scratch.path / "machines" / "mine", to = scratch.path / "copy";
    EXPECT_NE(message_of([&] { Machine{mine}; }).find("no bus/*.config"), std::string::npos);
    make_bus(mine, "mine", published());
    EXPECT_EQ(Machine(mine).name(), "mine");
    EXPECT_NE(message_of([&] { Machine(mine, "yours"); }), "");
    EXPECT_NE(message_of([&] { Machine{published()}; }).find("several machines"), std::string::npos);
    const std::string unknown = message_of([&] { copy_machine("siroco", scratch.path, to); });
    EXPECT_NE(unknown.find("unknown machine 'siroco'"), std::string::npos);
    for (const char* known : {"hannibal-pitch, ", "mine, ", "sirocco"})
        EXPECT_NE(unknown.find(known), std::string::npos) << unknown;
    EXPECT_THROW(copy_machine("siroco", scratch.path, to), UsageError);

    const Machine m(mine);
    write_model(m.model_path("good"), sample_file());
    std::ofstream(m.model_path("torn")) << "45\n3\n";
    EXPECT_NE(message_of([&] { copy_machine("mine", scratch.path, to); }).find("cut off"), std::string::npos);
    EXPECT_FALSE(fs::exists(to)) << "nothing of a damaged machine is copied";
    fs::remove(m.model_path("torn"));
    EXPECT_EQ(copy_machine("mine", scratch.path, mine).folder(), mine) << "onto itself: as it is";
    EXPECT_EQ(copy_machine(mine.string(), "/nonexistent", to).model("good"), sample_file()) << "by its folder";
}

TEST(Published, ThisOneIsWhereStarPUsVariablesSay) {
    if (published().empty()) GTEST_SKIP() << "StarPU was installed without its sampled machines";
    Scratch scratch;
    Config config;
    config.cache = scratch.path;
    unsetenv("STARPU_HOME"), unsetenv("STARPU_PERF_MODEL_DIR"), setenv("STARPU_HOSTNAME", "box", 1);
    EXPECT_NE(message_of([&] { own_machine(config); }).find("tessera calibrate"), std::string::npos);
    make_bus(model_folder(config), "box", published());
    EXPECT_EQ(own_machine(config).folder(), model_folder(config));
    make_bus(scratch.path / "elsewhere", "box", published());
    setenv("STARPU_PERF_MODEL_DIR", (scratch.path / "elsewhere").c_str(), 1);
    EXPECT_EQ(own_machine(config).folder(), scratch.path / "elsewhere");
    unsetenv("STARPU_PERF_MODEL_DIR"), unsetenv("STARPU_HOSTNAME");
}

}  // namespace
}  // namespace tessera

// The tests that need StarPU's machines or perfmodels/ are run apart: all of them skipped ends with 77.
int main(int argc, char** argv) { return tessera::testing_tools::engine_main(argc, argv, {}); }
