// models/platform_file.cpp - reads SimGrid's platform files as strictly as SimGrid does, which ends the program on what
// it does not like: every mistake becomes one line here, before a simulation starts.
#include <expat.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "models/platform.h"

namespace tessera {
namespace {

const char* const mend = "the file is damaged; restore it, or compose or measure the machine again";

// What StarPU's files consist of, and where it may stand.
struct Element {
    const char* name;
    std::vector<std::string> parents, needed, allowed;  // attributes
};
const Element elements[] = {
    {"platform", {""}, {"version"}, {}},
    {"config", {"platform"}, {}, {"id"}},
    {"AS", {"platform"}, {"id", "routing"}, {}},
    {"zone", {"platform"}, {"id", "routing"}, {}},
    {"host", {"AS", "zone"}, {"id"}, {"speed", "power", "core", "pstate", "coordinates"}},
    {"prop", {"config", "AS", "zone", "host", "link"}, {"id", "value"}, {}},
    {"link", {"AS", "zone"}, {"id", "bandwidth"}, {"latency", "sharing_policy"}},
    {"route", {"AS", "zone"}, {"src", "dst"}, {"symmetrical"}},
    {"link_ctn", {"route"}, {"id"}, {"direction"}},
};

bool has(const std::vector<std::string>& words, const std::string& word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

using Attributes = std::map<std::string, std::string>;

class Reader {
 public:
    Reader(const std::string& text, const std::string& name) : text_(text), name_(name) {}

    Platform read() {
        const std::unique_ptr<XML_ParserStruct, void (*)(XML_Parser)> parser(XML_ParserCreate(nullptr), XML_ParserFree);
        if (!parser) throw std::bad_alloc();
        parser_ = parser.get();
        XML_SetUserData(parser_, this);
        XML_SetElementHandler(parser_, start, end);
        if (text_.size() > INT32_MAX) throw Error("'" + name_ + "' is too large", mend);
        const bool parsed = XML_Parse(parser_, text_.data(), int(text_.size()), XML_TRUE) == XML_STATUS_OK;
        if (!wrong_.empty()) fail(line_, wrong_);
        if (!parsed) fail(line(), reason(XML_GetErrorCode(parser_)));
        check();
        return std::move(platform_);
    }

 private:
    [[noreturn]] void fail(int64_t line, const std::string& what) const {
        throw Error("'" + name_ + "', line " + std::to_string(line) + ": " + what, mend);
    }
    int64_t line() const { return int64_t(XML_GetCurrentLineNumber(parser_)); }

    static std::string reason(XML_Error code) {
        switch (code) {
            case XML_ERROR_NO_ELEMENTS:
            case XML_ERROR_UNCLOSED_TOKEN:
            case XML_ERROR_UNCLOSED_CDATA_SECTION:
            case XML_ERROR_PARTIAL_CHAR:
                return "the file is cut off";
            default:
                return std::string("no XML: ") + XML_ErrorString(code);
        }
    }

    // Expat is C: no exception may pass through it.
    static void start(void* self, const char* name, const char** attributes) {
        Reader& r = *static_cast<Reader*>(self);
        if (!r.wrong_.empty()) return;
        try {
            Attributes all;
            for (; *attributes; attributes += 2) all[attributes[0]] = attributes[1];
            r.wrong_ = r.opened(name, all);
        } catch (const std::exception& e) { r.wrong_ = e.what(); }
        if (r.wrong_.empty()) return;
        r.line_ = r.line();
        XML_StopParser(r.parser_, XML_FALSE);
    }
    static void end(void* self, const char*) {
        Reader& r = *static_cast<Reader*>(self);
        if (r.wrong_.empty()) r.inside_.pop_back();
    }

    // What is wrong with an element, or an empty text.
    std::string opened(const std::string& name, const Attributes& a) {
        const std::string parent = inside_.empty() ? "" : inside_.back();
        const auto of = std::find_if(std::begin(elements), std::end(elements), [&](auto& e) { return e.name == name; });
        if (of == std::end(elements)) return "a platform has no element <" + name + ">";
        if (!has(of->parents, parent))
            return "<" + name + "> " +
                   (parent.empty() ? "is not what a platform starts with" : "inside <" + parent + ">");
        for (const std::string& key : of->needed)
            if (!a.contains(key) || a.at(key).empty()) return "<" + name + "> without '" + key + "'";
        for (const auto& [key, value] : a)
            if (!has(of->needed, key) && !has(of->allowed, key)) return "<" + name + "> has no attribute '" + key + "'";
        inside_.push_back(name);
        if (name == "platform") return version(a.at("version"));
        if (name == "AS" || name == "zone") return zone(a);
        if (name == "host") return host(a);
        if (name == "link") return link(a);
        if (name == "route") return route(a);
        if (name == "link_ctn") platform_.routes.back().links.push_back(a.at("id"));
        if (name == "prop" && parent == "config") return setting(a.at("id"), a.at("value"));
        if (name == "prop" && parent == "host") platform_.hosts.back().properties[a.at("id")] = a.at("value");
        return "";
    }

    std::string version(const std::string& text) {
        if (text != "3" && text != "4" && text != "4.0" && text != "4.1")
            return "a platform of version '" + text + "', not 4 or 4.1";
        platform_.version = text[0] - '0';
        return "";
    }

    // Those that StarPU writes; older SimGrids had names with _.
    static std::string setting(std::string name, const std::string& value) {
        std::replace(name.begin(), name.end(), '_', '-');
        const std::vector<std::string> known = {"network/TCP-gamma", "network/latency-factor",
                                                "network/bandwidth-factor", "network/weight-S", "network/crosstraffic"};
        if (!has(known, name)) return "StarPU's platforms have no setting '" + name + "'";
        double number = 0;
        const auto [stop, failure] = std::from_chars(value.data(), value.data() + value.size(), number);
        const bool whole = failure == std::errc() && stop == value.data() + value.size() && std::isfinite(number);
        return whole ? "" : "setting '" + name + "' is '" + value + "', not a number";
    }

    std::string zone(const Attributes& a) {
        if (zones_++ > 0) return "a second <" + inside_.back() + ">; StarPU's platforms have one";
        return a.at("routing") == "Full" ? "" : "routing '" + a.at("routing") + "', not 'Full' as StarPU's platforms";
    }

    std::string host(const Attributes& a) {
        const char* const speed = platform_.version == 3 ? "power" : "speed";
        if (!a.contains(speed)) return "<host> without '" + std::string(speed) + "'";
        double flops = 0;
        if (!quantity(a.at(speed), "f", flops) || flops <= 0)
            return not_positive(a.at(speed), speed, "host", a.at("id"), "2000000000f");
        platform_.hosts.push_back({a.at("id"), {}});
        return hosts_.insert(a.at("id")).second ? "" : "host '" + a.at("id") + "' is there twice";
    }

    std::string link(const Attributes& a) {
        PlatformLink l{a.at("id"), 0, 0};
        const auto latency = a.find("latency");
        if (!quantity(a.at("bandwidth"), "Bps", l.bytes_per_s))
            return not_positive(a.at("bandwidth"), "bandwidth", "link", l.id, "12.5GBps");
        if (latency != a.end() && !quantity(latency->second, "s", l.latency_s))
            return not_positive(latency->second, "latency", "link", l.id, "0.000010s");
        platform_.links.push_back(l);
        return links_.try_emplace(l.id, line()).second ? "" : "link '" + l.id + "' is there twice";
    }

    std::string route(const Attributes& a) {
        const auto symmetrical = a.find("symmetrical");
        const bool both = symmetrical == a.end() || symmetrical->second == "YES";  // SimGrid's default
        if (!both && symmetrical->second != "NO") return "symmetrical '" + symmetrical->second + "', not YES or NO";
        platform_.routes.push_back({a.at("src"), a.at("dst"), {}});
        lines_.push_back(line());
        if (both) symmetrical_.insert(platform_.routes.size() - 1);
        return "";
    }

    std::string not_positive(const std::string& text, const std::string& key, const char* what, const std::string& id,
                             const char* example) const {
        return key + " '" + text + "' of " + what + " '" + id + "' is not a positive number" +
               (platform_.version == 3 ? "" : std::string(" with a unit, as in ") + example);
    }

    // "6517450307.9Bps", "12.5GBps", "0.000010s", "10us"; in version 3 a bare number.
    bool quantity(const std::string& text, const std::string& unit, double& value) const {
        static const std::map<std::string, double> prefixes = {{"", 1},     {"k", 1e3},  {"M", 1e6},  {"G", 1e9},
                                                               {"T", 1e12}, {"m", 1e-3}, {"u", 1e-6}, {"n", 1e-9}};
        const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (failure != std::errc() || !std::isfinite(value) || value < 0) return false;
        std::string rest(stop, text.data() + text.size());
        if (rest.ends_with(unit)) rest.resize(rest.size() - unit.size());
        else if (platform_.version != 3) return false;
        const auto prefix = prefixes.find(rest);
        if (prefix == prefixes.end()) return false;
        value *= prefix->second;
        return true;
    }

    // Of routes, when all is known that they may name. SimGrid wants a link to stand above its first use.
    void check() {
        std::set<std::pair<std::string, std::string>> known;
        const size_t written = platform_.routes.size();
        for (size_t i = 0; i < written; ++i) {
            const PlatformRoute r = platform_.routes[i];
            const std::string from_to = "the route from " + r.from + " to " + r.to;
            for (const auto& host : {r.from, r.to})
                if (!hosts_.contains(host)) fail(lines_[i], from_to + ": there is no device " + host);
            if (r.links.empty()) fail(lines_[i], from_to + " has no link");
            for (const auto& id : r.links) {
                const auto at = links_.find(id);
                if (at == links_.end()) fail(lines_[i], from_to + " uses link '" + id + "', which is not there");
                if (!(platform_.link(id)->bytes_per_s > 0))  // StarPU writes some that nothing uses
                    fail(at->second, "bandwidth 0 of link '" + id + "', which " + from_to + " uses, is not positive");
                if (at->second > lines_[i])
                    fail(lines_[i], from_to + " uses link '" + id + "', which stands below it, in line " +
                                        std::to_string(at->second));
            }
            if (!known.emplace(r.from, r.to).second) fail(lines_[i], from_to + " is there twice");
            if (!symmetrical_.contains(i)) continue;
            if (!known.emplace(r.to, r.from).second)
                fail(lines_[i], from_to + " is one for both directions, and the other is there already");
            platform_.routes.push_back({r.to, r.from, {r.links.rbegin(), r.links.rend()}});
        }
    }

    const std::string& text_;
    const std::string& name_;
    XML_Parser parser_ = nullptr;
    Platform platform_;
    std::vector<std::string> inside_;
    std::string wrong_;
    int64_t line_ = 0;  // where that is
    int zones_ = 0;
    std::set<std::string> hosts_;
    std::map<std::string, int64_t> links_;  // the lines that they stand in
    std::vector<int64_t> lines_;            // of routes
    std::set<size_t> symmetrical_;          // routes
};

}  // namespace

Platform parse_platform(const std::string& text, const std::string& name) { return Reader(text, name).read(); }

Platform read_platform(const std::filesystem::path& path) {
    const auto bytes = read_file(path, int64_t(64) << 20);
    return parse_platform({bytes.begin(), bytes.end()}, path.string());
}

}  // namespace tessera
