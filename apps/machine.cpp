// tessera machine: what this machine is and how fast, and whether that can be right; with --machine what is known about
// another one. machine list, machine compose.
#include <starpu.h>
#include <CLI/CLI.hpp>

#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/compose.h"
#include "apps/peaks.h"
#include "apps/table.h"
#include "apps/topology.h"
#include "apps/worker_peaks.h"
#include "core/error.h"
#include "models/bus.h"
#include "models/machine.h"

extern "C" char** environ;

namespace tessera {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;
constexpr double drift_limit = 0.1;

struct Flags {
    std::string machine;
    bool json = false, quiet = false;
};

std::string figure(double value) { return value > 0 ? fixed(value, 1) : "-"; }

void print_section(const std::string& title, const std::string& text) { std::cout << "\n" << title << "\n" << text; }

void print_bus(const Bus& bus) {
    if (bus.nodes() < 2) return;
    std::vector<std::string> headers = {"from \\ to"};
    for (int i = 0; i < bus.nodes(); ++i) headers.push_back(bus.node_name(i));
    Table table(headers);
    for (int i = 0; i < bus.nodes(); ++i) {
        std::vector<std::string> row = {bus.node_name(i)};
        for (int j = 0; j < bus.nodes(); ++j)
            row.push_back(i == j ? "" : rate_text(bus.mbytes_per_s[size_t(i)][size_t(j)], 2));
        table.row(row);
    }
    print_section("bus", table.text());
}

json bus_json(const Bus& bus) {
    auto links = json::array();
    for (int i = 0; i < bus.nodes(); ++i)
        for (int j = 0; j < bus.nodes(); ++j)
            if (i != j)
                links.push_back({{"from", bus.node_name(i)},
                                 {"to", bus.node_name(j)},
                                 {"gbytes_per_s", bus.mbytes_per_s[size_t(i)][size_t(j)] * 1e-3},
                                 {"latency_us", bus.latency_us[size_t(i)][size_t(j)]}});
    return links;
}

void print_suspicious(const std::vector<std::string>& lines) {
    if (lines.empty()) return;
    std::string text;
    for (const auto& line : lines) text += "  " + line + "\n";
    print_section("suspicious", text);
}

// Models of one machine in a folder that may hold several machines'.
struct ModelCount {
    int64_t codelets = 0, sizes = 0;
    std::string text() const { return std::to_string(codelets) + " codelets, " + std::to_string(sizes) + " sizes"; }
    json as_json() const { return {{"codelets", codelets}, {"sizes", sizes}}; }
};

ModelCount count_models(const fs::path& folder, const std::string& machine, std::vector<std::string>& odd) {
    ModelCount count;
    std::error_code none;
    for (const auto& file : fs::directory_iterator(folder / "codelets" / "45", none)) {
        const std::string name = file.path().filename().string(), ending = "." + machine;
        if (!name.ends_with(ending)) continue;
        try {
            std::set<uint32_t> sizes;
            for (const ModelArch& arch : read_model(file.path()).archs)
                for (const auto& entries : arch.implementations)
                    for (const ModelEntry& e : entries) sizes.insert(e.footprint);
            ++count.codelets, count.sizes += int64_t(sizes.size());
        } catch (const Error& e) { odd.push_back(e.what()); }
    }
    return count;
}

std::string device_rows(const MachineFacts& facts) {
    Table table({"device", "name", "f32 GFLOP/s", "f64", "bf16", "GB/s", "note"});
    Notes notes;
    for (const DeviceFacts& d : facts.devices)
        table.row({name_of(d.device), d.name, figure(d.f32_gflops), figure(d.f64_gflops), figure(d.bf16_gflops),
                   figure(d.gbytes_per_s),
                   notes.number((d.measured ? "measured" : "published or derived") +
                                (d.source.empty() ? "" : ": " + d.source))});
    return table.text() + notes.text();
}

json figures_json(const DeviceFacts& d) {
    return {{"name", d.name},
            {"f32_gflops", d.f32_gflops},
            {"f64_gflops", d.f64_gflops},
            {"bf16_gflops", d.bf16_gflops},
            {"gbytes_per_s", d.gbytes_per_s},
            {"measured", d.measured},
            {"source", d.source}};
}

json devices_json(const MachineFacts& facts) {
    auto devices = json::array();
    for (const DeviceFacts& d : facts.devices) {
        devices.push_back(figures_json(d));
        devices.back()["device"] = name_of(d.device);
    }
    return devices;
}

int look_at(const std::string& name, const Flags& f) {
    const Machine machine = open_machine(name, read_config(environ).cache);
    const Bus bus = read_bus(machine.folder() / "bus", machine.name());
    std::vector<std::string> odd = suspicious(bus);
    const ModelCount models = count_models(machine.folder(), machine.name(), odd);
    const MachineFacts& facts = machine.facts;
    Table table({"", ""}, false);
    table.row({"machine", machine.name()});
    if (facts.derived.empty() && !facts.description.empty()) table.row({"what", facts.description});
    table.row({"CPU cores", std::to_string(bus.cpus)});
    for (int g = 0; g < bus.cudas; ++g)
        table.row({"CUDA " + std::to_string(g),
                   bus.devices[size_t(g)].model + ", " + human_bytes(bus.devices[size_t(g)].memory_bytes)});
    table.row({"models", models.text()});
    for (const auto& [what, value] :
         {std::pair{"StarPU", facts.starpu}, {"date", facts.date}, {"command", facts.command}})
        if (!value.empty()) table.row({what, value});
    std::cout << table.text();
    if (!facts.derived.empty()) print_section("derived", wrapped(" ", facts.derived));
    if (!facts.devices.empty()) print_section("devices", device_rows(facts));
    print_bus(bus);
    print_suspicious(odd);
    if (f.json)
        std::cout << json{{"machine", machine.name()},      {"derived", facts.derived},
                          {"cpu_cores", bus.cpus},          {"cuda_devices", bus.cudas},
                          {"devices", devices_json(facts)}, {"bus", bus_json(bus)},
                          {"models", models.as_json()},     {"suspicious", odd}}
                         .dump()
                  << std::endl;
    return 0;
}

// The bus as StarPU uses it now.
Bus bus_of_runtime() {
    const int cudas = int(starpu_memory_nodes_get_count_by_kind(STARPU_CUDA_RAM));
    Bus bus = empty_bus(machine_name(), int(starpu_cpu_worker_get_count()), cudas);
    bus.numas = int(starpu_memory_nodes_get_numa_count());
    const size_t n = size_t(bus.nodes());
    bus.mbytes_per_s = bus.latency_us = std::vector(n, std::vector<double>(n));
    for (unsigned i = 0; i < n; ++i)
        for (unsigned j = 0; j < n; ++j) {
            if (i == j) continue;
            bus.mbytes_per_s[i][j] = starpu_transfer_bandwidth(i, j);
            bus.latency_us[i][j] = starpu_transfer_latency(i, j);
        }
    for (int g = 0; g < cudas; ++g)
        bus.devices[size_t(g)] = {"", int64_t(starpu_memory_get_total(unsigned(bus.gpu_node(g)))), true};
    return bus;
}

// Speeds of this machine's facts that today's differ from.
void compare_peaks(const Peaks& now, const MachineFacts& facts, std::vector<std::string>& odd) {
    const DeviceFacts* then = facts.device({0, 0, 1});
    if (!then || !then->measured) return;
    const auto compare = [&](const char* what, double today, double noted) {
        if (noted <= 0 || std::fabs(today / noted - 1) <= drift_limit) return;
        odd.push_back(std::string(what) + " of a core: " + fixed(today, 1) + ", but " + fixed(noted, 1) +
                      " when the models were measured" + (facts.date.empty() ? "" : " (" + facts.date + ")") +
                      "; tessera calibrate COMMAND --reset measures COMMAND's tasks and the peaks anew");
    };
    compare("f32 GFLOP/s", now.f32_gflops, then->f32_gflops);
    compare("f64 GFLOP/s", now.f64_gflops, then->f64_gflops);
    compare("GB/s", now.gbytes_per_s, then->gbytes_per_s);
}

std::string describe_caches(const Topology& t) {
    std::vector<std::string> words;
    for (const auto& c : t.caches)
        words.push_back(std::to_string(c.count) + " x " + c.name + " " + human_bytes(c.bytes));
    return words.empty() ? "unknown" : join(words);
}

struct Here {
    Topology topology;
    Peaks peaks;
    std::vector<WorkerInfo> workers;
    std::vector<WorkerPeaks> worker_peaks;  // of CPU workers, and of one worker of each GPU
    Bus bus;
    std::vector<int64_t> limits;  // per memory node, 0: none
    ModelCount models;
    std::vector<std::string> odd;
};

const WorkerPeaks* peaks_of(const Here& h, int worker) {
    for (const WorkerPeaks& p : h.worker_peaks)
        if (p.worker.id == worker) return &p;
    return nullptr;
}

std::optional<DeviceFacts> published(const WorkerPeaks& p) {
    return p.worker.cuda ? known_device(p.best.name) : std::nullopt;
}

// What a worker's peaks are a share of: the published ones of a GPU, a core's with bare calls.
DeviceFacts whole_of(const Here& h, const WorkerPeaks& p) {
    if (p.worker.cuda) return published(p).value_or(DeviceFacts{});
    DeviceFacts core;
    core.f32_gflops = h.peaks.f32_gflops, core.f64_gflops = h.peaks.f64_gflops;
    core.gbytes_per_s = h.peaks.gbytes_per_s;
    return core;
}

Here examine(const Flags& f) {
    Here h;
    h.topology = read_topology();
    if (!f.quiet) std::cerr << "measuring this machine's cores\n";
    h.peaks = measure_peaks(2.0);
    const Runtime runtime;
    h.workers = runtime.workers();
    if (!f.quiet) std::cerr << "measuring " << counted(int64_t(h.workers.size()), "worker") << "\n";
    for (const bool cuda : {true, false})
        for (WorkerPeaks& p : measure_workers(runtime, cuda, 1.0)) {
            if (const auto known = published(p))
                for (const std::string& line : odd_peaks(p, *known)) h.odd.push_back(line);
            h.worker_peaks.push_back(std::move(p));
        }
    h.bus = bus_of_runtime();
    for (int n = 0; n < h.bus.nodes(); ++n) h.limits.push_back(runtime.limit_bytes(unsigned(n)));
    for (const std::string& line : suspicious(h.bus)) h.odd.push_back(line);
    if (h.topology.cores > STARPU_MAXCPUS)
        h.odd.push_back("StarPU was built for " + counted(STARPU_MAXCPUS, "core") + " (--enable-maxcpus): of " +
                        std::to_string(h.topology.cores) + " the rest does nothing");
    const fs::path folder = own_folder(runtime.config());
    h.models = count_models(folder, machine_name(), h.odd);
    compare_peaks(h.peaks, read_facts(folder), h.odd);
    return h;
}

json to_json(const Here& h) {
    auto workers = json::array(), nodes = json::array();
    for (const auto& w : h.workers) {
        workers.push_back({{"id", w.id}, {"name", w.name}, {"cuda", w.cuda}, {"node", w.node}});
        const WorkerPeaks* p = peaks_of(h, w.id);
        if (!p) continue;
        workers.back()["peaks"] = figures_json(p->best);
        if (const auto known = published(*p)) workers.back()["published"] = figures_json(*known);
    }
    for (int n = 0; n < h.bus.nodes(); ++n)
        nodes.push_back({{"name", h.bus.node_name(n)}, {"limit_bytes", h.limits[size_t(n)]}});
    return {{"machine", h.bus.name},
            {"topology", to_json(h.topology)},
            {"workers", workers},
            {"nodes", nodes},
            {"bus", bus_json(h.bus)},
            {"peaks",
             {{"cores", h.peaks.cores},
              {"f32_gflops_per_core", h.peaks.f32_gflops},
              {"f64_gflops_per_core", h.peaks.f64_gflops},
              {"gbytes_per_s_per_core", h.peaks.gbytes_per_s}}},
            {"models", h.models.as_json()},
            {"suspicious", h.odd}};
}

void print_workers(const Here& h) {
    Table table({"worker", "name", "memory", "f32 GFLOP/s", "f64", "bf16", "GB/s"});
    for (const auto& w : h.workers) {
        std::vector<std::string> row = {std::to_string(w.id), w.name, h.bus.node_name(int(w.node))};
        if (const WorkerPeaks* p = peaks_of(h, w.id)) {
            const DeviceFacts whole = whole_of(h, *p);
            for (const auto value : {&DeviceFacts::f32_gflops, &DeviceFacts::f64_gflops, &DeviceFacts::bf16_gflops,
                                     &DeviceFacts::gbytes_per_s}) {
                const double now = p->best.*value, known = whole.*value;
                row.push_back(figure(now) + (known > 0 ? " (" + fixed(100 * now / known, 0) + " %)" : ""));
            }
        }
        table.row(row);
    }
    print_section("workers: best product and copy as tasks (share of a GPU's published peak, of a core's bare calls)",
                  table.text());
}

int look_here(const Flags& f) {
    const Here h = examine(f);
    const Topology& t = h.topology;
    Table table({"", ""}, false);
    table.row({"machine", h.bus.name});
    table.row({"CPU", (t.cpu.empty() ? "unknown" : t.cpu) + ", " + counted(t.sockets, "socket") + ", " +
                          counted(t.numas, "NUMA node") + ", " + counted(t.cores, "core") + ", " +
                          counted(t.threads, "thread")});
    table.row({"caches", describe_caches(t)});
    for (const auto& g : t.gpus)
        table.row({"GPU", g.name + " at " + g.address +
                              (g.gbytes_per_s > 0 ? ", PCI link " + rate_text(g.gbytes_per_s * 1e3, 1) : "")});
    for (int n = 0; n < h.bus.nodes(); ++n) {
        const bool host = n < h.bus.numas;
        const int64_t limit = h.limits[size_t(n)];
        table.row({h.bus.node_name(n), (host ? human_bytes(t.memory_bytes / h.bus.numas) + ", " : "") +
                                           (limit > 0 ? "limit " + human_bytes(limit) : "no limit")});
    }
    const auto all = [&](double per_core, const char* unit) {
        return fixed(per_core * h.peaks.cores, 1) + " " + unit + " (" + fixed(per_core, 1) + " a core)";
    };
    table.row({"f32 products", all(h.peaks.f32_gflops, "GFLOP/s")});
    table.row({"f64 products", all(h.peaks.f64_gflops, "GFLOP/s")});
    table.row({"triad", all(h.peaks.gbytes_per_s, "GB/s")});
    table.row({"models", h.models.text()});
    std::cout << table.text();
    print_workers(h);
    print_bus(h.bus);
    print_suspicious(h.odd);
    if (f.json) std::cout << to_json(h).dump() << std::endl;
    return 0;
}

std::string devices_text(const Bus& bus) {
    std::map<std::string, int> models;
    for (const BusDevice& d : bus.devices) ++models[d.model];
    std::vector<std::string> words = {std::to_string(bus.cpus) + " cores"};
    for (const auto& [model, count] : models) words.push_back(std::to_string(count) + " x " + model);
    return join(words);
}

int list(bool as_json) {
    auto all = json::array();
    Table table({"name", "kind", "devices", "note"});
    Notes notes;
    for (const KnownMachine& m : known_machines(read_config(environ).cache)) {
        std::string devices, derived;
        try {
            devices = devices_text(read_bus(m.folder / "bus", m.name));
            if (m.kind != "StarPU's") derived = read_facts(m.folder).derived;
        } catch (const Error& e) { devices = std::string("damaged: ") + e.what(); }
        table.row({m.name, m.kind, devices, notes.number(derived)});
        all.push_back({{"name", m.name}, {"kind", m.kind}, {"devices", devices}, {"derived", derived}});
    }
    if (as_json) std::cout << all.dump() << std::endl;
    else std::cout << table.text() << notes.text();
    return 0;
}

}  // namespace

Command add_machine(CLI::App& app) {
    auto f = std::make_shared<Flags>();
    app.add_option("--machine", f->machine, "Another machine than this one")->type_name("NAME")->check(not_empty());
    app.add_flag("--json", f->json, "Last line of stdout is one JSON object");
    app.add_flag("--quiet", f->quiet, "No progress on stderr");
    app.require_subcommand(0, 1);
    CLI::App* listing = app.add_subcommand("list", "The machines that --machine knows");
    listing->add_flag("--json", f->json, "One JSON array instead of a table");
    CLI::App* composing = app.add_subcommand("compose", "Put a machine together from measured devices");
    const Command compose = add_compose(*composing);
    return [f, listing, composing, compose] {
        if ((listing->parsed() || composing->parsed()) && !f->machine.empty())
            throw UsageError("--machine does not go with machine " +
                             std::string(listing->parsed() ? "list" : "compose"));
        if (listing->parsed()) return list(f->json);
        if (composing->parsed()) return compose();
        return f->machine.empty() ? look_here(*f) : look_at(f->machine, *f);
    };
}

}  // namespace tessera
