// tessera calibrate train mlp ...: measures what that command's tasks take here, so that policies can place them, and
// keeps it with this machine's performance models.
#include <starpu.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/peaks.h"
#include "apps/table.h"
#include "apps/train_setup.h"
#include "core/error.h"
#include "models/calibration.h"

extern "C" char** environ;

namespace tessera {
namespace {

struct Flags {
    TrainFlags train;
    std::string save;
    int64_t samples = 12;
    bool reset = false, all = false, json = false, quiet = false;
};

// A folder for StarPU's own notes of this run; ours are merged into the machine's files one by one.
class ScratchModels {
 public:
    explicit ScratchModels(const std::filesystem::path& cache, const std::filesystem::path& machine)
        : folder_(cache / ("calibrate-" + std::to_string(getpid()))) {
        std::filesystem::create_directories(folder_);
        if (std::filesystem::exists(machine / "bus"))
            std::filesystem::copy(machine / "bus", folder_ / "bus", std::filesystem::copy_options::recursive);
        setenv("STARPU_PERF_MODEL_DIR", folder_.c_str(), 1);
    }
    ~ScratchModels() {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }
    ScratchModels(const ScratchModels&) = delete;

    // A bus measured by this run is news for a machine without one.
    void give_bus(const std::filesystem::path& machine) const {
        if (!std::filesystem::exists(machine / "bus") && std::filesystem::exists(folder_ / "bus"))
            std::filesystem::copy(folder_ / "bus", machine / "bus", std::filesystem::copy_options::recursive);
    }

 private:
    std::filesystem::path folder_;
};

// Bars for people, lines for pipes.
class Bar {
 public:
    explicit Bar(bool quiet) : quiet_(quiet), terminal_(isatty(2)) {}
    ~Bar() {
        if (drawn_) std::cerr << "\r\033[K";
    }
    void show(int64_t done, int64_t total, const std::string& what) {
        if (quiet_ || total == 0) return;
        if (!terminal_) {
            if (what != last_ && !what.empty())
                std::cerr << "calibrate: " << what << " (" << done << " of " << total << ")\n";
            last_ = what;
            return;
        }
        const int64_t width = 30, filled = done * width / total;
        std::cerr << "\r\033[Kcalibrate [" << std::string(size_t(filled), '#')
                  << std::string(size_t(width - filled), '.') << "] " << done << "/" << total << " " << what
                  << std::flush;
        drawn_ = true;
    }

 private:
    bool quiet_, terminal_, drawn_ = false;
    std::string last_;
};

void note_machine(const std::filesystem::path& folder, const std::string& command, const Peaks& peaks) {
    MachineFacts facts = read_facts(folder);
    std::erase_if(facts.devices, [](const DeviceFacts& d) { return d.device == ModelDevice{}; });
    DeviceFacts core;
    core.name = "CPU core", core.measured = true, core.source = "measured, all cores busy";
    core.f32_gflops = peaks.f32_gflops, core.f64_gflops = peaks.f64_gflops, core.gbytes_per_s = peaks.gbytes_per_s;
    facts.devices.push_back(core);
    facts.name = machine_name();
    facts.command = command;
    const std::time_t now = std::time(nullptr);
    char date[16];
    std::strftime(date, sizeof date, "%Y-%m-%d", std::gmtime(&now));
    facts.date = date;
    int major, minor, release;
    starpu_get_version(&major, &minor, &release);
    facts.starpu = std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
    write_facts(folder, facts);
}

int run(const Flags& f) {
    const Config config = read_config(environ);
    const auto folder =
        f.train.common.machine.empty() ? model_folder(config) : config.cache / "machines" / f.train.common.machine;
    std::filesystem::create_directories(folder);
    const ScratchModels scratch(config.cache, folder);
    setenv("STARPU_CALIBRATE", "0", 0);
    setenv("STARPU_SCHED", "eager", 0);  // tasks name their workers
    const auto start = std::chrono::steady_clock::now();
    const Peaks peaks = measure_peaks(1);  // before StarPU's workers take the cores
    constexpr int64_t samples = 4096;
    TrainSetup setup(f.train, [&] { return shape_of_data(f.train.data, f.train.validation, samples); });
    if (setup.held_out().count > 0) setup.trainer.prepare_evaluation(setup.held_out());
    scratch.give_bus(folder);
    note_machine(folder, "tessera calibrate train " + f.train.network, peaks);
    Machine machine(folder);
    std::vector<int64_t> batch(size_t(f.train.batch));
    for (size_t i = 0; i < batch.size(); ++i)
        batch[i] = int64_t(i * 2654435761u % size_t(std::min(samples, setup.data.train.count)));
    Step step;
    step.batch = batch.data();
    Bar bar(f.train.common.quiet);
    CalibrationOptions o;
    o.samples = f.samples, o.reset = f.reset;
    o.progress = [&](int64_t done, int64_t total, const std::string& what) { bar.show(done, total, what); };
    const CalibrationResult r = calibrate(setup.runtime, machine, setup.plans(), step, o);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::cout << r.measured << " measured, " << r.present << " were there, " << r.spikes << " spikes left out, "
              << human_seconds(seconds) << "; kept in " << folder.string() << "\n";
    if (!f.save.empty()) {
        save_machine(machine, f.save);
        std::cout << "saved to " << f.save << "\n";
    }
    if (f.train.common.json)
        std::cout << nlohmann::json{{"measured", r.measured},
                                    {"present", r.present},
                                    {"spikes", r.spikes},
                                    {"seconds", seconds},
                                    {"folder", folder.string()}}
                         .dump()
                  << std::endl;
    return 0;
}

}  // namespace

Command add_calibrate(CLI::App& app) {
    auto flags = std::make_shared<Flags>();
    app.add_option("--samples", flags->samples, "Timed runs per device and implementation")
        ->capture_default_str()
        ->check(whole_number(10));
    app.add_flag("--reset", flags->reset, "Measure again what is there");
    app.add_option("--save", flags->save, "Also write the machine's models to this folder, e.g. perfmodels/NAME")
        ->type_name("DIR")
        ->check(not_empty());
    app.require_subcommand(1);
    CLI::App* train = app.add_subcommand("train", "The tasks of a training step and of an evaluation");
    add_train_flags(*train, flags->train);
    return [flags] { return run(*flags); };
}

}  // namespace tessera
