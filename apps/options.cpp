#include "apps/options.h"

#include <unistd.h>

#include <charconv>
#include <cmath>
#include <fstream>

#include "core/error.h"

namespace tessera {

void CommonOptions::add_to(CLI::App& app) {
    const std::string group = "Common";
    app.add_option("--seed", seed, "All random numbers follow from it")
        ->capture_default_str()
        ->check(whole_number(0))
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
    app.add_flag("--dag-stats", dag_stats, "Print T1, Tinf, T1/Tinf and width of one step's task graph")->group(group);
    app.add_flag("--json", json, "Last line of stdout is one JSON object")->group(group);
    app.add_flag("--quiet", quiet, "No progress on stderr")->group(group);
}

RuntimeOptions CommonOptions::runtime() const {
    RuntimeOptions o;
    if (!gpu_memory.empty()) o.gpu_memory_bytes = parse_size(gpu_memory, "--gpu-memory");
    if (!host_memory.empty()) o.host_memory_bytes = parse_size(host_memory, "--host-memory");
    o.swap = swap;
    return o;
}

ExecutorOptions CommonOptions::executor(const Config& config) const {
    ExecutorOptions o;
    o.deterministic = deterministic;
    o.serial = serial;
    o.steps_in_flight = config.steps_in_flight;
    return o;
}

CLI::Validator whole_number(int64_t least) {
    return CLI::Validator(
        [least](std::string& text) {
            int64_t value = 0;
            const char* end = text.data() + text.size();
            const auto [stop, error] = std::from_chars(text.data(), end, value);
            const bool ok = error == std::errc() && stop == end && value >= least;
            return ok ? "" : "'" + text + "' is not a whole number of at least " + std::to_string(least);
        },
        "");
}

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

int64_t rss_bytes() {
    std::ifstream statm("/proc/self/statm");
    int64_t total = 0, resident = 0;
    statm >> total >> resident;
    return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace tessera
