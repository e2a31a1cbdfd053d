// tessera calibrate train mlp ...: measures what that command's tasks take here, so that policies can place them, and
// keeps it with this machine's performance models. calibrate --all: the same for every op at its declared sizes.
#include <starpu.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/all_ops.h"
#include "apps/calibrate.h"
#include "apps/gemm.h"
#include "apps/peaks.h"
#include "apps/table.h"
#include "apps/train_setup.h"
#include "core/error.h"
#include "core/file.h"
#include "core/scratch.h"
#include "models/bus.h"
#include "models/calibration.h"
#include "models/corun.h"

extern "C" char** environ;

namespace tessera {
namespace {

struct Flags {
    TrainFlags train;  // --all takes --machine, --json and --quiet from them
    std::string save;
    int64_t samples = CalibrationOptions().samples;
    std::optional<int64_t> pairs;  // default: some on GPUs, none on cores
    bool reset = false, all = false, training = false, product = false;
    GemmFlags gemm;
};

// Where the results are kept. StarPU's files and ours bear the name, too.
std::filesystem::path folder_of(const std::string& machine, const Config& config) {
    if (machine.empty()) return own_folder(config);
    if (!is_machine_name(machine))
        throw UsageError("--machine " + in_quotes(machine) + " is not a name: " + machine_names,
                         "--save DIR writes to a folder that you choose");
    for (const KnownMachine& m : known_machines(config.cache))
        if (m.name == machine && (m.kind == "StarPU's" || !read_facts(m.folder).derived.empty()))
            throw UsageError("--machine '" + machine + "' is another machine, and calibrate measures this one",
                             "choose a name that is not taken ('tessera machine list'), or leave --machine out");
    setenv("STARPU_HOSTNAME", machine.c_str(), 1);
    return own_folder(config);
}

void make_folder(const std::filesystem::path& folder, const std::string& what) {
    std::error_code failure;
    std::filesystem::create_directories(folder, failure);
    if (failure)
        throw Error(what + " '" + folder.string() + "' cannot be made: " + failure.message(), "is the place writable?");
}

// A folder for StarPU's own notes of this run; ours are merged into the machine's files one by one.
class ScratchModels {
 public:
    ScratchModels(const std::filesystem::path& cache, const std::filesystem::path& machine) : folder_(cache) {
        if (has_bus(machine))
            std::filesystem::copy(machine / "bus", folder_.path() / "bus", std::filesystem::copy_options::recursive);
        else adopt_bus(folder_.path());
        setenv("STARPU_PERF_MODEL_DIR", folder_.path().c_str(), 1);
        setenv("STARPU_CALIBRATE", "0", 0);
        setenv("STARPU_SCHED", "eager", 0);  // tasks name their workers
    }

    // A bus measured by this run is news for a machine without one that can be read.
    void give_bus(const std::filesystem::path& machine) const {
        if (has_bus(machine)) return;
        if (!std::filesystem::is_directory(folder_.path() / "bus"))
            throw Error("StarPU measured no bus: it knows a machine of this host's name, " + machine_name(),
                        "set STARPU_HOSTNAME to another name");
        std::filesystem::create_directories(machine / "bus");
        std::vector<std::filesystem::path> files;
        for (const auto& file : std::filesystem::directory_iterator(folder_.path() / "bus")) files.push_back(file);
        // The .config last: where it is, there is a machine.
        std::partition(files.begin(), files.end(), [](const auto& f) { return f.extension() != ".config"; });
        for (const auto& file : files) {
            const auto bytes = read_file(file);
            write_file(machine / "bus" / file.filename(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        }
    }

 private:
    static bool has_bus(const std::filesystem::path& machine) {
        try {
            read_bus(machine / "bus", machine_name());
            return true;
        } catch (const Error&) { return false; }
    }

    ScratchFolder folder_;
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

// What was typed, for whoever looks at the models later, and for measuring the same again: without what changes no
// time.
std::string command_line() { return "tessera " + typed_words({"--quiet", "--json", "--reset"}, {"--save"}); }

// Peaks are what the cores do at best: of two measurements the larger is nearer, unless all is measured again.
void note_machine(MachineFacts& facts, Peaks peaks, bool reset) {
    if (const DeviceFacts* old = facts.device({}); old && old->measured && !reset) {
        peaks.f32_gflops = std::max(peaks.f32_gflops, old->f32_gflops);
        peaks.f64_gflops = std::max(peaks.f64_gflops, old->f64_gflops);
        peaks.gbytes_per_s = std::max(peaks.gbytes_per_s, old->gbytes_per_s);
    }
    std::erase_if(facts.devices, [](const DeviceFacts& d) { return d.device == ModelDevice{}; });
    DeviceFacts core;
    core.name = "CPU core", core.measured = true, core.source = "measured, all cores busy";
    core.f32_gflops = peaks.f32_gflops, core.f64_gflops = peaks.f64_gflops, core.gbytes_per_s = peaks.gbytes_per_s;
    facts.devices.push_back(core);
    facts.name = machine_name();
    facts.command = command_line();
    facts.date = today();
    int major, minor, release;
    starpu_get_version(&major, &minor, &release);
    facts.starpu = std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

using Measure = std::function<CalibrationResult(const Runtime&, const std::vector<const Plan*>&, const Step&)>;

CalibrationResult measure_training(TrainFlags f, const Measure& measure) {
    constexpr int64_t samples = 4096;
    f.checkpoint.clear(), f.metrics.clear(), f.plot.clear();  // nothing is trained
    f.resume = false, f.every = 0;
    TrainSetup setup(f, [&] { return shape_of_data(f.data, f.validation.value_or(-1), samples); });
    if (setup.data.test.count > 0) setup.trainer.prepare_evaluation(setup.data.test);
    std::vector<int64_t> batch(size_t(f.batch));
    int64_t least = std::min(samples, setup.data.train.count);  // evaluation reads the same indices
    if (setup.data.test.count > 0) least = std::min(least, setup.data.test.count);
    for (size_t i = 0; i < batch.size(); ++i) batch[i] = int64_t(i * 2654435761u % size_t(least));
    Step step;
    step.batch = batch.data();
    return measure(setup.runtime, setup.plans(), step);
}

CalibrationResult measure_gemm(GemmFlags f, const Measure& measure) {
    check_gemm_flags(f);
    const DType dtype = parse_dtype(f.dtype);
    const Matrix a{nullptr, f.ta ? f.k : f.m, f.ta ? f.m : f.k, 0, dtype},
        b{nullptr, f.tb ? f.n : f.k, f.tb ? f.k : f.n, 0, dtype}, c{nullptr, f.m, f.n, 0, dtype};
    const Runtime runtime(f.common.runtime());
    const int64_t tile = f.tile == "auto" ? choose_tile(f, runtime, nullptr, a, b, c) : std::stoll(f.tile);
    const ProductParams params(a, b, c, f.gemm(), tile);
    const Plan plan = product_plan(params.a, params.b, params.c, f.gemm(), {});
    return measure(runtime, {&plan}, {});
}

CalibrationResult measure_all_ops(const CommonOptions& common, const Measure& measure) {
    const AllOps ops;
    const Runtime runtime(common.runtime());
    std::vector<const Plan*> plans;
    for (const Plan& p : ops.plans) plans.push_back(&p);
    return measure(runtime, plans, ops.step());
}

void print_result(const CalibrationResult& r, int64_t together, double seconds, const std::filesystem::path& folder,
                  const Flags& f) {
    std::cout << r.measured << " measured, " << r.present << " were there, " << r.spikes << " spikes left out, "
              << human_seconds(seconds) << "; kept in " << folder.string() << "\n";
    if (together > 0) std::cout << together << " combinations measured beside each other\n";
    if (!f.save.empty()) std::cout << "saved to " << f.save << "\n";
    if (f.train.common.json)
        std::cout << nlohmann::json{{"measured", r.measured}, {"present", r.present}, {"spikes", r.spikes},
                                    {"together", together},   {"seconds", seconds},   {"folder", folder.string()}}
                         .dump()
                  << std::endl;
}

int run(Flags f) {
    const Config config = read_config(environ);
    const auto folder = folder_of(f.train.common.machine, config);
    f.train.common.machine.clear(), f.gemm.common.machine.clear();  // it has named where to keep models; none are used
    make_folder(folder, "the models' folder");
    if (!f.save.empty()) {
        f.save = named_folder(f.save, "--save");
        make_folder(f.save, "--save:");
        require_writable(std::filesystem::path(f.save) / "tessera.json", "--save");
    }
    const ScratchModels scratch(config.cache, folder);
    f.train.common.copied_models = f.gemm.common.copied_models = true;
    if (f.pairs != 0) setenv("STARPU_NWORKER_PER_CUDA", "2", 0);  // times alone are of the first of them
    const auto start = std::chrono::steady_clock::now();
    const Peaks peaks = measure_peaks(1);  // before StarPU's workers take the cores
    Bar bar(f.train.common.quiet);
    CalibrationOptions o;
    o.samples = f.samples, o.reset = f.reset, o.command = command_line();
    o.progress = [&](int64_t done, int64_t total, const std::string& what) { bar.show(done, total, what); };
    int64_t together = 0;
    const Measure measure = [&](const Runtime& runtime, const std::vector<const Plan*>& plans, const Step& step) {
        scratch.give_bus(folder);
        if (!f.save.empty()) check_saving(Machine(folder, machine_name()), f.save);  // one that is refused is not noted
        change_facts(folder, [&](MachineFacts& facts) { note_machine(facts, peaks, f.reset); });
        Machine machine(folder, machine_name());
        const CalibrationResult r = calibrate(runtime, machine, plans, step, o);
        CoRunOptions company;
        company.pairs = f.pairs.value_or(runtime.cuda_workers() > 0 ? CoRunOptions().pairs : 0);
        company.reset = f.reset, company.progress = o.progress;
        for (const Plan* plan : plans) together += measure_together(runtime, machine, *plan, step, company);
        if (!f.save.empty()) save_machine(machine, f.save);
        return r;
    };
    const CalibrationResult r = f.all       ? measure_all_ops(f.train.common, measure)
                                : f.product ? measure_gemm(f.gemm, measure)
                                            : measure_training(f.train, measure);
    print_result(r, together, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), folder,
                 f);
    return 0;
}

// Both forms have these: calibrate --all --reset, calibrate train mlp --reset.
void add_measuring_flags(CLI::App& app, Flags& f) {
    app.add_option("--samples", f.samples, "Timed runs per device and implementation")
        ->capture_default_str()
        ->check(whole_number(least_samples));
    app.add_option("--pairs", f.pairs,
                   "Pairs of tasks that run side by side, also measured together; default: 8 on GPUs")
        ->check(whole_number(0));
    app.add_flag("--reset", f.reset, "Measure again what is there");
    app.add_option("--save", f.save, "Also write the machine's models to this folder, e.g. perfmodels/NAME")
        ->type_name("DIR")
        ->check(not_empty());
}

}  // namespace

// Sets what of its flags is known only when they are parsed.
static void add_flags(CLI::App& app, Flags& f) {
    CommonOptions& common = f.train.common;
    app.add_flag("--all", f.all, "Every op at its declared sizes, instead of a command's tasks");
    add_measuring_flags(app, f);
    app.add_option("--machine", common.machine, "Keep the results under this name")
        ->type_name("NAME")
        ->check(not_empty());
    app.add_flag("--json", common.json, "Last line of stdout is one JSON object");
    app.add_flag("--quiet", common.quiet, "No progress on stderr");
    app.require_subcommand(0, 1);
    CLI::App* train = app.add_subcommand("train", "The tasks of a training step and of an evaluation");
    add_train_flags(*train, f.train);
    add_measuring_flags(*train, f);
    train->parse_complete_callback([&f] { f.training = true; });
    CLI::App* product = app.add_subcommand("gemm", "The tasks of a product");
    add_gemm_flags(*product, f.gemm);
    add_measuring_flags(*product, f);
    product->parse_complete_callback([&f] {
        f.product = true;
        f.train.common = f.gemm.common;  // what is common to all forms is looked up there
    });
}

// The flags of the calibration that the machine's facts name, or nothing if they name none that can be read.
static std::optional<Flags> flags_of(const std::string& command) {
    const std::string prefix = "tessera calibrate ";
    if (!command.starts_with(prefix)) return std::nullopt;
    Flags f;
    CLI::App app;
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    add_flags(app, f);
    try {
        app.parse(command.substr(prefix.size()));
    } catch (const CLI::ParseError&) { return std::nullopt; }
    if (f.all + f.training + f.product != 1) return std::nullopt;
    return f;
}

static std::vector<Finding> check_beside_runtime(const Machine& machine, const Config& config, Flags flags,
                                                 CheckOptions o) {
    const ScratchModels scratch(config.cache, machine.folder());
    flags.train.common.copied_models = flags.gemm.common.copied_models = true;
    std::vector<Finding> findings;
    const auto start = std::chrono::steady_clock::now();
    const Measure measure = [&](const Runtime& runtime, const std::vector<const Plan*>& plans, const Step& step) {
        std::set<std::string> codelets;
        std::set<std::pair<std::string, uint32_t>> sizes;
        for (const Plan* plan : plans)
            for (const TaskSpec& t : plan->tasks)
                codelets.insert(t.codelet->name), sizes.emplace(t.codelet->name, t.footprint);
        o.measures = [codelets, sizes](const std::string& codelet, std::optional<uint32_t> footprint) {
            return footprint ? sizes.contains({codelet, *footprint}) : codelets.contains(codelet);
        };
        o.remeasure = [&](const std::string& codelet, uint32_t footprint, int implementation) -> std::optional<double> {
            constexpr double most_s = 20;  // a look, not a calibration
            const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
            if (spent.count() > most_s) return std::nullopt;
            return remeasure(runtime, plans, step, codelet, footprint, implementation);
        };
        findings = check_models(machine, o);
        return CalibrationResult{};
    };
    if (flags.all) measure_all_ops(flags.train.common, measure);
    else if (flags.product) measure_gemm(flags.gemm, measure);
    else measure_training(flags.train, measure);
    return findings;
}

std::vector<Finding> check_with_drift(const Machine& machine, const Config& config, const CheckOptions& o) {
    auto flags = flags_of(machine.facts.command);
    if (!flags) return check_models(machine, o);
    flags->train.common.machine.clear(), flags->gemm.common.machine.clear();  // it named where to keep models
    try {
        return check_beside_runtime(machine, config, *flags, o);
    } catch (const std::exception& e) {  // its data may be elsewhere, its workers gone
        std::cerr << "note: drift is not looked for, because '" << machine.facts.command << "' fails here: " << e.what()
                  << std::endl;
    }
    return check_models(machine, o);
}

Command add_calibrate(CLI::App& app) {
    auto flags = std::make_shared<Flags>();
    add_flags(app, *flags);
    return [flags] {
        const bool command = flags->training || flags->product;
        if (flags->all && command)
            throw UsageError("--all measures every op: it does not go with train or gemm", "give one of them");
        if (!flags->all && !command)
            throw UsageError("calibrate needs to know what to measure",
                             "name a command, e.g. tessera calibrate train mlp --batch 256, or give --all");
        return run(*flags);
    };
}

}  // namespace tessera
