// Tables of aligned text, and numbers as people read them: 1.5 GiB, 1m 03s, 61.1M.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// Columns two spaces apart; a column whose cells are all numbers (units allowed) is right-aligned, its header too.
class Table {
 public:
    explicit Table(std::vector<std::string> headers, bool underline = true);
    void row(std::vector<std::string> cells);  // fewer cells than headers: the rest is empty. More: invalid_argument
    std::string text() const;

 private:
    std::vector<std::vector<std::string>> rows_;  // the first one holds the headers
    bool underline_;
};

// Long texts of a table's rows: a number in the table, the text below it, once.
class Notes {
 public:
    std::string number(const std::string& text);  // "" for no text
    std::string text() const;                     // an empty line, then all

 private:
    std::vector<std::string> texts_;
};

// `head`, then the text's words in lines that fit a terminal, all as far in as the first one.
std::string wrapped(std::string head, const std::string& text);

// Columns that UTF-8 text takes on a terminal, one per code point.
int64_t display_width(std::string_view text);

// `text` with spaces before or behind it up to `width` columns.
std::string pad_left(std::string_view text, int64_t width);
std::string pad_right(std::string_view text, int64_t width);

std::string fixed(double value, int decimals);  // as printf's %.*f and %.*e, but the same in every locale
std::string scientific(double value, int decimals);
std::string human_bytes(int64_t bytes);     // 512 B, 1.5 GiB: binary multiples
std::string human_seconds(double seconds);  // 12.0 us, 3.21 s, 42 s, 1m 03s, 2h 05m, 3d 04h; "-" if not finite
std::string human_power(double value);      // 10⁻⁴, 2.5·10⁹; value not 0
std::string human_count(double count);      // 999, 12.3k, 61.1M, 4.0G; "-" if not finite
std::string grouped(int64_t count);         // 12,345; count not negative
std::string counted(int64_t count, std::string_view what);  // 1 GPU, 2 GPUs

}  // namespace tessera
