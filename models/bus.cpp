#include "models/bus.h"

#include <starpu_config.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "core/error.h"
#include "core/file.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

using Matrix = std::vector<std::vector<double>>;
const char* const mend =
    "the file is damaged: restore it, measure (STARPU_BUS_CALIBRATE=1) or compose the machine again";

std::vector<std::string> lines_of(const fs::path& path) {
    const auto bytes = read_file(path, int64_t(1) << 20);
    std::vector<std::string> lines(1);
    for (const uint8_t b : bytes)
        if (b == '\n') lines.emplace_back();
        else lines.back() += char(b);
    if (!lines.back().empty()) throw Error("'" + path.string() + "' is cut off: its last line has no end", mend);
    lines.pop_back();
    return lines;
}

[[noreturn]] void fail(const fs::path& path, size_t line, const std::string& what) {
    throw Error("'" + path.string() + "', line " + std::to_string(line + 1) + ": " + what, mend);
}

std::vector<double> numbers_of(const std::string& text, const fs::path& path, size_t line) {
    std::vector<double> row;
    const char *at = text.data(), *const end = at + text.size();
    while (true) {
        while (at < end && (*at == '\t' || *at == ' ' || *at == '\r')) ++at;
        if (at == end) return row;
        double value = 0;
        const auto [stop, failure] = std::from_chars(at, end, value);
        if (failure != std::errc() || (stop < end && *stop != '\t' && *stop != ' ' && *stop != '\r'))
            fail(path, line, "'" + std::string(at, std::find(at, end, '\t')) + "' is not a number");
        row.push_back(value);
        at = stop;
    }
}

// A square table in tabs, nan where there is no node; StarPU writes as many rows as it was built for.
Matrix read_table(const fs::path& path, int nodes, bool zero_allowed) {
    Matrix table;
    const auto lines = lines_of(path);
    for (size_t i = 0; i < lines.size(); ++i)
        if (!lines[i].empty() && lines[i][0] != '#') table.push_back(numbers_of(lines[i], path, i));
    if (table.empty() || int64_t(table.size()) < nodes || table.size() != table[0].size())
        throw Error("'" + path.string() + "' is cut off: " + std::to_string(table.size()) + " rows of " +
                        std::to_string(table.empty() ? 0 : table[0].size()) + " columns, for " + std::to_string(nodes) +
                        " memory nodes",
                    mend);
    for (size_t i = 0; i < table.size(); ++i) {
        if (table[i].size() != table.size())
            throw Error("'" + path.string() + "' is cut off: row " + std::to_string(i) + " has " +
                            std::to_string(table[i].size()) + " columns of " + std::to_string(table.size()),
                        mend);
        for (int j = 0; int(i) < nodes && j < nodes; ++j) {
            const double v = table[i][size_t(j)];
            if (int(i) == j || (std::isfinite(v) && (v > 0 || (zero_allowed && v == 0)))) continue;
            throw Error("'" + path.string() + "': " + (std::isnan(v) ? "nothing" : std::to_string(v)) + " from node " +
                            std::to_string(i) + " to " + std::to_string(j) + ", which must be positive",
                        mend);
        }
    }
    table.resize(size_t(nodes));
    for (int i = 0; i < nodes; ++i) table[size_t(i)].resize(size_t(nodes)), table[size_t(i)][size_t(i)] = 0;
    return table;
}

// "24 # Number of CPUs". Old files have no line for NUMA nodes: there the host is one node.
void read_config(const fs::path& path, Bus& bus) {
    bool cpus = false, cudas = false;
    const auto lines = lines_of(path);
    for (size_t i = 0; i < lines.size(); ++i) {
        if (lines[i].empty() || lines[i][0] == '#') continue;
        int value = 0;
        const auto [stop, failure] = std::from_chars(lines[i].data(), lines[i].data() + lines[i].size(), value);
        if (failure != std::errc() || value < 0 || value > 4096) fail(path, i, "'" + lines[i] + "' is no count");
        const std::string what(stop, lines[i].data() + lines[i].size());
        const auto is = [&](const char* word) { return what.find(word) != std::string::npos; };
        if (is("CPU")) bus.cpus = value, cpus = true;
        else if (is("NUMA")) bus.numas = value;
        else if (is("CUDA")) bus.cudas = value, cudas = true;
    }
    if (!cpus || !cudas) throw Error("'" + path.string() + "' is cut off: no number of CPUs or of CUDA devices", mend);
    if (bus.numas < 1) throw Error("'" + path.string() + "' names no NUMA node", mend);
}

void read_devices(const fs::path& path, Bus& bus) {
    const Platform platform = read_platform(path);
    if (platform.version < 4)
        throw Error("'" + path.string() + "' is of version " + std::to_string(platform.version) + ", not 4", mend);
    if (platform.count("CPU") < bus.cpus)
        throw Error("'" + path.string() + "' names " + std::to_string(platform.count("CPU")) + " CPUs; " + bus.name +
                        ".config has " + std::to_string(bus.cpus),
                    mend);
    const int found = platform.count("CUDA");
    if (found != bus.cudas || !platform.host("RAM") || !platform.host("MAIN"))
        throw Error("'" + path.string() + "' names " + std::to_string(found) + " CUDA devices" +
                        (platform.host("RAM") && platform.host("MAIN") ? "" : ", and no RAM or MAIN") + "; " +
                        bus.name + ".config has " + std::to_string(bus.cudas),
                    mend);
    for (int g = 0; g < bus.cudas; ++g) {
        const std::string id = "CUDA" + std::to_string(g);
        for (const auto& [from, to] : {std::pair{std::string("RAM"), id}, {id, std::string("RAM")}})
            if (!platform.route(from, to))
                throw Error("'" + path.string() + "' has no route from " + from + " to " + to, mend);
        const auto& properties = platform.host(id)->properties;
        const auto value = [&](const char* key) {
            const auto at = properties.find(key);
            return at == properties.end() ? std::string() : at->second;
        };
        BusDevice d{value("model"), 0, value("memcpy_peer") != "0" && !value("memcpy_peer").empty()};
        const std::string size = value("memsize");
        if (!size.empty()) {
            const auto [stop, failure] = std::from_chars(size.data(), size.data() + size.size(), d.memory_bytes);
            if (failure != std::errc() || stop != size.data() + size.size() || d.memory_bytes < 0)
                throw Error("'" + path.string() + "': memsize '" + size + "' of " + id + " is not a size", mend);
        }
        bus.devices.push_back(d);
    }
    // Between GPUs copies go over the host, unless either says that it can do without.
    for (int g = 0; g < bus.cudas; ++g)
        for (int other = 0; other < bus.cudas; ++other) {
            if (g == other || !(bus.devices[size_t(g)].peer || bus.devices[size_t(other)].peer)) continue;
            const std::string from = "CUDA" + std::to_string(g), to = "CUDA" + std::to_string(other);
            if (!platform.route(from, to))
                throw Error("'" + path.string() + "' has no route from " + from + " to " + to +
                                ", between which memcpy_peer promises direct copies",
                            mend);
        }
}

std::string scientific(double value) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, value, std::chars_format::scientific, 6).ptr};
}

std::string table_text(const Bus& bus, const Matrix& m) {
    std::string text = "# ";
    for (int i = 0; i < bus.nodes(); ++i) text += "to " + bus.node_name(i) + "\t";
    text += "\n";
    const int size = std::max(bus.nodes(), STARPU_MAXNODES);
    for (int i = 0; i < size; ++i)
        for (int j = 0; j < size; ++j) {
            const bool there = i < bus.nodes() && j < bus.nodes();
            text += (there ? scientific(m[size_t(i)][size_t(j)]) : "nan") + (j + 1 < size ? "\t" : "\n");
        }
    return text;
}

std::string one_decimal(double value) {
    char text[64];
    return {text, std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, 1).ptr};
}

}  // namespace

std::string Bus::node_name(int node) const {
    if (node >= numas) return "CUDA " + std::to_string(node - numas);
    return "NUMA " + std::to_string(node);
}

std::string rate_text(double mbytes_per_s, int decimals) {
    const bool giga = mbytes_per_s >= 1e3;
    char text[64];
    char* const end = std::to_chars(text, text + sizeof text, giga ? mbytes_per_s * 1e-3 : mbytes_per_s,
                                    std::chars_format::fixed, giga ? decimals : 0)
                          .ptr;
    return std::string(text, end) + (giga ? " GB/s" : " MB/s");
}

Bus empty_bus(const std::string& name, int cpus, int cudas) {
    Bus bus;
    bus.name = name, bus.cpus = cpus, bus.cudas = cudas;
    bus.devices.resize(size_t(cudas));
    bus.mbytes_per_s = bus.latency_us = Matrix(size_t(bus.nodes()), std::vector<double>(size_t(bus.nodes())));
    return bus;
}

Bus read_bus(const fs::path& folder, const std::string& name) {
    const auto file = [&](const char* ending) { return folder / (name + ending); };
    std::error_code failure;
    if (!fs::exists(file(".config"), failure) && !failure)
        throw Error("no bus of machine '" + name + "' in '" + folder.string() + "'",
                    "run any tessera program on that machine once: StarPU measures the bus at its first start");
    Bus bus;
    bus.name = name;
    read_config(file(".config"), bus);
    read_devices(file(".platform.v4.xml"), bus);
    bus.mbytes_per_s = read_table(file(".bandwidth"), bus.nodes(), false);
    bus.latency_us = read_table(file(".latency"), bus.nodes(), true);
    return bus;
}

void check_bus(const Bus& bus) {
    const size_t n = size_t(bus.nodes());
    const auto square = [n](const Matrix& m) {
        return m.size() == n && std::all_of(m.begin(), m.end(), [n](const auto& row) { return row.size() == n; });
    };
    if (!square(bus.mbytes_per_s) || !square(bus.latency_us) || bus.devices.size() != size_t(bus.cudas))
        throw std::invalid_argument("bus " + bus.name + ": tables do not fit its " + std::to_string(n) + " nodes");
    for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < n; ++j)
            if (i != j && !(bus.mbytes_per_s[i][j] > 0 && std::isfinite(bus.mbytes_per_s[i][j]) &&
                            bus.latency_us[i][j] >= 0 && std::isfinite(bus.latency_us[i][j])))
                throw std::invalid_argument("bus " + bus.name + ": no speed from " + bus.node_name(int(i)) + " to " +
                                            bus.node_name(int(j)));
}

void write_bus(const fs::path& folder, const Bus& bus, const Platform& platform) {
    check_bus(bus);
    std::error_code failure;
    fs::create_directories(folder, failure);
    if (failure) throw Error("cannot make the folder '" + folder.string() + "': " + failure.message());
    const auto write = [&](const char* ending, const std::string& text) {
        write_file(folder / (bus.name + ending), text);
    };
    write(".bandwidth", table_text(bus, bus.mbytes_per_s));
    write(".latency", table_text(bus, bus.latency_us));
    std::string affinity = "# GPU\t";
    for (int n = 0; n < bus.numas; ++n) affinity += "NUMA" + std::to_string(n) + "\t";
    affinity += "\n";
    for (int g = 0; g < bus.cudas; ++g) {
        affinity += std::to_string(g) + "\t";
        for (int n = 0; n < bus.numas; ++n) affinity += std::to_string(n) + "\t";
        affinity += "\n";
    }
    write(".affinity", affinity);
    std::string config = "# Current configuration\n" + std::to_string(bus.cpus) + " # Number of CPUs\n" +
                         std::to_string(bus.numas) + " # Number of NUMA nodes\n" + std::to_string(bus.cudas) +
                         " # Number of CUDA nodes\n";
    for (const char* kind : {"OpenCL", "FPGA", "Disk", "MPI_MS", "TCPIP_MS", "HIP"})
        config += std::string("0 # Number of ") + kind + " nodes\n";
    write(".config", config);
    write(".platform.xml", to_xml(platform, 3));
    write(".platform.v4.xml", to_xml(platform, 4));
}

std::vector<std::string> suspicious(const Bus& bus) {
    std::vector<std::string> lines;
    std::string fast_pair;
    int fast_pairs = 0;
    const auto gbytes = [&](int from, int to) { return bus.mbytes_per_s[size_t(from)][size_t(to)] * 1e-3; };
    const auto rate = [&](int from, int to) { return rate_text(bus.mbytes_per_s[size_t(from)][size_t(to)], 1); };
    const auto from_to = [&](int from, int to) { return bus.node_name(from) + " to " + bus.node_name(to); };
    for (int i = 0; i < bus.nodes(); ++i)
        for (int j = 0; j < bus.nodes(); ++j) {
            if (i == j) continue;
            const double there = gbytes(i, j), back = gbytes(j, i);
            const bool peers = i >= bus.numas && j >= bus.numas;
            const std::string speed = from_to(i, j) + ": " + rate(i, j);
            if (there > 4 * back) lines.push_back(speed + ", but " + rate(j, i) + " the other way");
            if (there > (peers ? 1000 : 200)) lines.push_back(speed + " is more than any link carries");
            if (there < 0.5) lines.push_back(speed + " is slower than any PCIe slot of a GPU");
            if (bus.latency_us[size_t(i)][size_t(j)] > 1000)
                lines.push_back(from_to(i, j) + ": a latency of " +
                                one_decimal(bus.latency_us[size_t(i)][size_t(j)] * 1e-3) + " ms");
            if (peers && there > 1.5 * std::max(gbytes(i, 0), gbytes(0, j)) && fast_pairs++ == 0)
                fast_pair = speed + " is faster than either has to the host: right only with NVLink";
        }
    if (fast_pairs > 1) fast_pair += " (and " + std::to_string(fast_pairs - 1) + " pairs more)";
    if (fast_pairs > 0) lines.push_back(fast_pair);  // one line, for where there is NVLink all have it
    for (int g = 0; g < bus.cudas; ++g)
        for (int other = 0; other < bus.cudas; ++other) {
            const int a = bus.gpu_node(g), b = bus.gpu_node(other);
            if (bus.devices[size_t(g)].model != bus.devices[size_t(other)].model || gbytes(0, b) < 1.5 * gbytes(0, a))
                continue;
            lines.push_back(from_to(0, a) + ": " + rate(0, a) + ", where its equal " + bus.node_name(b) + " has " +
                            rate(0, b));
            break;
        }
    return lines;
}

}  // namespace tessera
