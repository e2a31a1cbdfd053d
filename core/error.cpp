#include "core/error.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

namespace tessera {

void check_system(bool ok, const std::string& what, const std::string& hint) {
    if (!ok) throw Error(what + ": " + std::strerror(errno), hint);
}

void check_starpu(int code, std::string_view call, const std::string& hint) {
    if (code == 0) return;
    std::string reason = code == -ENODEV ? "no worker can run it" : std::strerror(code < 0 ? -code : code);
    throw Error(std::string(call) + " failed: " + reason, hint);
}

static size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<size_t> row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            const size_t up = row[j];
            row[j] = std::min({up + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
            diagonal = up;
        }
    }
    return row[b.size()];
}

std::string suggestion(std::string_view word, const std::vector<std::string>& known) {
    const std::string* best = nullptr;
    size_t least = word.size() < 6 ? 3 : 4;  // of a short word three edits leave little
    for (const auto& k : known)
        if (size_t d = edit_distance(word, k); d < least && d < k.size()) least = d, best = &k;
    return best ? "did you mean '" + *best + "'?" : "";
}

std::string suggestion_or_list(std::string_view word, const std::vector<std::string>& known) {
    const std::string close = suggestion(word, known);
    return close.empty() ? "known: " + join(known, ", ") : close;
}

std::string in_quotes(std::string_view text, size_t limit) {
    std::string shown(text.substr(0, limit));
    for (char& c : shown)
        if (uint8_t(c) < 0x20 || c == 0x7f) c = '?';
    return "'" + shown + (text.size() > limit ? "...'" : "'");
}

std::string join(const std::vector<std::string>& words, std::string_view separator) {
    std::string all;
    for (const auto& w : words) all += (all.empty() ? "" : std::string(separator)) + w;
    return all;
}

}  // namespace tessera
