// What all SVG pictures are made of: colours that colour-blind readers can tell apart, coordinates, text.
#pragma once
#include <string>
#include <string_view>

namespace tessera {

// Okabe and Ito.
inline constexpr const char* svg_palette[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                              "#E69F00", "#56B4E9", "#000000"};
inline constexpr const char* svg_ink = "#333333";

std::string svg_open(double width, double height, double font);  // the first tag, and a white background
std::string svg_escaped(std::string_view text);
std::string svg_number(double v);  // a coordinate: one decimal, unless it is 0
std::string svg_at(double x, double y);
// A text element, or nothing for no text. `anchor`: start, middle or end; `more`: further attributes.
std::string svg_text(double x, double y, std::string_view anchor, std::string_view text, std::string_view more = {});
// About what the sans-serif faces of readers take; only for placing things.
double svg_text_width(std::string_view text, double font);

}  // namespace tessera
