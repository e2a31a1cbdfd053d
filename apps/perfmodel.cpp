// tessera perfmodel: what the performance models of a machine hold, as tables and pictures, and what is wrong with
// them.
#include "apps/calibrate.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <exception>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/options.h"
#include "apps/plot.h"
#include "apps/table.h"
#include "core/error.h"
#include "core/file.h"
#include "core/statistics.h"
#include "models/estimate.h"

extern "C" char** environ;

namespace tessera {
namespace {

using Json = nlohmann::json;

struct Flags {
    std::string machine, codelet, out;
    bool json = false, no_drift = false;
};

Machine chosen_machine(const Flags& f) {
    const Config config = read_config(environ);
    return f.machine.empty() ? own_machine(config) : open_machine(f.machine, config.cache);
}

void print(const Flags& f, const Table& table, const Json& json) {
    std::cout << table.text();
    if (f.json) std::cout << json.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
}

// One row of a model, with everything that is known about it.
struct Row {
    ModelDevice device;
    std::string label;
    int implementation;
    ModelEntry entry;
    TimePoint work;
    std::string arguments;
    Origin origin;
    std::optional<double> share;

    double gflops() const { return entry.mean_us > 0 ? work.flops / entry.mean_us * 1e-3 : 0; }
    double gbytes_per_s() const { return entry.mean_us > 0 ? work.bytes / entry.mean_us * 1e-3 : 0; }
    double deviation() const { return entry.mean_us > 0 ? entry.deviation_us / entry.mean_us : 0; }
};

// By device, implementation, then size of the work.
std::vector<Row> rows_of(const Machine& machine, const std::string& codelet) {
    std::vector<Row> rows;
    for (const ModelArch& arch : machine.model(codelet).archs)
        for (size_t i = 0; i < arch.implementations.size(); ++i)
            for (const ModelEntry& e : arch.implementations[i]) {
                const EntryFacts* facts = machine.facts.entry(codelet, e.footprint);
                const std::string size = std::to_string(e.bytes) + " bytes";  // all that StarPU's files know
                rows.push_back({arch.device, implementation_label(codelet, arch.device, int(i)), int(i), e,
                                time_point(facts, e), facts && !facts->arguments.empty() ? facts->arguments : size,
                                facts ? facts->on(arch.device) : Origin::measured,
                                share_of_peak(machine, codelet, arch.device, e)});
            }
    std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
        return std::tuple(a.device, a.implementation, a.work.flops, a.work.bytes, a.entry.footprint) <
               std::tuple(b.device, b.implementation, b.work.flops, b.work.bytes, b.entry.footprint);
    });
    return rows;
}

std::vector<Row> known_rows(const Machine& machine, const std::string& codelet) {
    const auto codelets = machine.codelets();
    if (std::find(codelets.begin(), codelets.end(), codelet) == codelets.end())
        throw UsageError("machine '" + machine.name() + "' has no model of '" + codelet + "'",
                         codelets.empty() ? "it has none at all: run tessera calibrate COMMAND"
                                          : suggestion_or_list(codelet, codelets));
    return rows_of(machine, codelet);
}

int list(const Flags& f) {
    const Machine machine = chosen_machine(f);
    Table table({"codelet", "op", "type", "devices", "sizes", "samples", "source"});
    Json all = Json::array();
    std::exception_ptr damage;  // of the first file that cannot be read: the others are listed all the same
    for (const std::string& codelet : machine.codelets()) {
        std::vector<std::string> devices;
        std::set<uint32_t> sizes;
        int64_t samples = 0, estimates = 0;
        std::vector<Row> rows;
        try {
            rows = rows_of(machine, codelet);
        } catch (const Error&) {
            if (!damage) damage = std::current_exception();
            table.row({codelet, "", "", "", "", "", "damaged"});
            all.push_back({{"codelet", codelet}, {"sizes", 0}, {"samples", 0}, {"source", "damaged"}});
            continue;
        }
        if (rows.empty()) continue;  // StarPU writes a file for each codelet that it met
        for (const Row& r : rows) {
            if (devices.empty() || devices.back() != name_of(r.device)) devices.push_back(name_of(r.device));
            sizes.insert(r.entry.footprint);
            if (r.origin == Origin::measured) samples += r.entry.samples;
            else ++estimates;
        }
        const auto facts = machine.facts.codelets.find(codelet);
        const bool known = facts != machine.facts.codelets.end();
        const std::string op = known ? facts->second.op : "", dtype = known ? facts->second.dtype : "";
        const std::string state(name_of(source_state(machine.facts, codelet)));
        table.row({codelet, op, dtype, join(devices), std::to_string(sizes.size()), std::to_string(samples), state});
        all.push_back({{"codelet", codelet},
                       {"op", op},
                       {"dtype", dtype},
                       {"devices", devices},
                       {"sizes", sizes.size()},
                       {"samples", samples},
                       {"estimates", estimates},
                       {"source", state}});
    }
    std::cout << "machine " << machine.name() << "\n";
    print(f, table, {{"machine", machine.name()}, {"codelets", all}});
    std::cout.flush();
    if (damage) std::rethrow_exception(damage);
    return 0;
}

std::string percent(double part) { return fixed(100 * part, 1) + " %"; }

int show(const Flags& f) {
    const Machine machine = chosen_machine(f);
    Table table({"device", "implementation", "footprint", "samples", "mean us", "deviation", "GFLOP/s", "GB/s",
                 "of peak", "origin", "tiles"});
    Json all = Json::array();
    for (const Row& r : known_rows(machine, f.codelet)) {
        const bool measured = r.origin == Origin::measured;
        const std::string origin = measured ? "measured" : "estimate: " + std::string(name_of(r.origin));
        table.row({name_of(r.device), r.label, footprint_text(r.entry.footprint),
                   measured ? std::to_string(r.entry.samples) : "-", fixed(r.entry.mean_us, 2),
                   measured ? percent(r.deviation()) : "-", r.work.flops > 0 ? fixed(r.gflops(), 2) : "-",
                   fixed(r.gbytes_per_s(), 2), r.share ? percent(*r.share) : "-", origin, r.arguments});
        all.push_back({{"device", name_of(r.device)},
                       {"implementation", r.label},
                       {"footprint", footprint_text(r.entry.footprint)},
                       {"arguments", r.arguments},
                       {"samples", measured ? r.entry.samples : 0},
                       {"mean_us", r.entry.mean_us},
                       {"deviation", measured ? Json(r.deviation()) : Json()},
                       {"flops", r.work.flops},
                       {"bytes", r.work.bytes},
                       {"gflops", r.gflops()},
                       {"gbytes_per_s", r.gbytes_per_s()},
                       {"share_of_peak", r.share ? Json(*r.share) : Json()},
                       {"origin", name_of(r.origin)},
                       {"estimate", !measured}});
    }
    print(f, table, {{"machine", machine.name()}, {"codelet", f.codelet}, {"entries", all}});
    return 0;
}

// One point for every power of two: the medians of the rows around it. Shapes of equal work differ in speed.
Series medians(const Series& rows) {
    std::map<long, std::pair<std::vector<double>, std::vector<double>>> around;
    for (size_t i = 0; i < rows.x.size(); ++i) {
        auto& [x, y] = around[std::lround(std::log2(rows.x[i]))];
        x.push_back(rows.x[i]), y.push_back(rows.y[i]);
    }
    Series line{rows.name, {}, {}};
    for (auto& [power, values] : around)
        line.x.push_back(median(values.first)), line.y.push_back(median(values.second));
    return line;
}

int plot(const Flags& f) {
    if (!f.out.ends_with(".svg")) throw UsageError("--out '" + f.out + "' is no .svg file", "pictures are SVG");
    const Machine machine = chosen_machine(f);
    const auto rows = known_rows(machine, f.codelet);
    const bool flops = std::any_of(rows.begin(), rows.end(), [](const Row& r) { return r.work.flops > 0; });
    Chart chart;
    chart.title = f.codelet + " on " + machine.name();
    chart.x_label = flops ? "floating-point operations of a task" : "bytes of a task";
    chart.y_label = flops ? "GFLOP/s" : "GB/s";
    chart.log_x = true;
    int64_t points = 0;
    std::vector<Series> each;  // of a device and implementation
    for (const Row& r : rows) {
        if (r.origin == Origin::measured && r.entry.samples < least_samples) continue;
        const double x = flops ? r.work.flops : r.work.bytes, y = flops ? r.gflops() : r.gbytes_per_s();
        if (!(x > 0) || !(y > 0)) continue;
        const std::string name =
            name_of(r.device) + ", " + r.label + (r.origin == Origin::measured ? "" : " (estimate)");
        auto series = std::find_if(each.begin(), each.end(), [&](auto& s) { return s.name == name; });
        if (series == each.end()) series = each.insert(series, Series{name, {}, {}});
        series->x.push_back(x), series->y.push_back(y);
        ++points;
    }
    for (size_t i = 0; i < each.size(); ++i) {
        Series line = medians(each[i]);
        each[i].name = "", each[i].faint = true, each[i].marks = Series::only_marks, line.marks = Series::unmarked;
        line.color = each[i].color = int(i);
        chart.series.push_back(std::move(each[i])), chart.series.push_back(std::move(line));
    }
    write_file(f.out, svg(chart));
    std::cerr << "wrote " << f.out << ": " << points << " sizes in " << each.size()
              << " series; lines join the medians around each power of two\n";
    if (f.json)
        std::cout
            << Json({{"machine", machine.name()}, {"codelet", f.codelet}, {"out", f.out}, {"points", points}}).dump()
            << std::endl;
    return 0;
}

int check(const Flags& f) {
    const Machine machine = chosen_machine(f);
    CheckOptions options;
    options.elsewhere = machine.name() != machine_name();
    // Another machine's times cannot be measured here.
    const auto findings = f.machine.empty() && !f.no_drift ? check_with_drift(machine, read_config(environ), options)
                                                           : check_models(machine, options);
    Json all = Json::array();
    Table table({"finding", "codelet", "device", "implementation", "footprint", "what", "mend it with"});
    for (const Finding& x : findings) {
        const bool row = x.device && !x.codelet.empty();  // else a whole file, or a device's peak
        const std::string device = x.device ? name_of(*x.device) : "",
                          footprint = row ? footprint_text(x.footprint) : "";
        const std::string label = row ? implementation_label(x.codelet, *x.device, x.implementation) : "";
        table.row({x.kind, x.codelet, device, label, footprint, x.what, x.command});
        all.push_back({{"finding", x.kind},
                       {"codelet", x.codelet},
                       {"device", device},
                       {"implementation", label},
                       {"footprint", footprint},
                       {"what", x.what},
                       {"command", x.command}});
    }
    if (findings.empty()) {
        std::cout << "machine " << machine.name() << ": " << machine.codelets().size()
                  << " models, nothing suspicious\n";
        if (f.json) std::cout << Json({{"machine", machine.name()}, {"findings", all}}).dump() << std::endl;
        return 0;
    }
    std::cout << "machine " << machine.name() << ": " << findings.size() << " findings\n";
    print(f, table, {{"machine", machine.name()}, {"findings", all}});
    return 1;
}

}  // namespace

Command add_perfmodel(CLI::App& app) {
    auto f = std::make_shared<Flags>();
    app.require_subcommand(1);
    std::vector<std::pair<CLI::App*, int (*)(const Flags&)>> commands;
    const auto add = [&](const char* name, const char* what, int (*run)(const Flags&)) {
        CLI::App* sub = app.add_subcommand(name, what);
        sub->add_option("--machine", f->machine, "Another machine, or a folder (default: this one's own models)")
            ->type_name("NAME")
            ->check(not_empty());
        sub->add_flag("--json", f->json, "Last line of stdout is one JSON object");
        commands.emplace_back(sub, run);
        return sub;
    };
    add("list", "Codelets that have a model", list);
    CLI::App* shown = add("show", "Every size of one codelet: time, rate, share of the device's peak", show);
    CLI::App* plotted =
        add("plot", "Rate over size as a picture: rows from ten samples on, a line through their medians", plot);
    for (CLI::App* sub : {shown, plotted})
        sub->add_option("codelet", f->codelet, "As `perfmodel list` names it")->required()->check(not_empty());
    plotted->add_option("--out", f->out, "Picture to write")->type_name("FILE.svg")->required()->check(not_empty());
    add("check", "What is wrong with the models, and the command that mends it; exit 1 if anything is", check)
        ->add_flag("--no-drift", f->no_drift, "Do not measure again");
    return [f, commands] {
        for (const auto& [sub, run] : commands)
            if (sub->parsed()) return run(*f);
        return 2;
    };
}

}  // namespace tessera
