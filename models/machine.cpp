// models/machine.cpp - folders of machines: finding, opening, copying them.
#include "models/machine.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "models/bus.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

const char* const bus_files[] = {"affinity", "bandwidth", "config", "latency", "platform.xml", "platform.v4.xml"};
const char* const model_files = "codelets/45";

// Names of the machines whose bus lies in `folder`, sorted.
std::vector<std::string> machines_in(const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code failure;
    for (const auto& file : fs::directory_iterator(folder / "bus", failure))
        if (file.path().extension() == ".config") names.push_back(file.path().stem().string());
    std::sort(names.begin(), names.end());
    return names;
}

std::string only_machine(const fs::path& folder, const std::string& name) {
    const auto names = machines_in(folder);
    if (std::find(names.begin(), names.end(), name) != names.end()) return name;
    if (names.empty())
        throw Error("'" + folder.string() + "' is no machine: there is no bus/*.config in it",
                    "a machine's folder holds bus/, codelets/45/ and tessera.json");
    if (!name.empty())
        throw Error("'" + folder.string() + "' does not hold machine '" + name + "'", suggestion_or_list(name, names));
    if (names.size() > 1)
        throw Error("'" + folder.string() + "' holds several machines: " + join(names),
                    "give one of them its own folder");
    return names[0];
}

// StarPU's machines come without facts: their GPUs are named in the platform, their cores in published.json.
void add_published_figures(Machine& machine) {
    if (!machine.facts.devices.empty()) return;
    if (auto core = published_core(machine.name())) machine.facts.devices.push_back(*core);
    const fs::path path = machine.folder() / "bus" / (machine.name() + ".platform.v4.xml");
    if (!fs::exists(path)) return;
    const Platform platform = read_platform(path);
    for (int i = 0; const PlatformHost* host = platform.host("CUDA" + std::to_string(i)); ++i) {
        const auto model = host->properties.find("model");
        if (model == host->properties.end()) continue;
        if (auto device = known_device(model->second)) {
            device->device = {1, i, 1};
            machine.facts.devices.push_back(*device);
        }
    }
}

void copy_whole(const fs::path& from, const fs::path& to) {
    const auto bytes = read_file(from, int64_t(1) << 28);
    write_file(to, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

using Models = std::map<std::string, ModelFile>;

// Read as a whole before anything is written: a model that cannot be read must not get as far as StarPU, which would
// abort, nor replace one that could.
Models all_models(const Machine& machine) {
    Models models;
    for (const std::string& codelet : machine.codelets()) models[codelet] = machine.model(codelet);
    return models;
}

void write_models(const Machine& from, const Models& models, const fs::path& to) {
    std::set<std::string> written;
    for (const auto& [codelet, model] : models) {
        const std::string file = from.model_path(codelet).filename().string();
        write_model(to / file, model);
        written.insert(file);
    }
    std::vector<fs::path> old;
    for (const auto& entry : fs::directory_iterator(to))
        if (const std::string file = entry.path().filename().string();
            file.ends_with("." + from.name()) && !written.contains(file))
            old.push_back(entry.path());
    for (const fs::path& file : old) fs::remove(file);
}

bool same_folder(const fs::path& a, const fs::path& b) {
    std::error_code failure;
    return fs::equivalent(a, b, failure);
}

}  // namespace

Machine::Machine(fs::path folder, std::string name)
    : facts(read_facts(folder)), folder_(std::move(folder)), name_(only_machine(folder_, name)) {}

fs::path Machine::model_path(const std::string& codelet) const {
    return folder_ / model_files / (codelet + "." + name_);
}

std::vector<std::string> Machine::codelets() const {
    std::vector<std::string> names;
    std::error_code failure;
    const std::string end = "." + name_;
    for (const auto& file : fs::directory_iterator(folder_ / model_files, failure)) {
        const std::string name = file.path().filename().string();
        if (name.size() > end.size() && name.ends_with(end)) names.push_back(name.substr(0, name.size() - end.size()));
    }
    std::sort(names.begin(), names.end());
    return names;
}

ModelFile Machine::model(const std::string& codelet) const {
    const fs::path path = model_path(codelet);
    std::error_code failure;  // one that cannot be looked at is not absent: reading it says why
    return fs::exists(path, failure) || failure ? read_model(path) : ModelFile{};
}

fs::path program_folder() {
    std::error_code failure;
    const fs::path program = fs::read_symlink("/proc/self/exe", failure);
    if (failure) throw Error("cannot find this program's own path: " + failure.message());
    return program.parent_path();
}

fs::path shipped_folder() {
    static const fs::path found = [] {
        for (const char* way :
             {"perfmodels", "../perfmodels", "../../perfmodels", "../../../perfmodels", "../share/tessera/perfmodels"})
            if (const fs::path folder = program_folder() / way; fs::is_directory(folder))
                return folder.lexically_normal();
        return fs::path();
    }();
    return found;
}

std::vector<KnownMachine> known_machines(const fs::path& cache) {
    std::vector<KnownMachine> all;
    const auto add = [&](const fs::path& folder, const char* kind) {
        for (const std::string& name : machines_in(folder)) all.push_back({name, kind, folder});
    };
    const auto add_each = [&](const fs::path& parent, const char* kind) {
        std::error_code failure;
        std::set<fs::path> folders;
        for (const auto& entry : fs::directory_iterator(parent, failure)) folders.insert(entry.path());
        for (const fs::path& folder : folders) add(folder, kind);
    };
    add_each(cache / "machines", "yours");
    if (!shipped_folder().empty()) add_each(shipped_folder(), "shipped");
    add(fs::path(TESSERA_STARPU_PREFIX) / "share/starpu/perfmodels/sampling", "StarPU's");
    return all;
}

Machine open_machine(const std::string& name, const fs::path& cache) {
    const auto open = [](const fs::path& folder, const std::string& called) {
        Machine machine(folder, called);
        add_published_figures(machine);
        return machine;
    };
    if (name.find('/') != name.npos && fs::is_directory(name)) return open(name, "");
    std::vector<std::string> names;
    for (const KnownMachine& known : known_machines(cache)) {
        if (known.name == name) return open(known.folder, name);
        if (std::find(names.begin(), names.end(), known.name) == names.end()) names.push_back(known.name);
    }
    std::sort(names.begin(), names.end());
    throw UsageError("unknown machine " + in_quotes(name),
                     names.empty() ? "none is known" : "known: " + join(names) + "; or a folder, with a slash");
}

Machine copy_machine(const std::string& name, const fs::path& cache, const fs::path& to) {
    const Machine from = open_machine(name, cache);
    read_bus(from.folder() / "bus", from.name());
    const Models models = all_models(from);
    if (same_folder(from.folder(), to)) return from;
    std::error_code failure;
    for (const fs::path& folder : {to / "bus", to / model_files}) {
        fs::create_directories(folder, failure);
        if (failure)
            throw Error("cannot make the folder '" + folder.string() + "': " + failure.message(),
                        "is the place writable?");
    }
    for (const char* kind : bus_files) {
        const fs::path file = fs::path("bus") / (from.name() + "." + kind);
        if (fs::exists(from.folder() / file)) copy_whole(from.folder() / file, to / file);
    }
    write_models(from, models, to / model_files);
    write_facts(to, from.facts);
    return Machine(to, from.name());
}

std::vector<std::string> set_damaged_aside(const Machine& machine) {
    std::vector<std::string> lines;
    const auto aside = [&](const fs::path& path, const char* reason) {
        const fs::path to = path.string() + ".damaged";
        std::error_code failure;
        fs::remove_all(to, failure);
        fs::rename(path, to, failure);
        if (failure) throw Error(reason, "remove '" + path.string() + "': the next run measures it again");
        lines.push_back(std::string(reason) + "; it is now '" + to.filename().string() +
                        "' and will be measured again");
    };
    try {
        read_bus(machine.folder() / "bus", machine.name());
        const fs::path affinity = machine.folder() / "bus" / (machine.name() + ".affinity");
        if (read_file(affinity, int64_t(1) << 20).empty()) throw Error("'" + affinity.string() + "' is empty");
    } catch (const Error& e) { aside(machine.folder() / "bus", e.what()); }
    for (const std::string& codelet : machine.codelets()) try {
            machine.model(codelet);
        } catch (const Error& e) { aside(machine.model_path(codelet), e.what()); }
    return lines;
}

fs::path named_folder(const std::string& given, const std::string& flag) {
    fs::path folder = fs::path(given).lexically_normal();
    if (folder.filename().empty()) folder = folder.parent_path();
    const std::string name = folder.filename();
    const bool good = !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return std::isalnum(c) || c == '-' || c == '_';
    });
    if (!good)
        throw UsageError(flag + " '" + given + "': '" + name + "' cannot be a machine's name",
                         "letters, digits, - and _, up to 64 of them");
    return folder;
}

static std::string text_of(const Bus& bus) {
    std::string text = std::to_string(bus.cpus) + " cores, " + std::to_string(bus.numas) + " NUMA nodes, " +
                       std::to_string(bus.cudas) + " GPUs";
    for (const BusDevice& d : bus.devices) text += ", " + d.model;
    return text;
}

void check_saving(const Machine& machine, const fs::path& folder) {
    const std::string name = folder.filename();
    const auto names = machines_in(folder);
    std::error_code failure;
    if (names.empty()) {  // a bus comes first: facts without one are not ours, and would be overwritten
        if (fs::exists(folder / "tessera.json", failure))
            throw UsageError(
                "--save '" + folder.string() + "' has a tessera.json, but no bus: it is no machine's folder",
                "choose a folder of its own");
        return;
    }
    const auto refuse = [&](const std::string& what) {
        throw UsageError("--save '" + folder.string() + "' is another machine: " + what, "choose a folder of its own");
    };
    if (names != std::vector{name}) refuse(join(names));
    const Machine there(folder, name);
    if (!there.facts.derived.empty()) refuse(there.facts.derived);
    const std::string ours = text_of(read_bus(machine.folder() / "bus", machine.name())),
                      theirs = text_of(read_bus(folder / "bus", name));
    if (ours != theirs) refuse(theirs + "; this one: " + ours);
}

// Rows of theirs that ours lack, measured from the same source.
static void add_rows(const ModelFile& theirs, const CodeletFacts& described, ModelFile& ours, CodeletFacts& facts) {
    for (const auto& [footprint, entry] : described.entries)
        if (const auto [at, is_new] = facts.entries.try_emplace(footprint, entry); is_new) at->second.origin.clear();
    for (const ModelArch& arch : theirs.archs)
        for (size_t k = 0; k < arch.implementations.size(); ++k)
            for (const ModelEntry& e : arch.implementations[k]) {
                if (ours.find(arch.device, int(k), e.footprint)) continue;
                ours.set(arch.device, int(k), e);
                const auto of = described.entries.find(e.footprint);
                if (of == described.entries.end()) continue;
                if (const Origin origin = of->second.on(arch.device); origin != Origin::measured)
                    facts.entries[e.footprint].origin[arch.device] = origin;
            }
}

// Adds what `there` knows and the machine does not: codelets, their rows, pairs of rows, devices. Of rows measured from
// different sources those of the one that this program runs are kept, or else the machine's.
static void add_what_is_there(const Machine& there, Models& models, MachineFacts& facts) {
    std::set<std::string> taken, left;  // codelets of `there`: whole, not at all
    for (auto& [codelet, theirs] : all_models(there)) {
        const CodeletFacts described =
            there.facts.codelets.contains(codelet) ? there.facts.codelets.at(codelet) : CodeletFacts{};
        const auto ours = models.find(codelet);
        if (ours != models.end() && facts.codelets[codelet].hash == described.hash) {
            add_rows(theirs, described, ours->second, facts.codelets[codelet]);
        } else if (ours == models.end() || source_state(there.facts, codelet) == SourceState::current) {
            models[codelet] = theirs, facts.codelets[codelet] = described;
            taken.insert(codelet);
        } else {
            left.insert(codelet);
        }
    }
    const auto of_any = [](const CoRunPair& p, const std::set<std::string>& codelets) {
        return codelets.contains(p.task.codelet) || codelets.contains(p.beside.codelet);
    };
    std::erase_if(facts.together_us, [&](const auto& pair) { return of_any(pair.first, taken); });
    for (const auto& [pair, time_us] : there.facts.together_us)
        if (!of_any(pair, left)) facts.together_us.try_emplace(pair, time_us);
    for (const DeviceFacts& d : there.facts.devices)
        if (!facts.device(d.device)) facts.devices.push_back(d);
    if (facts.description.empty()) facts.description = there.facts.description;
}

void save_machine(const Machine& machine, const fs::path& folder) {
    const std::string name = folder.filename();
    Models models = all_models(machine);
    MachineFacts facts = machine.facts;
    check_saving(machine, folder);
    if (!machines_in(folder).empty()) add_what_is_there(Machine(folder, name), models, facts);
    std::error_code failure;
    for (const fs::path& part : {folder / "bus", folder / model_files}) {
        fs::create_directories(part, failure);
        if (failure) throw Error("cannot make the folder '" + part.string() + "': " + failure.message());
    }
    for (const char* kind : bus_files) {
        const fs::path from = machine.folder() / "bus" / (machine.name() + "." + kind);
        if (fs::exists(from)) copy_whole(from, folder / "bus" / (name + "." + kind));
    }
    for (const auto& [codelet, model] : models) write_model(folder / model_files / (codelet + "." + name), model);
    facts.name = name;
    write_facts(folder, facts);
}

std::filesystem::path own_folder(const Config& config) {
    const char *models = std::getenv("STARPU_PERF_MODEL_DIR"), *home = std::getenv("STARPU_HOME");
    return models && *models ? fs::path(models)
           : home && *home   ? fs::path(home) / ".starpu" / "sampling"
                             : model_folder(config);
}

Machine own_machine(const Config& config) {
    const fs::path folder = own_folder(config);
    const std::string name = machine_name();
    if (!is_machine_name(name))
        throw UsageError("STARPU_HOSTNAME=" + in_quotes(name) + " cannot be a machine's name", machine_names);
    const auto there = machines_in(folder);
    if (std::find(there.begin(), there.end(), name) == there.end())
        throw Error("nothing was measured on this machine yet: no bus of '" + name + "' in '" + folder.string() + "'",
                    "run: tessera calibrate --all");
    return Machine(folder, name);
}

}  // namespace tessera
