#include "core/config.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <limits>

#include "core/error.h"

namespace tessera {
namespace {

struct Variable {
    std::string name, type, fallback, meaning;
    std::function<void(Config&, const std::string& value, const std::string& name)> set;
};

bool parse_switch(const std::string& v, const std::string& name) {
    if (v == "1" || v == "0") return v == "1";
    throw UsageError(name + "='" + v + "' is neither 0 nor 1");
}
int64_t parse_number(const std::string& v, const std::string& name, int64_t least, int64_t most) {
    int64_t n = 0;
    const auto [end, failure] = std::from_chars(v.data(), v.data() + v.size(), n);
    if (failure != std::errc{} || end != v.data() + v.size() || n < least || n > most)
        throw UsageError(name + "='" + v + "' is not a whole number from " + std::to_string(least) + " to " +
                         std::to_string(most));
    return n;
}

const std::vector<Variable>& variables() {
    const auto tool = [](Config&, const std::string&, const std::string&) {};
    static const std::vector<Variable> table = {
        {"TESSERA_CACHE", "folder", "$XDG_CACHE_HOME/tessera or ~/.cache/tessera",
         "Where StarPU's performance models and bus measurements are kept, unless STARPU_HOME or STARPU_PERF_MODEL_DIR "
         "says otherwise, and schedules that were searched.",
         [](Config& c, const std::string& v, const std::string& name) {
             if (v.empty()) throw UsageError(name + " is empty");
             c.cache = v;
         }},
        {"TESSERA_CHECK_NAN", "0 or 1", "0",
         "1 scans every tile that a task has written and stops at the first NaN or infinity, naming codelet, layer, "
         "tile "
         "and worker. Slow.",
         [](Config& c, const std::string& v, const std::string& name) { c.check_nan = parse_switch(v, name); }},
        {"TESSERA_DATA", "folder", "none",
         "Read by the tests only: a folder with `mnist/` and `cifar10/`; tests that want real data skip without it.",
         tool},
        {"TESSERA_STALL_S", "0 to 86400", "120",
         "With GPUs or memory limits: seconds in which tasks wait, but no body runs and no task ends, after which the "
         "program stops with an error. StarPU would wait for ever where memories are too small. 0 does so.",
         [](Config& c, const std::string& v, const std::string& name) { c.stall_s = parse_number(v, name, 0, 86400); }},
        {"TESSERA_STARPU_PREFIX", "folder", "none",
         "Read by the tools only: use the StarPU installed there instead of building one.", tool},
        {"TESSERA_STEPS_IN_FLIGHT", "1 to 64", "3",
         "How many training steps may be submitted and unfinished. More hides the latency of loading, and takes memory "
         "for "
         "input tiles.",
         [](Config& c, const std::string& v, const std::string& name) {
             c.steps_in_flight = parse_number(v, name, 1, 64);
         }},
        {"TESSERA_WORKSPACE", "size", "256M",
         "The most memory one worker may take for intermediate results of one task.",
         [](Config& c, const std::string& v, const std::string& name) { c.workspace_bytes = parse_size(v, name); }},
    };
    return table;
}

std::filesystem::path default_cache() {
    const char* xdg = std::getenv("XDG_CACHE_HOME");
    const char* home = std::getenv("HOME");
    if (xdg && *xdg) return std::filesystem::path(xdg) / "tessera";
    return std::filesystem::path(home && *home ? home : "/tmp") / ".cache" / "tessera";
}

}  // namespace

Config read_config(char** environment) {
    Config config;
    config.cache = default_cache();
    for (char** e = environment; *e; ++e) {
        const std::string entry = *e;
        if (!entry.starts_with("TESSERA_")) continue;
        const std::string name = entry.substr(0, entry.find('=')), value = entry.substr(name.size() + 1);
        std::vector<std::string> known;
        bool found = false;
        for (const Variable& v : variables()) {
            known.push_back(v.name);
            if (v.name == name) v.set(config, value, name), found = true;
        }
        if (!found) throw UsageError("unknown variable " + name, suggestion(name, known));
    }
    return config;
}

std::string machine_name() {
    if (const char* name = std::getenv("STARPU_HOSTNAME"); name && *name) return name;
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    return std::string(name).substr(0, std::string(name).find('.'));  // as StarPU cuts it
}

bool is_machine_name(std::string_view name) {
    return !name.empty() && name.size() <= 64 && name[0] != '.' && name[0] != '-' &&
           std::all_of(name.begin(), name.end(),
                       [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '-' || c == '_'; });
}

std::filesystem::path model_folder(const Config& config) { return config.cache / "machines" / machine_name(); }

std::string environment_page() {
    std::string page =
        "# Environment variables\n\nThis page is written by `tessera environment`; a test keeps it true. An unknown "
        "`TESSERA_*` name or a bad value is an\nerror. StarPU's own variables (`STARPU_SCHED`, `STARPU_NCPU`, "
        "`STARPU_NCUDA`, `STARPU_LIMIT_CUDA_MEM`, ...) are passed\nthrough and mean what StarPU's manual says; a "
        "misspelt `STARPU_SCHED`, which StarPU only warns about, is an error here.\nWhere you set none, Tessera "
        "chooses a policy (`list` without a GPU; with GPUs `reuse` for `gemm` and under\n`--gpu-memory`, `list` where "
        "this "
        "machine's models let tasks be placed ahead of time, else `dmdas`) and\n`STARPU_SILENT=1`, and keeps StarPU's "
        "files in its cache folder.\n\n"
        "| variable | value | default | meaning |\n|---|---|---|---|\n";
    for (const Variable& v : variables())
        page += "| `" + v.name + "` | " + v.type + " | " + v.fallback + " | " + v.meaning + " |\n";
    return page;
}

int64_t parse_size(const std::string& text, const std::string& what) {
    int64_t n = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), n);
    int shift = -1;
    if (failure == std::errc{}) {
        const std::string unit(end, text.data() + text.size());
        const std::vector<std::string> units = {"", "K", "M", "G", "T"};
        for (size_t i = 0; i < units.size(); ++i)
            if (unit == units[i]) shift = int(i) * 10;
    }
    if (shift < 0 || n < 1 || n > (std::numeric_limits<int64_t>::max() >> shift))
        throw UsageError(what + " '" + text + "' is not a size",
                         "write a positive number of bytes, or one with K, M, G or T");
    return n << shift;
}

std::string whole_mebibytes(int64_t bytes) {
    constexpr int64_t mebibyte = int64_t(1) << 20;
    return std::to_string(std::max<int64_t>(1, (bytes + mebibyte - 1) / mebibyte)) + "M";
}

}  // namespace tessera
