#include "apps/compose.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <iostream>

#include "apps/table.h"
#include "core/error.h"
#include "models/compose.h"

extern "C" char** environ;

namespace tessera {
namespace fs = std::filesystem;
namespace {

struct Flags {
    std::string from, gpus, cpus, link, peer, host, scale, memory, out;
    bool force = false;
};

std::vector<std::string> split(const std::string& text, const std::string& flag) {
    std::vector<std::string> parts(1);
    for (char c : text)
        if (c == ',') parts.emplace_back();
        else parts.back() += c;
    for (const auto& p : parts)
        if (p.empty()) throw UsageError(flag + " '" + text + "' has an empty part");
    return parts;
}

// "2xsirocco" to 2 and sirocco; "4" to 4 and nothing.
std::pair<int, std::string> parse_count(const std::string& text, const std::string& flag, bool name_needed) {
    int count = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, failure] = std::from_chars(text.data(), end, count);
    const bool named = stop < end && *stop == 'x' && stop + 1 < end;
    if (failure != std::errc() || count < 0 || count > 4096 || (!named && (stop != end || name_needed)))
        throw UsageError(flag + " '" + text + "' is not " + (name_needed ? "COUNTxNAME" : "COUNT or COUNTxNAME"),
                         name_needed ? "write e.g. 2xsirocco,2xmirage" : "write e.g. 4 or 4xsirocco");
    return {count, named ? std::string(stop + 1, end) : ""};
}

double parse_factor(const std::string& text) {
    double value = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, failure] = std::from_chars(text.data(), end, value);
    if (failure != std::errc() || stop != end || !(value >= 1e-3 && value <= 1e3))
        throw UsageError("--scale '" + text + "' is not a positive factor from 0.001 to 1000",
                         "0.5 makes a device half as fast");
    return value;
}

// Below it not even the tiles of a small network's task fit: a number without its unit, most likely.
int64_t parse_memory(const std::string& text) {
    constexpr int64_t least_bytes = int64_t(16) << 20;
    const int64_t bytes = parse_size(text, "--gpu-memory");
    if (bytes < least_bytes)
        throw UsageError("--gpu-memory '" + text + "' is less than 16M", "a number alone is bytes: write e.g. 8G");
    return bytes;
}

// One value for all parts, or one each.
template <class T, class Parse>
void spread(const std::string& text, const std::string& flag, std::vector<T*> to, Parse&& parse) {
    if (text.empty()) return;
    const auto values = split(text, flag);
    if (values.size() != 1 && values.size() != to.size())
        throw UsageError(
            flag + " has " + std::to_string(values.size()) + " values for " + std::to_string(to.size()) + " parts",
            "give one for all, or one for each part of --gpus");
    for (size_t i = 0; i < to.size(); ++i) *to[i] = parse(values[values.size() == 1 ? 0 : i]);
}

std::string lower(std::string text) {
    for (char& c : text) c = c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
    return text;
}

const std::string core_prefix = "one core of ";  // in devices.json, where all else is a GPU

std::vector<std::string> known_gpus() {
    auto names = known_devices();
    std::erase_if(names, [](const std::string& n) { return n.starts_with(core_prefix); });
    return names;
}

// By its name or a part of it: "h100" is "NVIDIA H100 SXM".
std::optional<DeviceFacts> find_device(const std::string& name) {
    std::optional<DeviceFacts> found = known_device(name);
    std::vector<std::string> like;
    for (const std::string& known : known_devices())
        if (lower(known).find(lower(name)) != std::string::npos) like.push_back(known);
    if (!found && like.size() > 1)
        throw UsageError("'" + name + "' may be " + join(like, " or "), "write one of them in full, in quotes");
    if (!found && !like.empty()) found = known_device(like[0]);
    if (found) found->device.type = found->name.starts_with(core_prefix) ? 0 : 1;
    return found;
}

ComposeSource find_source(const std::string& name, const fs::path& cache) {
    ComposeSource source;
    std::vector<std::string> names;
    for (const KnownMachine& m : known_machines(cache)) names.push_back(m.name);
    const bool folder = name.find('/') != std::string::npos;
    if (folder || std::find(names.begin(), names.end(), name) != names.end()) {
        source.machine = open_machine(name, cache);
        source.bus = read_bus(source.machine->folder() / "bus", source.machine->name());
        return source;
    }
    source.device = find_device(name);
    if (source.device) return source;
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    std::string hint = suggestion(name, names);
    if (hint.empty()) hint = "machines: " + join(names) + "; devices with published figures: " + join(known_gpus());
    throw UsageError("unknown machine or device '" + name + "'", hint);
}

// The command as it can be typed again.
std::string command_of(const Flags& f) {
    std::string text = "tessera machine compose";
    const std::pair<const char*, const std::string*> all[] = {
        {"--from", &f.from},   {"--gpus", &f.gpus},         {"--cpus", &f.cpus},
        {"--link", &f.link},   {"--peer", &f.peer},         {"--host", &f.host},
        {"--scale", &f.scale}, {"--gpu-memory", &f.memory}, {"--out", &f.out}};
    for (const auto& [flag, value] : all)
        if (!value->empty()) text += std::string(" ") + flag + " " + shell_word(*value);
    return text;
}

// Every name that --gpus and --cpus use, which must be what --from lists if it is given.
std::vector<std::string> names_used(const ComposeOptions& o, const std::string& from) {
    std::vector<std::string> used;
    for (const ComposePart& p : o.gpus) used.push_back(p.source);
    if (o.cpus.count > 0) used.push_back(o.cpus.source);
    std::sort(used.begin(), used.end());
    used.erase(std::unique(used.begin(), used.end()), used.end());
    if (from.empty()) return used;
    const auto listed = split(from, "--from");
    for (const auto& name : used)
        if (std::find(listed.begin(), listed.end(), name) == listed.end())
            throw UsageError("'" + name + "' is not in --from", "add it: --from " + from + "," + name);
    for (const auto& name : listed)
        if (!std::binary_search(used.begin(), used.end(), name))
            throw UsageError("--from names '" + name + "', but no device of it is used", "name it in --gpus or --cpus");
    return used;
}

void choose_gpus(ComposeOptions& o, const Flags& f) {
    if (f.gpus.empty()) return;
    for (const auto& part : split(f.gpus, "--gpus")) {
        ComposePart p;
        std::tie(p.count, p.source) = parse_count(part, "--gpus", true);
        if (p.count == 0) throw UsageError("--gpus '" + part + "': no GPU at all", "leave the part out");
        o.gpus.push_back(p);
    }
}

void choose_cpus(ComposeOptions& o, const Flags& f) {
    if (f.cpus.empty()) return;
    std::tie(o.cpus.count, o.cpus.source) = parse_count(f.cpus, "--cpus", false);
    if (o.cpus.count == 0 || !o.cpus.source.empty()) return;
    if (o.gpus.empty() && f.from.empty())
        throw UsageError("--cpus " + f.cpus + ": cores of which machine?", "write --cpus " + f.cpus + "xMACHINE");
    o.cpus.source = f.from.empty() ? o.gpus[0].source : split(f.from, "--from")[0];
}

ComposeOptions options_of(const Flags& f) {
    ComposeOptions o;
    o.name = named_folder(f.out, "--out").filename(), o.command = command_of(f), o.date = today();
    choose_gpus(o, f);
    choose_cpus(o, f);
    std::vector<double*> scales, links;
    std::vector<int64_t*> memories;
    for (ComposePart& p : o.gpus)
        scales.push_back(&p.scale), links.push_back(&p.link_mbytes_per_s), memories.push_back(&p.memory_bytes);
    if (o.gpus.empty()) {
        const std::pair<const char*, const std::string*> about_gpus[] = {
            {"--link", &f.link}, {"--peer", &f.peer}, {"--host", &f.host}, {"--gpu-memory", &f.memory}};
        for (const auto& [flag, value] : about_gpus)
            if (!value->empty()) throw UsageError(std::string(flag) + " is about GPUs, and there is none");
        scales.push_back(&o.cpus.scale);
    }
    spread(f.scale, "--scale", scales, parse_factor);
    spread(f.link, "--link", links, [](const std::string& t) { return parse_bandwidth(t, "--link"); });
    spread(f.memory, "--gpu-memory", memories, parse_memory);
    if (!f.peer.empty()) o.peer_mbytes_per_s = parse_bandwidth(f.peer, "--peer");
    if (!f.host.empty()) o.host_mbytes_per_s = parse_bandwidth(f.host, "--host");
    return o;
}

int run(const Flags& f) {
    const ComposeOptions o = options_of(f);
    const fs::path cache = read_config(environ).cache;
    std::map<std::string, ComposeSource> sources;
    for (const std::string& name : names_used(o, f.from)) sources[name] = find_source(name, cache);
    const Machine machine = compose(o, sources, named_folder(f.out, "--out"), f.force);
    Table table({"", ""}, false);
    table.row({"machine", machine.name() + " in " + machine.folder().string()});
    table.row({"derived", machine.facts.derived});
    table.row({"models", std::to_string(machine.codelets().size()) + " codelets"});
    std::cout << table.text();
    for (const std::string& line : suspicious(read_bus(machine.folder() / "bus", machine.name())))
        std::cerr << "suspicious: " << line << "\n";
    return 0;
}

}  // namespace

double parse_bandwidth(const std::string& text, const std::string& flag) {
    double value = 0;
    const char* const end = text.data() + text.size();
    auto [stop, failure] = std::from_chars(text.data(), end, value);
    while (stop < end && *stop == ' ') ++stop;
    const std::string unit(stop, end);
    const double factor = unit == "GB/s" ? 1e3 : unit == "MB/s" ? 1 : 0;
    if (failure != std::errc() || !(value * factor >= 1 && value * factor <= 1e8))
        throw UsageError(flag + " '" + text + "' is not a positive bandwidth from 1MB/s to 100000GB/s",
                         "write e.g. 12GB/s or 900MB/s");
    return value * factor;
}

Command add_compose(CLI::App& app) {
    auto f = std::make_shared<Flags>();
    const auto add = [&](const char* flag, std::string& to, const char* what, const char* type) {
        return app.add_option(flag, to, what)->type_name(type)->check(not_empty());
    };
    add("--from", f->from, "Machines, or devices with published figures; default: those of --gpus and --cpus",
        "NAME,...");
    add("--gpus", f->gpus, "How many of which", "NxNAME,...");
    add("--cpus", f->cpus,
        "Cores that run tasks, of the first of --from unless named; each GPU gets one more that drives it", "N[xNAME]");
    add("--link", f->link, "Of each GPU, in both directions; default: as measured at its machine", "GB/s[,...]");
    add("--peer", f->peer, "Between any two GPUs; default: as measured, or over the switch or host", "GB/s");
    add("--host", f->host, "Of the link that all GPUs share; default: as fast as the fastest GPU's link", "GB/s");
    add("--scale", f->scale,
        "Speed of each part's GPUs as a share of the measured one; CPU cores' if there are no GPUs", "F[,...]");
    add("--gpu-memory", f->memory, "Of each GPU; default: as its machine has", "SIZE[,...]");
    add("--out", f->out, "Folder for the machine, which gets its name", "FOLDER")->required();
    app.add_flag("--force", f->force, "Replace a machine that is there already");
    return [f] { return run(*f); };
}

}  // namespace tessera
