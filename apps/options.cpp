#include "apps/options.h"

#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iostream>
#include <limits>
#include <set>

#include "apps/chrome_trace.h"
#include "apps/gantt.h"
#include "apps/table.h"
#include "core/error.h"
#include "core/file.h"
#include "core/scratch.h"
#include "models/corun.h"
#include "models/machine.h"

extern "C" char** environ;

namespace tessera {

#ifndef STARPU_SIMGRID
// StarPU aborts on a file that it cannot read, and a run that is killed may leave one.
static void check_own_models() {
    const std::filesystem::path folder = own_folder(read_config(environ));
    if (!std::filesystem::exists(folder / "bus" / (machine_name() + ".config"))) return;
    const FolderLock lock(folder);  // others may be measuring
    for (const std::string& line : set_damaged_aside(Machine(folder, machine_name())))
        std::cerr << "note: " << line << std::endl;
}

// StarPU looks up models by folder and name, and writes there, too: into a copy that goes with this run.
static std::shared_ptr<ScratchFolder> use_machine(const std::string& name) {
    if (std::getenv("STARPU_PERF_MODEL_DIR"))
        throw UsageError("--machine and STARPU_PERF_MODEL_DIR both name performance models", "give one of them");
    const auto cache = read_config(environ).cache;
    auto scratch = std::make_shared<ScratchFolder>(cache);
    const Machine copy = copy_machine(name, cache, scratch->path());
    setenv("STARPU_PERF_MODEL_DIR", copy.folder().c_str(), 1);
    setenv("STARPU_HOSTNAME", copy.name().c_str(), 1);
    return scratch;
}

// Of the machine whose models this run takes. Times of tasks that share a GPU are no models' of tasks alone: StarPU is
// given a copy to write them to.
static std::shared_ptr<ScratchFolder> use_streams(const std::string& streams, bool copied) {
    const char* set = std::getenv("STARPU_NWORKER_PER_CUDA");
    const Config config = read_config(environ);
    const std::filesystem::path folder = own_folder(config);
    const bool models = std::filesystem::exists(folder / "bus" / (machine_name() + ".config"));
    int64_t number = set ? std::atoll(set) : 1;
    if (streams != "auto") number = std::stoll(streams);
    else if (!set && models) {
        const Machine machine(folder, machine_name());
        constexpr double worth_it = 1.05;
        for (const auto& [pair, us] : machine.facts.together_us)
            if (pair.device.type == 1 && gain_of_company(machine, pair.device) >= worth_it) number = 2;
    }
    if (number == 1) return nullptr;
    setenv("STARPU_NWORKER_PER_CUDA", std::to_string(number).c_str(), 1);
    if (!models || copied) return nullptr;
    auto scratch = std::make_shared<ScratchFolder>(config.cache);
    std::filesystem::copy(folder, scratch->path(),
                          std::filesystem::copy_options::recursive | std::filesystem::copy_options::skip_existing);
    setenv("STARPU_PERF_MODEL_DIR", scratch->path().c_str(), 1);
    return scratch;
}

#endif

static std::string streams_number(std::string& s) {
    if (std::string wrong = whole_number(1)(s); !wrong.empty()) return wrong;
    return std::stoll(s) <= most_streams ? "" : "must be at most " + std::to_string(most_streams);
}

void CommonOptions::add_to(CLI::App& app) {
    const std::string group = "Common";
    app.add_option("--seed", seed, "All random numbers follow from it")
        ->capture_default_str()
        ->check(unsigned_number())
        ->group(group);
    app.add_flag("--deterministic", deterministic, "Same bits under every policy and number of workers; slower")
        ->group(group);
    app.add_flag("--serial", serial, "One operation after another, as frameworks run")->group(group);
    app.add_option("--gpu-memory", gpu_memory, "Limit of each GPU's memory, e.g. 4G")
        ->type_name("SIZE")
        ->check(not_empty())
        ->group(group);
    app.add_option("--host-memory", host_memory, "Limit of host memory for tiles; the rest goes to --swap")
        ->type_name("SIZE")
        ->check(not_empty())
        ->group(group);
    app.add_option("--swap", swap, "Folder for tiles that do not fit into --host-memory")
        ->type_name("DIR")
        ->check(not_empty())
        ->group(group);
    app.add_option("--dag", dag, "Write the tasks of one step as Graphviz dot")
        ->type_name("FILE.dot")
        ->check(not_empty())
        ->group(group);
    app.add_option("--trace", trace, "Write what ran when as a Chrome trace (opens in Perfetto)")
        ->type_name("FILE.json")
        ->check(not_empty())
        ->group(group);
    app.add_option("--gantt", gantt, "Draw what ran when")->type_name("FILE.svg")->check(not_empty())->group(group);
    not_simulated(app.add_option("--streams", streams,
                                 "Tasks at once on each GPU; auto: 2 where pairs measured together gain by it")
                      ->type_name("INT|auto")
                      ->capture_default_str()
                      ->group(group)
                      ->check(CLI::Validator([](std::string& s) { return s == "auto" ? "" : streams_number(s); }, "")),
                  "several tasks at once on one GPU cannot be simulated");
    not_simulated(
        app.add_option("--machine", machine, "Take the performance models of that machine instead of this one's own")
            ->type_name("NAME")
            ->check(not_empty())
            ->group(group),
        "it stands before the --");
    app.add_flag("--dag-stats", dag_stats, "Print T1, Tinf, T1/Tinf and width of one step's task graph")->group(group);
    app.add_flag("--json", json, "Last line of stdout is one JSON object")->group(group);
    app.add_flag("--quiet", quiet, "No progress on stderr")->group(group);
}

RuntimeOptions CommonOptions::runtime() const {
    RuntimeOptions o;
    if (!gpu_memory.empty()) o.gpu_memory_bytes = parse_size(gpu_memory, "--gpu-memory");
    if (!host_memory.empty()) o.host_memory_bytes = parse_size(host_memory, "--host-memory");
    o.swap = swap;
#ifndef STARPU_SIMGRID
    if (!machine.empty()) machine_copy_ = use_machine(machine);
    else check_own_models();
    if (auto copy = use_streams(streams, copied_models || !machine.empty())) machine_copy_ = std::move(copy);
#endif
    return o;
}

std::unique_ptr<Trace> CommonOptions::make_trace() const {
#ifdef STARPU_SIMGRID
    return std::make_unique<Trace>();  // busy and idle times, bytes and memory of the result
#else
    if (!trace.empty() || !gantt.empty()) return std::make_unique<Trace>();
    const bool limited = !gpu_memory.empty() || !host_memory.empty();
    return limited ? std::make_unique<Trace>(0) : nullptr;  // sums only: the traffic that limits cause
#endif
}

// However it is written; what cannot be looked up is as it is written.
static std::filesystem::path real_path(const std::string& file) {
    std::error_code failure;
    const auto path = std::filesystem::weakly_canonical(std::filesystem::absolute(file), failure);
    return failure ? std::filesystem::path(file) : path;
}

void CommonOptions::check_outputs(const std::vector<std::string>& further, const std::vector<std::string>& inputs,
                                  bool may_replace) const {
    std::set<std::filesystem::path> seen, read;
    for (const std::string& file : inputs)
        if (!file.empty()) read.insert(real_path(file));
    const auto check = [&](const std::string& file, bool may_be_read) {
        if (file.empty()) return;
        const auto path = real_path(file);
        if (!may_be_read && read.contains(path))
            throw UsageError("an output is to be written to '" + file + "', which this run reads",
                             "give it a file of its own");
        if (!seen.insert(path).second)
            throw UsageError("two outputs are to be written to '" + file + "'", "give each a file of its own");
    };
    for (const std::string& file : {dag, trace, gantt}) check(file, false);
    for (const std::string& file : further) check(file, may_replace);
    if (!dag.empty()) require_writable(dag, "--dag");
    if (!trace.empty()) require_writable(trace, "--trace");
    if (!gantt.empty()) require_writable(gantt, "--gantt");
}

void CommonOptions::write_trace(const Trace* recorded, const std::vector<const Plan*>& plans) const {
    if (trace.empty() && gantt.empty()) return;
    const TraceData data = recorded->data(plans);
    if (!trace.empty()) write_chrome_trace(data, trace);
    if (!gantt.empty()) write_file(gantt, gantt_svg(data));
    if (data.dropped > 0 && !quiet)
        std::cerr << "the trace holds the last tasks of each worker; " << data.dropped
                  << " before them are not in it\n";
}

ExecutorOptions CommonOptions::executor(const Config& config, Trace* recorder) const {
    ExecutorOptions o;
    o.deterministic = deterministic;
    o.serial = serial;
    o.steps_in_flight = config.steps_in_flight;
    o.trace = recorder;
    return o;
}

void CommonOptions::progress(const std::string& line) const {
    if (!quiet) std::cerr << line << std::endl;
}

void CommonOptions::write_dag(const Plan& plan) const {
    if (!dag.empty()) write_file(dag, to_dot(plan, deterministic));
    if (!dag_stats) return;
    const DagStats s = tessera::dag_stats(plan, estimated_times(plan), deterministic);
    std::cout << "one step, times estimated from flops and bytes (only their ratios matter): " << s.tasks << " tasks, "
              << s.edges << " dependencies, T1 " << human_seconds(s.t1) << ", Tinf " << human_seconds(s.t_inf)
              << ", T1/Tinf " << fixed(s.parallelism(), 2) << ", width " << s.width << "\n";
}

template <class Number>
static CLI::Validator whole(Number least) {
    return CLI::Validator(
        [least](std::string& text) {
            Number value = 0;
            const char* end = text.data() + text.size();
            const auto [stop, error] = std::from_chars(text.data(), end, value);
            const bool ok = error == std::errc() && stop == end && value >= least;
            const bool large = error == std::errc::result_out_of_range && text[0] != '-';
            return ok ? ""
                      : "'" + text + "' is not a whole number of at least " + std::to_string(least) +
                            (large ? " and at most " + std::to_string(std::numeric_limits<Number>::max()) : "");
        },
        "");
}
CLI::Validator whole_number(int64_t least) { return whole(least); }
CLI::Validator unsigned_number() { return whole(uint64_t(0)); }

CLI::Validator positive_number() {
    return CLI::Validator(
        [](std::string& text) {
            double value = 0;
            const char* end = text.data() + text.size();
            const auto [stop, error] = std::from_chars(text.data(), end, value);
            const bool ok = error == std::errc() && stop == end && value > 0 && std::isfinite(value);
            return ok ? "" : "'" + text + "' is not a positive number";
        },
        "");
}

CLI::Validator not_empty() {
    return CLI::Validator([](std::string& text) { return std::string(text.empty() ? "'' is empty" : ""); }, "");
}

static void refuse(CLI::Option* flag, const std::string& where, const std::string& why) {
    const std::string text = where + ": " + flag->get_name() + (why.empty() ? "" : "; " + why);
    flag->group("")->check(CLI::Validator([text](std::string&) -> std::string { throw UsageError(text); }, ""));
}

void not_simulated([[maybe_unused]] CLI::Option* flag, [[maybe_unused]] const std::string& why) {
#ifdef STARPU_SIMGRID
    refuse(flag, "not under 'tessera simulate'", why);
#endif
}

void only_simulated([[maybe_unused]] CLI::Option* flag) {
#ifndef STARPU_SIMGRID
    refuse(flag, "only under 'tessera simulate'", "");
#endif
}

DType parse_dtype(const std::string& text) {
    for (DType t : {DType::f32, DType::f64, DType::bf16})
        if (name_of(t) == text) return t;
    throw UsageError("unknown type '" + text + "'", "f32, f64 or bf16");
}

std::vector<int64_t> parse_widths(const std::string& text) {
    std::vector<int64_t> widths;
    if (text == "none") return widths;
    size_t at = 0;
    while (at <= text.size()) {
        const size_t comma = std::min(text.find(',', at), text.size());
        const std::string one = text.substr(at, comma - at);
        if (one.empty() || one.size() > 9 || one.find_first_not_of("0123456789") != std::string::npos ||
            std::stoll(one) < 1)
            throw UsageError("--hidden '" + text + "': '" + one + "' is not a positive width",
                             "write e.g. 512,512 or none");
        widths.push_back(std::stoll(one));
        at = comma + 1;
    }
    return widths;
}

std::string shell_word(const std::string& word) {
    const auto plain = [](unsigned char c) {
        return std::isalnum(c) || std::string_view("-_./:,=+@%").find(char(c)) != std::string_view::npos;
    };
    if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return word;
    const char quote = word.find('\'') == word.npos ? '\'' : '"';
    return quote + word + quote;
}

std::string typed_words(const std::vector<std::string>& alone, const std::vector<std::string>& valued) {
    std::ifstream file("/proc/self/cmdline");
    std::string text, word;
    const auto next = [&] { return bool(std::getline(file, word, char(0))); };
    next();  // the program's path
#ifdef STARPU_SIMGRID
    while (word != "--" && next()) {}  // SimGrid's words come first
#endif
    const auto has = [&](const std::vector<std::string>& flags, const std::string& flag) {
        return std::find(flags.begin(), flags.end(), flag) != flags.end();
    };
    while (next()) {
        if (has(valued, word)) next();
        else if (!has(alone, word) && !has(valued, word.substr(0, word.find('='))))
            text += (text.empty() ? "" : " ") + shell_word(word);
    }
    return text;
}

int64_t rss_bytes() {
    std::ifstream statm("/proc/self/statm");
    int64_t total = 0, resident = 0;
    statm >> total >> resident;
    return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace tessera
