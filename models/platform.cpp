#include "models/platform.h"

#include <algorithm>
#include <charconv>

namespace tessera {
namespace {

template <class T>
const T* by_id(const std::vector<T>& all, const std::string& id) {
    const auto at = std::find_if(all.begin(), all.end(), [&](const T& t) { return t.id == id; });
    return at == all.end() ? nullptr : &*at;
}

std::string number(double value, int decimals) {
    char text[64];
    const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, decimals).ptr;
    return {text, end};
}

std::string quoted(const std::string& text) {
    std::string safe;
    for (char c : text) safe += c == '"' || c == '<' || c == '>' || c == '&' ? '_' : c;
    return '"' + safe + '"';
}

}  // namespace

const PlatformHost* Platform::host(const std::string& id) const { return by_id(hosts, id); }
const PlatformLink* Platform::link(const std::string& id) const { return by_id(links, id); }
const PlatformRoute* Platform::route(const std::string& from, const std::string& to) const {
    for (const auto& r : routes)
        if (r.from == from && r.to == to) return &r;
    return nullptr;
}
int Platform::count(const std::string& prefix) const {
    int n = 0;
    while (host(prefix + std::to_string(n))) ++n;
    return n;
}

std::string to_xml(const Platform& p, int version) {
    const bool v3 = version == 3;
    const std::string dash = v3 ? "_" : "-", speed = v3 ? " power=" : " speed=", flops = v3 ? "" : "f";
    std::string x = "<?xml version='1.0'?>\n<!DOCTYPE platform SYSTEM '";
    x += v3 ? "http://simgrid.gforge.inria.fr/simgrid.dtd" : "https://simgrid.org/simgrid.dtd";
    x += std::string("'>\n<platform version=\"") + (v3 ? "3" : "4.1") + "\">\n <config" +
         (v3 ? " id=\"General\"" : "") + ">\n";
    const std::pair<std::string, std::string> settings[] = {{"TCP" + dash + "gamma", "-1"},
                                                            {"latency" + dash + "factor", "1"},
                                                            {"bandwidth" + dash + "factor", "1"},
                                                            {"weight" + dash + "S", "0.0"},
                                                            {"crosstraffic", "0"}};
    for (const auto& [key, value] : settings) x += "  <prop id=\"network/" + key + "\" value=\"" + value + "\"/>\n";
    const std::string zone = v3 ? "AS" : "zone";
    x += " </config>\n <" + zone + " id=\"AS0\" routing=\"Full\">\n";
    for (const auto& h : p.hosts) {
        const bool computes = h.id != "MAIN" && h.id != "RAM";
        x += "  <host id=" + quoted(h.id) + speed + "\"" + (computes ? "2000000000" : "1") + flops + "\"";
        if (h.properties.empty()) x += "/>\n";
        else {
            x += ">\n";
            for (const auto& [key, value] : h.properties)
                x += "   <prop id=" + quoted(key) + " value=" + quoted(value) + "/>\n";
            x += "  </host>\n";
        }
    }
    for (const auto& l : p.links)
        x += "  <link id=" + quoted(l.id) + " bandwidth=\"" + number(l.bytes_per_s, 0) + (v3 ? "" : "Bps") +
             "\" latency=\"" + number(l.latency_s, 9) + (v3 ? "" : "s") + "\"/>\n";
    for (const auto& r : p.routes) {
        x += "  <route src=" + quoted(r.from) + " dst=" + quoted(r.to) + " symmetrical=\"NO\">\n";
        for (const auto& l : r.links) x += "   <link_ctn id=" + quoted(l) + "/>\n";
        x += "  </route>\n";
    }
    return x + " </" + zone + ">\n</platform>\n";
}

}  // namespace tessera
