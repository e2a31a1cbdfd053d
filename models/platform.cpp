#include "models/platform.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/file.h"

namespace tessera {
namespace {

template <class T>
const T* by_id(const std::vector<T>& all, const std::string& id) {
    const auto at = std::find_if(all.begin(), all.end(), [&](const T& t) { return t.id == id; });
    return at == all.end() ? nullptr : &*at;
}

struct Tag {
    std::string name;  // "/route" for an end
    std::map<std::string, std::string> attributes;
    bool closed = false;  // <link .../>
};

// One tag after another; comments, declarations and text between them are passed over.
class Scanner {
 public:
    Scanner(const std::string& text, const std::string& name) : text_(text), name_(name) {}

    std::optional<Tag> next() {
        while (true) {
            at_ = text_.find('<', at_);
            if (at_ == std::string::npos) return std::nullopt;
            if (text_.compare(at_, 4, "<!--") == 0) skip_past("-->");
            else if (text_.compare(at_, 2, "<?") == 0 || text_.compare(at_, 2, "<!") == 0) skip_past(">");
            else return tag();
        }
    }
    [[noreturn]] void fail(const std::string& what) const {
        const auto line = 1 + std::count(text_.begin(), text_.begin() + int64_t(std::min(at_, text_.size())), '\n');
        throw Error("'" + name_ + "', line " + std::to_string(line) + ": " + what,
                    "the file is damaged; restore it, or compose or measure the machine again");
    }

 private:
    void skip_past(const char* end) {
        const size_t to = text_.find(end, at_);
        if (to == std::string::npos) fail("the file is cut off");
        at_ = to + std::string(end).size();
    }
    void skip_space() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }
    char here() const {
        if (at_ >= text_.size()) fail("the file is cut off");
        return text_[at_];
    }
    std::string word() {
        const size_t start = at_, end = std::min(text_.find_first_of(" \t\r\n=/>", at_ + 1), text_.size());
        at_ = end;
        return text_.substr(start, end - start);
    }
    Tag tag() {
        Tag t;
        ++at_, here();
        t.name = word();
        while (true) {
            skip_space();
            if (here() == '>') return ++at_, t;
            if (here() == '/') {
                ++at_, t.closed = true;
                continue;
            }
            const std::string key = word();
            if (here() != '=') fail("attribute '" + key + "' has no value");
            ++at_;
            const char quote = here();
            if (quote != '"' && quote != '\'') fail("the value of '" + key + "' is not in quotes");
            const size_t end = text_.find(quote, at_ + 1);
            if (end == std::string::npos) fail("the file is cut off");
            t.attributes[key] = text_.substr(at_ + 1, end - at_ - 1);
            at_ = end + 1;
        }
    }
    const std::string& text_;
    const std::string& name_;
    size_t at_ = 0;
};

std::string attribute(const Tag& t, const std::string& key, const Scanner& s) {
    const auto at = t.attributes.find(key);
    if (at == t.attributes.end() || at->second.empty()) s.fail("<" + t.name + "> without '" + key + "'");
    return at->second;
}

// "6517450307.9Bps", "12.5GBps", "0.000010s", "10us", or a bare number.
double quantity(const Tag& t, const std::string& key, const std::string& unit, const Scanner& s) {
    static const std::map<std::string, double> prefixes = {{"", 1},     {"k", 1e3},  {"M", 1e6},  {"G", 1e9},
                                                           {"T", 1e12}, {"m", 1e-3}, {"u", 1e-6}, {"n", 1e-9}};
    const std::string text = attribute(t, key, s);
    double value = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    std::string rest = failure == std::errc() ? std::string(end, text.data() + text.size()) : "?";
    if (rest.ends_with(unit)) rest.resize(rest.size() - unit.size());
    const auto prefix = prefixes.find(rest);
    if (prefix == prefixes.end() || !std::isfinite(value) || value < 0)
        s.fail(key + " '" + text + "' of link '" + attribute(t, "id", s) + "' is not a positive number");
    return value * prefix->second;
}

// A route may name only what is there; both are listed in any order.
void check_routes(const Platform& p, const std::string& name) {
    std::set<std::string> hosts, links;
    for (const auto& h : p.hosts)
        if (!hosts.insert(h.id).second) throw Error("'" + name + "' names host '" + h.id + "' twice");
    for (const auto& l : p.links)
        if (!links.insert(l.id).second) throw Error("'" + name + "' names link '" + l.id + "' twice");
    for (const auto& r : p.routes) {
        for (const auto& end : {r.from, r.to})
            if (!hosts.contains(end))
                throw Error("'" + name + "' has a route from " + r.from + " to " + r.to + ", but no device " + end,
                            "compose or measure the machine again");
        for (const auto& l : r.links)
            if (!links.contains(l))
                throw Error("'" + name + "': the route from " + r.from + " to " + r.to + " uses link '" + l +
                                "', which is not there",
                            "compose or measure the machine again");
    }
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

Platform parse_platform(const std::string& text, const std::string& name) {
    Platform p;
    Scanner scanner(text, name);
    bool whole = false, in_host = false, in_route = false;
    while (const auto tag = scanner.next()) {
        if (tag->name == "host") {
            p.hosts.push_back({attribute(*tag, "id", scanner), {}});
            in_host = !tag->closed;
        } else if (tag->name == "/host") in_host = false;
        else if (tag->name == "prop" && in_host)
            p.hosts.back().properties[attribute(*tag, "id", scanner)] = attribute(*tag, "value", scanner);
        else if (tag->name == "link")
            p.links.push_back({attribute(*tag, "id", scanner), quantity(*tag, "bandwidth", "Bps", scanner),
                               quantity(*tag, "latency", "s", scanner)});
        else if (tag->name == "route") {
            p.routes.push_back({attribute(*tag, "src", scanner), attribute(*tag, "dst", scanner), {}});
            in_route = !tag->closed;
        } else if (tag->name == "/route") in_route = false;
        else if (tag->name == "link_ctn" && in_route) p.routes.back().links.push_back(attribute(*tag, "id", scanner));
        else if (tag->name == "/platform") whole = true;
    }
    if (!whole) scanner.fail("the file is cut off: no </platform>");
    check_routes(p, name);
    return p;
}

Platform read_platform(const std::filesystem::path& path) {
    const auto bytes = read_file(path, int64_t(64) << 20);
    return parse_platform({bytes.begin(), bytes.end()}, path.string());
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
