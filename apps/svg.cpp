#include "apps/svg.h"

#include <cstdint>

#include "apps/table.h"

namespace tessera {

std::string svg_open(double width, double height, double font) {
    return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + svg_number(width) + "\" height=\"" +
           svg_number(height) + "\" viewBox=\"0 0 " + svg_at(width, height) + "\" fill=\"" + svg_ink +
           "\" font-size=\"" + svg_number(font) + "\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n" +
           "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
}

std::string svg_escaped(std::string_view text) {
    const char* const entities[] = {"&amp;", "&lt;", "&gt;", "&quot;"};
    std::string out;
    for (char c : text)
        if (const size_t i = std::string_view("&<>\"").find(c); i < 4) out += entities[i];
        else out += uint8_t(c) < 0x20 ? ' ' : c;  // control characters are no XML, even escaped
    return out;
}

std::string svg_number(double v) {
    std::string text = fixed(v, 1);
    if (text.ends_with(".0")) text.resize(text.size() - 2);
    return text == "-0" ? "0" : text;
}

std::string svg_at(double x, double y) { return svg_number(x) + " " + svg_number(y); }

std::string svg_text(double x, double y, std::string_view anchor, std::string_view text, std::string_view more) {
    if (text.empty()) return "";
    std::string out = "<text x=\"" + svg_number(x) + "\" y=\"" + svg_number(y) + "\" text-anchor=\"";
    return out.append(anchor).append("\"").append(more).append(">") + svg_escaped(text) + "</text>\n";
}

double svg_text_width(std::string_view text, double font) { return 0.56 * font * double(display_width(text)); }

}  // namespace tessera
