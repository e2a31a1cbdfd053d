// models/facts.cpp - tessera.json, the sidecar of a machine's model files: what StarPU's files do not say.
#define JSON_DIAGNOSTICS 1  // errors name the key
#include <algorithm>
#include <charconv>
#include <ctime>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "models/machine.h"

namespace tessera {
namespace fs = std::filesystem;
using Json = nlohmann::json;
namespace {

constexpr int version = 1;
constexpr Origin origins[] = {Origin::measured, Origin::mapped, Origin::regression, Origin::peaks, Origin::scaled};

// "256 x 784 ld 784": one line of the file per tile.
std::string tile_text(const std::array<int64_t, 3>& t) {
    return std::to_string(t[0]) + " x " + std::to_string(t[1]) + " ld " + std::to_string(t[2]);
}

std::array<int64_t, 3> parse_tile(const std::string& text) {
    std::array<int64_t, 3> tile{};
    const std::string_view between[] = {" x ", " ld ", ""};
    const char *at = text.data(), *const end = at + text.size();
    for (size_t i = 0; i < 3; ++i) {
        const auto [stop, failure] = std::from_chars(at, end, tile[i]);
        if (failure != std::errc() || tile[i] < 0 ||
            !std::string_view(stop, size_t(end - stop)).starts_with(between[i]))
            throw std::invalid_argument("'" + text + "' is no tile");
        at = stop + between[i].size();
    }
    if (at != end) throw std::invalid_argument("'" + text + "' is no tile");
    return tile;
}

uint32_t parse_hex(const std::string& text) {
    uint32_t value = 0;
    const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (failure != std::errc() || stop != text.data() + text.size())
        throw std::invalid_argument("'" + text + "' is no footprint");
    return value;
}

ModelDevice device_of(const std::string& text) {
    if (const auto device = parse_device(text)) return *device;
    throw std::invalid_argument("'" + text + "' is no device");
}

double figure(const Json& j, const char* key) {
    const double value = j.at(key).get<double>();
    if (!(value >= 0)) throw std::invalid_argument(std::string(key) + " is negative");
    return value;
}

// Each command once; rows have its number.
class Commands {
 public:
    Json number(const std::string& command) {
        const auto at = std::find(all_.begin(), all_.end(), command);
        if (at == all_.end()) return all_.push_back(command), all_.size() - 1;
        return at - all_.begin();
    }
    Json json() const { return all_; }

 private:
    std::vector<std::string> all_;
};

Json to_json(const EntryFacts& e, Commands& commands) {
    Json tiles = Json::array(), origin = Json::object();
    for (const auto& t : e.tiles) tiles.push_back(tile_text(t));
    for (const auto& [device, from] : e.origin)
        if (from != Origin::measured) origin[name_of(device)] = name_of(from);
    Json j{{"arguments", e.arguments}, {"tiles", tiles}, {"flops", e.flops}, {"bytes", e.bytes}, {"origin", origin}};
    if (!e.command.empty()) j["command"] = commands.number(e.command);
    return j;
}

EntryFacts entry_from(const Json& j, const Json& commands) {
    EntryFacts e;
    e.arguments = j.at("arguments").get<std::string>();
    for (const Json& t : j.at("tiles")) e.tiles.push_back(parse_tile(t.get<std::string>()));
    e.flops = figure(j, "flops"), e.bytes = figure(j, "bytes");
    for (const auto& [device, name] : j.at("origin").items()) {
        const auto from = std::find_if(std::begin(origins), std::end(origins),
                                       [&](Origin o) { return name_of(o) == name.get<std::string>(); });
        if (from == std::end(origins)) throw std::invalid_argument("'" + name.get<std::string>() + "' is no origin");
        e.origin[device_of(device)] = *from;
    }
    if (const auto command = j.find("command"); command != j.end())  // absent in files of before
        e.command = commands.at(command->get<size_t>()).get<std::string>();
    return e;
}

Json to_json(const DeviceFacts& d) {
    return {{"device", name_of(d.device)},  {"name", d.name},
            {"f32_gflops", d.f32_gflops},   {"f64_gflops", d.f64_gflops},
            {"bf16_gflops", d.bf16_gflops}, {"gbytes_per_s", d.gbytes_per_s},
            {"measured", d.measured},       {"source", d.source}};
}

DeviceFacts figures_from(const Json& j) {
    DeviceFacts d;
    d.f32_gflops = figure(j, "f32_gflops"), d.f64_gflops = figure(j, "f64_gflops");
    d.bf16_gflops = figure(j, "bf16_gflops"), d.gbytes_per_s = figure(j, "gbytes_per_s");
    d.source = j.at("source").get<std::string>();
    return d;
}

DeviceFacts device_from(const Json& j) {
    DeviceFacts d = figures_from(j);
    d.device = device_of(j.at("device").get<std::string>());
    d.name = j.at("name").get<std::string>();
    d.measured = j.at("measured").get<bool>();
    return d;
}

Json to_json(const CoRunTask& t) { return Json::array({t.codelet, footprint_text(t.footprint), t.implementation}); }

CoRunTask co_run_task(const Json& j) {
    return {j.at(0).get<std::string>(), parse_hex(j.at(1).get<std::string>()), j.at(2).get<int>()};
}

Json to_json(const MachineFacts& m) {
    Json devices = Json::array(), codelets = Json::object(), together = Json::array();
    Commands commands;
    for (const DeviceFacts& d : m.devices) devices.push_back(to_json(d));
    for (const auto& [name, c] : m.codelets) {
        Json entries = Json::object();
        for (const auto& [footprint, e] : c.entries) entries[footprint_text(footprint)] = to_json(e, commands);
        codelets[name] = {
            {"op", c.op}, {"dtype", c.dtype}, {"source", c.source}, {"hash", c.hash}, {"entries", entries}};
    }
    for (const auto& [pair, us] : m.together_us)
        together.push_back({{"device", name_of(pair.device)},
                            {"task", to_json(pair.task)},
                            {"beside", to_json(pair.beside)},
                            {"us", us}});
    return {{"version", version},   {"name", m.name},       {"description", m.description}, {"starpu", m.starpu},
            {"date", m.date},       {"command", m.command}, {"derived", m.derived},         {"devices", devices},
            {"codelets", codelets}, {"together", together}, {"commands", commands.json()}};
}

// What is wrong with a value says under which key, as the JSON library's own errors do.
template <class Read>
auto under(const std::string& key, Read&& read) {
    try {
        return read();
    } catch (const std::invalid_argument& e) { throw std::invalid_argument("(" + key + ") " + e.what()); }
}

MachineFacts facts_from(const Json& j) {
    MachineFacts m;
    const std::pair<const char*, std::string*> texts[] = {{"name", &m.name},       {"description", &m.description},
                                                          {"starpu", &m.starpu},   {"date", &m.date},
                                                          {"command", &m.command}, {"derived", &m.derived}};
    for (const auto& [key, value] : texts) *value = j.at(key).get<std::string>();
    for (const Json& d : j.at("devices"))
        m.devices.push_back(under("/devices/" + std::to_string(m.devices.size()), [&] { return device_from(d); }));
    const Json commands = j.value("commands", Json::array());
    for (const auto& [name, c] : j.at("codelets").items()) {
        CodeletFacts& facts = m.codelets[name];
        facts.op = c.at("op").get<std::string>(), facts.dtype = c.at("dtype").get<std::string>();
        facts.source = c.at("source").get<std::string>(), facts.hash = c.at("hash").get<std::string>();
        for (const auto& [footprint, e] : c.at("entries").items())
            under("/codelets/" + name + "/entries/" + footprint,
                  [&] { return facts.entries[parse_hex(footprint)] = entry_from(e, commands); });
    }
    for (const Json& t : j.value("together", Json::array()))
        m.together_us[{device_of(t.at("device").get<std::string>()), co_run_task(t.at("task")),
                       co_run_task(t.at("beside"))}] = figure(t, "us");
    return m;
}

// Calls use(document) on the JSON of a file; whatever is wrong with it becomes one line that names the file.
template <class Use>
auto with_json(const fs::path& path, const char* hint, Use&& use) {
    const auto bytes = read_file(path, int64_t(1) << 28);
    try {
        return use(Json::parse(bytes.begin(), bytes.end()));
    } catch (const Json::exception& e) {
        const std::string what = e.what();  // behind its number in brackets
        throw Error("'" + path.string() + "' is damaged or cut off: " + what.substr(what.find("] ") + 2), hint);
    } catch (const std::invalid_argument& e) { throw Error("'" + path.string() + "' is damaged: " + e.what(), hint); }
}

const char* const installed_again = "the file came with the program: install it again";

template <class Use>
auto with_devices(Use&& use) {
    return with_json(shipped_folder() / "devices.json", installed_again, std::forward<Use>(use));
}
bool has_devices() { return !shipped_folder().empty() && fs::exists(shipped_folder() / "devices.json"); }

std::string arguments_of(const Plan& plan, const TaskSpec& task) {
    const PlanNode& node = plan.nodes[size_t(task.node)];
    std::string text = node.op + (node.attributes.empty() ? "" : " " + node.attributes) + ":";
    const char* const access[] = {"R", "W", "RW", "A"};
    for (const TileUse& u : task.tiles) {
        const TileShape s = plan.shape(u.tile);
        text += " " + std::string(access[int(u.access)]) + " " + std::to_string(s.rows) + "x" + std::to_string(s.cols);
    }
    return text;
}

}  // namespace

std::string_view name_of(Origin origin) {
    const std::string_view names[] = {"measured", "mapped", "regression", "peaks", "scaled"};
    return names[int(origin)];
}

std::string_view name_of(SourceState state) {
    const std::string_view names[] = {"current", "stale", "unknown"};
    return names[int(state)];
}

Origin EntryFacts::on(const ModelDevice& device) const {
    const auto at = origin.find(device);
    return at == origin.end() ? Origin::measured : at->second;
}

double DeviceFacts::gflops(DType type) const {
    switch (type) {
        case DType::f32:
            return f32_gflops;
        case DType::f64:
            return f64_gflops;
        case DType::bf16:
            return bf16_gflops > 0 ? bf16_gflops : f32_gflops;
        default:
            return 0;
    }
}

const DeviceFacts* MachineFacts::device(const ModelDevice& wanted) const {
    for (const DeviceFacts& d : devices)
        if (d.device == wanted) return &d;
    return nullptr;
}

const EntryFacts* MachineFacts::entry(const std::string& codelet, uint32_t footprint) const {
    const auto c = codelets.find(codelet);
    if (c == codelets.end()) return nullptr;
    const auto e = c->second.entries.find(footprint);
    return e == c->second.entries.end() ? nullptr : &e->second;
}

std::string today() {
    const std::time_t now = std::time(nullptr);
    char text[16] = "";
    std::strftime(text, sizeof text, "%Y-%m-%d", std::gmtime(&now));
    return text;
}

MachineFacts read_facts(const fs::path& folder) {
    const fs::path path = folder / "tessera.json";
    std::error_code failure;
    if (!fs::exists(path, failure) && !failure) return {};
    return with_json(path, "remove it, then measure again: tessera calibrate ... --reset", [&](const Json& j) {
        if (const Json& v = j.at("version"); v != version)
            throw Error(
                "'" + path.string() + "' is of version " + v.dump().substr(0, 20) + ", not " + std::to_string(version),
                "it was written by another Tessera; measure again: tessera calibrate ... --reset");
        return facts_from(j);
    });
}

void write_facts(const fs::path& folder, const MachineFacts& facts) {
    // Names from drivers need not be UTF-8; a file that can be read matters more than such a byte.
    write_file(folder / "tessera.json", to_json(facts).dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void describe(MachineFacts& facts, const Plan& plan, const CodeletInfo* only) {
    all_codelets();  // gives each its source and hash
    for (const TaskSpec& task : plan.tasks) {
        const CodeletInfo& info = *task.codelet;
        if (only && only != &info) continue;
        CodeletFacts& c = facts.codelets[info.name];
        if (c.entries.empty()) c.source = info.source, c.hash = info.source_hash;
        c.op = info.op, c.dtype = name_of(info.dtype);
        const auto [at, added] = c.entries.try_emplace(task.footprint);
        if (!added && !at->second.tiles.empty()) continue;
        EntryFacts& e = at->second;
        e.arguments = arguments_of(plan, task);
        e.flops = task.cost.flops, e.bytes = task.cost.bytes;
        for (const TileUse& u : task.tiles) {
            const TileShape s = plan.shape(u.tile);
            e.tiles.push_back({s.rows, s.cols, s.ld});
        }
    }
}

SourceState source_state(const MachineFacts& facts, const std::string& codelet) {
    const auto known = facts.codelets.find(codelet);
    const CodeletInfo* info = find_codelet(codelet);
    if (known == facts.codelets.end() || known->second.hash.empty() || !info || !*info->source_hash)
        return SourceState::unknown;
    return known->second.hash == info->source_hash ? SourceState::current : SourceState::stale;
}

std::optional<DeviceFacts> known_device(const std::string& name) {
    if (name.empty() || !has_devices()) return {};
    return with_devices([&](const Json& all) -> std::optional<DeviceFacts> {
        for (const auto& [key, j] : all.items()) {
            bool same = key == name;
            for (const Json& other : j.value("also", Json::array())) same |= other.get<std::string>() == name;
            if (!same) continue;
            DeviceFacts facts = figures_from(j);
            facts.name = key;
            return facts;
        }
        return {};
    });
}

std::vector<std::string> known_devices() {
    std::vector<std::string> names;
    if (has_devices())
        with_devices([&](const Json& all) {
            for (const auto& [key, j] : all.items()) names.push_back(key);
            return 0;
        });
    return names;
}

std::optional<DeviceFacts> published_core(const std::string& machine) {
    const fs::path path = shipped_folder() / "published.json";
    if (shipped_folder().empty() || !fs::exists(path)) return {};
    const std::string core = with_json(path, installed_again, [&](const Json& j) { return j.value(machine, ""); });
    return known_device(core);
}

}  // namespace tessera
