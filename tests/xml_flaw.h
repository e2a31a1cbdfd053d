// Looks at generated XML: counts parts of it, and finds what makes it unreadable.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

inline int64_t count(const std::string& text, const std::string& part) {
    int64_t n = 0;
    for (size_t i = text.find(part); i != std::string::npos; i = text.find(part, i + 1)) ++n;
    return n;
}

// "" if tags balance, attributes are quoted, text is escaped and no number is nan or inf; else what is wrong.
inline std::string flaw(const std::string& xml) {
    std::vector<std::string> open;
    size_t i = 0;
    while (i < xml.size()) {
        if (xml[i] == '>') return "stray >";
        if (xml[i] == '&') {
            const std::string entity = xml.substr(i, xml.find(';', i) - i);
            if (entity != "&amp" && entity != "&lt" && entity != "&gt" && entity != "&quot") return "entity " + entity;
        }
        if (uint8_t(xml[i]) < 0x20 && xml[i] != '\n') return "control character";
        if (xml[i] != '<') {
            ++i;
            continue;
        }
        const size_t end = xml.find('>', i);
        if (end == std::string::npos) return "unclosed tag";
        const std::string tag = xml.substr(i + 1, end - i - 1);
        if (tag.find('<') != std::string::npos || count(tag, "\"") % 2) return "tag " + tag;
        if (count(tag, "nan") || count(tag, "inf")) return "number in " + tag;
        const std::string name = tag.substr(0, tag.find(' '));
        if (name[0] == '/') {
            if (open.empty() || "/" + open.back() != name) return "unbalanced " + name;
            open.pop_back();
        } else if (tag.back() != '/') {
            open.push_back(name);
        }
        i = end + 1;
    }
    return open.empty() ? "" : "not closed: " + open.back();
}

}  // namespace tessera
