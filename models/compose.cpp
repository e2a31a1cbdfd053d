#include "models/compose.h"

#include <starpu_config.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "core/error.h"
#include "core/file.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

constexpr double published_latency_us = 10;  // what StarPU measured on the machines that it publishes
const ModelDevice cpu_core{0, 0, 1};

std::string text_of(double value) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, value, std::chars_format::general, 6).ptr};
}

std::string stated(double mbytes_per_s) {
    const bool giga = mbytes_per_s >= 1e3;
    return text_of(giga ? mbytes_per_s * 1e-3 : mbytes_per_s) + (giga ? " GB/s" : " MB/s") + " as stated";
}

// A device of the machine that is being made.
struct Place {
    ModelDevice device;  // as the new machine numbers it
    const ComposePart* part;
    const ComposeSource* source;
    ModelDevice origin;  // as its source does
};

std::vector<Place> places_of(const ComposeOptions& o, const std::map<std::string, ComposeSource>& sources) {
    std::vector<Place> places;
    for (const ComposePart& part : o.gpus) {
        const ComposeSource& source = sources.at(part.source);
        if (source.machine && source.bus.cudas == 0)
            throw UsageError("machine '" + part.source + "' has no GPU", "take it for --cpus only");
        if (!source.machine && source.device->device.type == cpu_core.type)
            throw UsageError("'" + part.source + "' is a CPU core, not a GPU", "take it for --cpus");
        for (int k = 0; k < part.count; ++k)
            places.push_back(
                {{1, int(places.size()), 1}, &part, &source, {1, source.machine ? k % source.bus.cudas : 0, 1}});
    }
    if (places.size() > size_t(STARPU_MAXCUDADEVS))
        throw UsageError(std::to_string(places.size()) + " GPUs, but StarPU is built for at most " +
                         std::to_string(STARPU_MAXCUDADEVS));
    return places;
}

int cores_of(const ComposeOptions& o, const std::map<std::string, ComposeSource>& sources, int gpus) {
    if (o.cpus.count > 0) {
        const ComposeSource& source = sources.at(o.cpus.source);
        if (!source.machine && source.device->device.type != cpu_core.type)
            throw UsageError("'" + o.cpus.source + "' is a GPU without a machine: it has no CPU cores",
                             "--cpus " + std::to_string(o.cpus.count) + "xMACHINE says whose cores to take");
        if (source.machine && o.cpus.count > source.bus.cpus)
            throw UsageError(std::to_string(o.cpus.count) + " CPU cores, but machine '" + o.cpus.source + "' has " +
                             std::to_string(source.bus.cpus));
    }
    const int cores = o.cpus.count + gpus;
    if (cores == 0) throw UsageError("a machine without any device", "give --gpus or --cpus");
    if (o.cpus.count > STARPU_MAXCPUS)
        throw UsageError(std::to_string(o.cpus.count) + " CPU cores, but StarPU is built for at most " +
                         std::to_string(STARPU_MAXCPUS));
    return cores;
}

double link_of(const Place& p, bool up) {
    if (p.part->link_mbytes_per_s > 0) return p.part->link_mbytes_per_s;
    if (!p.source->machine)
        throw UsageError("nobody measured the link of '" + p.part->source + "'", "say it: --link 25GB/s");
    const Bus& bus = p.source->bus;
    const size_t gpu = size_t(bus.gpu_node(p.origin.id));
    double most = 0;
    for (size_t n = 0; n < size_t(bus.numas); ++n)
        most = std::max(most, up ? bus.mbytes_per_s[gpu][n] : bus.mbytes_per_s[n][gpu]);
    return most;
}
double latency_of(const Place& p, bool up) {
    if (!p.source->machine) return published_latency_us;
    const Bus& bus = p.source->bus;
    const size_t gpu = size_t(bus.gpu_node(p.origin.id));
    double least = up ? bus.latency_us[gpu][0] : bus.latency_us[0][gpu];
    for (size_t n = 1; n < size_t(bus.numas); ++n)
        least = std::min(least, up ? bus.latency_us[gpu][n] : bus.latency_us[n][gpu]);
    return least;
}

// Speed and latency from GPU a to GPU b.
std::pair<double, double> peer_of(const Place& a, const Place& b, double wanted) {
    const double up = link_of(a, true), down = link_of(b, false);
    const double latency = latency_of(a, true) + latency_of(b, false);
    if (wanted > 0) return {wanted, latency};
    const bool links_as_measured = a.part->link_mbytes_per_s == 0 && b.part->link_mbytes_per_s == 0;
    if (a.source == b.source && a.source->machine && a.origin.id != b.origin.id && links_as_measured) {
        const Bus& bus = a.source->bus;
        const size_t from = size_t(bus.gpu_node(a.origin.id)), to = size_t(bus.gpu_node(b.origin.id));
        return {bus.mbytes_per_s[from][to], bus.latency_us[from][to]};
    }
    if (a.device.id / 2 == b.device.id / 2) return {std::min(up, down), latency};
    return {1 / (1 / up + 1 / down), latency};
}

Bus bus_of(const ComposeOptions& o, const std::vector<Place>& gpus, int cores) {
    Bus bus = empty_bus(o.name, cores, int(gpus.size()));
    for (size_t g = 0; g < gpus.size(); ++g) {
        const Place& p = gpus[g];
        bus.mbytes_per_s[0][g + 1] = link_of(p, false), bus.mbytes_per_s[g + 1][0] = link_of(p, true);
        bus.latency_us[0][g + 1] = latency_of(p, false), bus.latency_us[g + 1][0] = latency_of(p, true);
        for (size_t h = 0; h < gpus.size(); ++h)
            if (h != g)
                std::tie(bus.mbytes_per_s[g + 1][h + 1], bus.latency_us[g + 1][h + 1]) =
                    peer_of(p, gpus[h], o.peer_mbytes_per_s);
        if (p.source->machine) bus.devices[g] = p.source->bus.devices[size_t(p.origin.id)];
        else bus.devices[g].model = p.source->device->name;
        if (p.part->scale != 1) bus.devices[g].model += " x" + text_of(p.part->scale);  // StarPU names workers so
        if (p.part->memory_bytes > 0) bus.devices[g].memory_bytes = p.part->memory_bytes;
        if (bus.devices[g].memory_bytes <= 0)
            throw UsageError("nobody said how much memory '" + p.part->source + "' has", "say it: --gpu-memory 80G");
    }
    return bus;
}

DeviceFacts facts_of(const Place& p) {
    DeviceFacts f;
    const std::string& source = p.part->source;
    if (p.source->device) f = *p.source->device;
    else if (const DeviceFacts* known = p.source->machine->facts.device(p.origin)) f = *known;
    if (f.name.empty() && p.device.type == 1) f.name = p.source->bus.devices[size_t(p.origin.id)].model;
    f.device = p.device;
    f.source =
        (p.source->machine ? name_of(p.origin) + " of " + source : source) + (f.source.empty() ? "" : ": " + f.source);
    if (p.part->scale == 1) return f;
    for (double* speed : {&f.f32_gflops, &f.f64_gflops, &f.bf16_gflops, &f.gbytes_per_s}) *speed *= p.part->scale;
    f.measured = false;
    f.name += " x" + text_of(p.part->scale);
    f.source += "; speed times " + text_of(p.part->scale);
    return f;
}

// Where each time of one device comes from, in the facts of the codelet.
void add_origins(CodeletFacts& to, const CodeletFacts* from, const Place& p, const ModelArch& arch) {
    for (const auto& entries : arch.implementations)
        for (const ModelEntry& e : entries) {
            const EntryFacts* known = nullptr;
            if (from)
                if (const auto at = from->entries.find(e.footprint); at != from->entries.end()) known = &at->second;
            Origin origin = p.part->scale == 1 ? Origin::measured : Origin::scaled;
            if (known)
                if (const auto at = known->origin.find(p.origin); at != known->origin.end()) origin = at->second;
            if (!known && origin == Origin::measured) continue;
            const auto [entry, is_new] = to.entries.try_emplace(e.footprint);
            if (is_new && known) entry->second = *known, entry->second.origin.clear();
            if (is_new && !known) entry->second.flops = e.flops;
            if (origin != Origin::measured) entry->second.origin[p.device] = origin;
        }
}

void add_models(const std::string& codelet, const std::vector<Place>& places, ModelFile& model, MachineFacts& facts) {
    for (const Place& p : places) {
        if (!p.source->machine) continue;
        const Machine& machine = *p.source->machine;
        const ModelFile source = machine.model(codelet);
        const auto arch = std::find_if(source.archs.begin(), source.archs.end(),
                                       [&](const ModelArch& a) { return a.device == p.origin; });
        if (arch == source.archs.end()) continue;
        for (size_t i = 0; i < arch->implementations.size(); ++i)
            for (const ModelEntry& e : arch->implementations[i]) model.set(p.device, int(i), scaled(e, p.part->scale));
        const auto known = machine.facts.codelets.find(codelet);
        const CodeletFacts* from = known == machine.facts.codelets.end() ? nullptr : &known->second;
        const auto at = facts.codelets.find(codelet);
        CodeletFacts to = at == facts.codelets.end() ? CodeletFacts{} : at->second;
        if (from && to.op.empty())
            to.op = from->op, to.dtype = from->dtype, to.source = from->source, to.hash = from->hash;
        if (from && to.hash != from->hash) to.hash = "mixed";  // measured from different sources: no longer any of them
        add_origins(to, from, p, *arch);
        if (!to.op.empty() || !to.entries.empty()) facts.codelets[codelet] = to;
    }
}

std::string core_text(const ComposePart& p, const ComposeSource& source) {
    return source.machine ? p.source : "a kind (" + source.device->name + ", published figures, not measured)";
}

std::string derived_text(const ComposeOptions& o, const std::map<std::string, ComposeSource>& sources) {
    std::vector<std::string> parts;
    const auto scale = [](const ComposePart& p) {
        return p.scale == 1 ? "" : " at " + text_of(p.scale) + " of its speed";
    };
    for (const ComposePart& p : o.gpus) {
        const ComposeSource& s = sources.at(p.source);
        std::string text = std::to_string(p.count) + " x " +
                           (s.machine ? s.bus.devices[0].model + " of " + p.source
                                      : s.device->name + " (published figures, not measured)") +
                           scale(p);
        if (s.machine && p.count > s.bus.cudas) text += ", " + std::to_string(s.bus.cudas) + " of them measured";
        text += p.link_mbytes_per_s > 0            ? ", link " + stated(p.link_mbytes_per_s)
                : !s.machine                       ? ""
                : s.machine->facts.derived.empty() ? ", link as measured there"
                                                   : ", link as there; that machine is derived itself";
        parts.push_back(text);
    }
    if (o.cpus.count > 0)
        parts.push_back(std::to_string(o.cpus.count) + " CPU cores of " + core_text(o.cpus, sources.at(o.cpus.source)) +
                        scale(o.cpus));
    if (o.peer_mbytes_per_s > 0) parts.push_back("peers " + stated(o.peer_mbytes_per_s));
    if (o.host_mbytes_per_s > 0) parts.push_back("host " + stated(o.host_mbytes_per_s));
    return join(parts, "; ");
}

MachineFacts machine_facts(const ComposeOptions& o, const std::map<std::string, ComposeSource>& sources,
                           const std::vector<Place>& places) {
    MachineFacts facts;
    facts.name = o.name, facts.date = o.date, facts.command = o.command;
    facts.derived = derived_text(o, sources);
    facts.description = "composed: " + facts.derived;
    std::set<std::string> versions;
    for (const Place& p : places) {
        facts.devices.push_back(facts_of(p));
        if (p.source->machine && !p.source->machine->facts.starpu.empty())
            versions.insert(p.source->machine->facts.starpu);
    }
    facts.starpu = join({versions.begin(), versions.end()});
    return facts;
}

// Takes `from` to `to`, which may hold a machine that is to be replaced: that one goes when the new one is there.
void move_into_place(const fs::path& from, const fs::path& to, bool replace) {
    std::error_code failure, ignored;
    const bool replaces = replace && fs::exists(to);
    const fs::path aside = to.string() + ".old-" + std::to_string(getpid());
    if (replaces) {
        const bool machine = fs::is_directory(to) && (fs::is_empty(to) || fs::exists(to / "bus"));
        if (!machine) throw Error("'" + to.string() + "' is not a machine's folder, and is left alone");
        fs::rename(to, aside, failure);
        if (failure) throw Error("cannot replace '" + to.string() + "': " + failure.message());
    }
    fs::rename(from, to, failure);
    if (failure) {
        if (replaces) fs::rename(aside, to, ignored);
        throw Error("cannot write '" + to.string() + "': " + failure.message());
    }
    if (!replaces) return;
    fs::remove_all(aside, failure);
    if (failure)
        throw Error("'" + to.string() + "' is replaced, but the old one cannot be removed: " + failure.message(),
                    "remove '" + aside.string() + "'");
}

}  // namespace

ModelEntry scaled(ModelEntry e, double scale) {
    e.mean_us /= scale, e.deviation_us /= scale, e.sum_us /= scale, e.sum2_us2 /= scale * scale;
    return e;
}

Machine compose(const ComposeOptions& o, const std::map<std::string, ComposeSource>& sources, const fs::path& given,
                bool replace) {
    const fs::path out = given.filename().empty() ? given.parent_path() : given;  // or the temporary would lie inside
    std::vector<Place> places = places_of(o, sources);
    const int cores = cores_of(o, sources, int(places.size()));
    const Bus bus = bus_of(o, places, cores);
    if (o.cpus.count > 0) places.push_back({cpu_core, &o.cpus, &sources.at(o.cpus.source), cpu_core});
    if (fs::exists(out) && !replace) throw Error("'" + out.string() + "' is there already", "--force replaces it");
    MachineFacts facts = machine_facts(o, sources, places);
    std::set<std::string> codelets;
    for (const Place& p : places)
        if (p.source->machine)
            for (const std::string& c : p.source->machine->codelets()) codelets.insert(c);

    const fs::path folder = out.string() + ".tmp-" + std::to_string(getpid());
    struct Remove {
        fs::path path;
        ~Remove() {
            std::error_code ignored;
            fs::remove_all(path, ignored);
        }
    } remove{folder};
    std::error_code failure;
    fs::create_directories(folder / "codelets" / "45", failure);
    if (failure)
        throw Error("cannot write '" + out.string() + "': " + failure.message(), "is its folder there, and writable?");
    write_bus(folder / "bus", bus, pci_tree(bus, o.host_mbytes_per_s));
    for (const std::string& codelet : codelets) {
        ModelFile model;
        add_models(codelet, places, model, facts);
        if (!model.archs.empty()) write_model(folder / "codelets" / "45" / (codelet + "." + o.name), model);
    }
    write_facts(folder, facts);
    move_into_place(folder, out, replace);
    return Machine(out);
}

}  // namespace tessera
