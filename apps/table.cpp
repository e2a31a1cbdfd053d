// Widths count code points; numbers go through to_chars, which no locale changes.
#include "apps/table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>
#include <stdexcept>

namespace tessera {

// 12, -0.5, 1e-3, nan, 97.1 %, 1.5 GiB, 61.1M, 1m 03s, but not "3x3 conv" or "2.weight".
static bool is_number(std::string_view cell) {
    const std::string_view digits = "0123456789", letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz%/";
    const auto skip = [&](std::string_view any, size_t most = -1) {
        const size_t n = std::min({cell.find_first_not_of(any), cell.size(), most});
        cell.remove_prefix(n);
        return n > 0;
    };
    if (cell.empty() || cell == "-") return true;
    skip("+-", 1);
    if (cell == "nan" || cell == "inf") return true;
    if (!skip(digits)) return false;
    while (skip(".,", 1))
        if (!skip(digits)) return false;
    if (cell.starts_with("e+") || cell.starts_with("e-")) skip("e"), skip("+-", 1), skip(digits);
    skip(" ", 1);
    skip(letters);
    return cell.empty() || (skip(" ", 1) && skip(digits) && skip(letters, 1) && cell.empty());
}

Table::Table(std::vector<std::string> headers, bool underline) : rows_{std::move(headers)}, underline_(underline) {}

void Table::row(std::vector<std::string> cells) {
    if (cells.size() > rows_[0].size())
        throw std::invalid_argument("table: a row of " + std::to_string(cells.size()) + " cells under " +
                                    std::to_string(rows_[0].size()) + " headers");
    cells.resize(rows_[0].size());
    rows_.push_back(std::move(cells));
}

std::string Table::text() const {
    const size_t columns = rows_[0].size();
    std::vector<int64_t> width(columns);
    std::vector<bool> right(columns, rows_.size() > 1);
    for (size_t r = 0; r < rows_.size(); ++r)
        for (size_t c = 0; c < columns; ++c) {
            width[c] = std::max(width[c], display_width(rows_[r][c]));
            if (r > 0 && !is_number(rows_[r][c])) right[c] = false;
        }
    std::string all;
    const auto finish_line = [&] { all.erase(all.find_last_not_of(' ') + 1) += '\n'; };
    for (size_t r = 0; r < rows_.size(); ++r) {
        for (size_t c = 0; c < columns; ++c) {
            if (c > 0) all += "  ";
            all += right[c] ? pad_left(rows_[r][c], width[c]) : pad_right(rows_[r][c], width[c]);
        }
        finish_line();
        if (r > 0 || !underline_) continue;
        for (size_t c = 0; c < columns; ++c) all += (c > 0 ? "  " : "") + std::string(size_t(width[c]), '-');
        finish_line();
    }
    return all;
}

std::string Notes::number(const std::string& text) {
    if (text.empty()) return "";
    const auto at = std::find(texts_.begin(), texts_.end(), text);
    const auto index = at - texts_.begin();
    if (at == texts_.end()) texts_.push_back(text);
    return std::to_string(index + 1);
}

std::string Notes::text() const {
    std::string all = texts_.empty() ? "" : "\n";
    for (size_t i = 0; i < texts_.size(); ++i) all += wrapped(pad_left(std::to_string(i + 1), 3) + ":", texts_[i]);
    return all;
}

std::string wrapped(std::string head, const std::string& text) {
    constexpr int64_t width = 110;
    const std::string indent(size_t(display_width(head)), ' ');
    std::string all, word;
    for (std::istringstream words(text); words >> word; head += " " + word)
        if (display_width(head) + 1 + display_width(word) > width && head != indent) all += head + "\n", head = indent;
    return all + head + "\n";
}

int64_t display_width(std::string_view text) {
    return std::count_if(text.begin(), text.end(), [](char c) { return (uint8_t(c) & 0xc0) != 0x80; });
}

std::string pad_left(std::string_view text, int64_t width) {
    return std::string(size_t(std::max<int64_t>(0, width - display_width(text))), ' ').append(text);
}

std::string pad_right(std::string_view text, int64_t width) {
    return std::string(text).append(size_t(std::max<int64_t>(0, width - display_width(text))), ' ');
}

static std::string formatted(double value, int decimals, std::chars_format format) {
    char text[400];  // 309 digits, sign, point, decimals
    return {text, std::to_chars(text, text + sizeof text, value, format, std::min(decimals, 60)).ptr};
}

std::string fixed(double value, int decimals) { return formatted(value, decimals, std::chars_format::fixed); }

std::string scientific(double value, int decimals) { return formatted(value, decimals, std::chars_format::scientific); }

// Three digits and one of `units`, the next one from `base` on, also where rounding gets there: never "1000.0k".
static std::string scaled(double value, double base, std::initializer_list<const char*> units) {
    const char* const* unit = units.begin();
    while (unit + 1 < units.end() && std::abs(value) >= base - 0.5) value /= base, ++unit;
    return fixed(value, unit == units.begin() || std::abs(value) >= 99.95 ? 0 : 1) + *unit;
}

std::string human_bytes(int64_t bytes) {
    return scaled(double(bytes), 1024, {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"});
}

std::string human_count(double count) {
    return std::isfinite(count) ? scaled(count, 1000, {"", "k", "M", "G", "T", "P", "E"}) : "-";
}

std::string grouped(int64_t count) {
    std::string text = std::to_string(count);
    for (size_t i = text.size(); i > 3;) text.insert(i -= 3, ",");
    return text;
}

std::string counted(int64_t count, std::string_view what) {
    return std::to_string(count) + " " + std::string(what) + (count == 1 ? "" : "s");
}

std::string human_power(double value) {
    const std::string text = scientific(value, 1);  // -2.5e+09
    const size_t e = text.find('e');
    std::string mantissa = text.substr(0, text[e - 1] == '0' ? e - 2 : e);
    std::string out = mantissa == "1" ? "10" : mantissa + "·10";
    const char* const raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    for (char c : std::to_string(std::stoi(text.substr(e + 1)))) out += c == '-' ? "⁻" : raised[c - '0'];
    return out;
}

std::string human_seconds(double seconds) {
    if (!std::isfinite(seconds) || seconds > 1e12) return "-";
    if (seconds < 0) return "-" + human_seconds(-seconds);
    if (seconds == 0) return "0 us";
    for (const auto& [unit_s, unit] : {std::pair{1e-6, " us"}, {1e-3, " ms"}, {1.0, " s"}}) {
        const double value = seconds / unit_s;
        if (value >= (unit_s < 1 ? 999.5 : 9.995)) continue;
        return fixed(value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0) + unit;
    }
    const auto pair = [](int64_t big, const char* big_unit, int64_t small, const char* small_unit) {
        return std::to_string(big) + big_unit + (small < 10 ? " 0" : " ") + std::to_string(small) + small_unit;
    };
    const int64_t s = std::llround(seconds), minutes = std::llround(seconds / 60), hours = std::llround(seconds / 3600);
    if (s < 60) return std::to_string(s) + " s";
    if (s < 3600) return pair(s / 60, "m", s % 60, "s");
    if (minutes < 24 * 60) return pair(minutes / 60, "h", minutes % 60, "m");
    return pair(hours / 24, "d", hours % 24, "h");
}

}  // namespace tessera
