// data/digits.cpp - pen strokes to pixels. Lengths are in 1/256 pixel, factors in 1/1024; x right, y down.
// point = centre + matrix * (glyph point + jitter) + wobble(point), wobble bilinear between random knots.
#include "data/digits.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "core/random.h"

namespace tessera {
namespace {

constexpr int64_t side = 28, pixel = 256, one = 1024, classes = 10;

// How strongly samples differ; the largest deviation of each.
constexpr int64_t jitter = 220, turn = 300, slant = 300, stretch = 220, shift = 740, wobble = 320, noise = 14;

struct Point {
    int64_t x, y;
    bool operator==(const Point&) const = default;
};
using Stroke = std::vector<Point>;  // the pen passes through the points; a point given twice is a corner
using Glyph = std::vector<Stroke>;  // in a box of 100 x 100

const std::vector<Glyph> glyphs[classes] = {
    {{{{50, 5}, {26, 20}, {18, 50}, {26, 82}, {50, 95}, {75, 82}, {82, 50}, {75, 20}, {50, 5}}},
     {{{62, 9}, {38, 12}, {24, 48}, {34, 90}, {58, 92}, {75, 60}, {72, 26}, {52, 6}}}},
    {{{{52, 5}, {50, 50}, {49, 95}}},
     {{{30, 26}, {53, 6}, {53, 6}, {53, 95}}},
     {{{34, 24}, {52, 6}, {52, 6}, {51, 94}}, {{30, 94}, {74, 94}}}},
    {{{{20, 28}, {33, 9}, {62, 7}, {77, 27}, {64, 54}, {18, 94}, {18, 94}, {82, 93}}},
     {{{22, 24}, {46, 5}, {73, 20}, {65, 50}, {38, 84}, {22, 91}, {21, 78}, {38, 77}, {60, 90}, {84, 89}}}},
    {{{{22, 15}, {50, 5}, {74, 20}, {66, 41}, {44, 48}, {44, 48}, {72, 55}, {80, 75}, {60, 94}, {22, 88}}},
     {{{22, 8}, {76, 8}, {76, 8}, {46, 43}, {46, 43}, {74, 52}, {78, 78}, {54, 95}, {20, 85}}}},
    {{{{60, 5}, {16, 62}, {16, 62}, {86, 62}}, {{64, 38}, {62, 96}}},
     {{{30, 6}, {22, 54}, {22, 54}, {82, 52}}, {{74, 8}, {70, 96}}},
     {{{68, 96}, {68, 5}, {68, 5}, {18, 66}, {18, 66}, {86, 66}}}},
    {{{{76, 7}, {32, 8}, {32, 8}, {26, 45}, {26, 45}, {54, 38}, {78, 60}, {70, 86}, {46, 95}, {18, 84}}},
     {{{34, 9}, {29, 46}, {29, 46}, {57, 41}, {76, 64}, {60, 92}, {20, 88}}, {{34, 9}, {82, 8}}}},
    {{{{68, 6}, {36, 28}, {22, 62}, {34, 92}, {62, 94}, {76, 74}, {62, 55}, {36, 60}, {25, 74}}},
     {{{46, 4}, {27, 48}, {24, 80}, {46, 96}, {72, 85}, {70, 62}, {48, 55}, {27, 72}}}},
    {{{{18, 10}, {80, 9}, {80, 9}, {54, 52}, {42, 96}}},
     {{{18, 10}, {80, 9}, {80, 9}, {57, 50}, {44, 96}}, {{34, 52}, {74, 50}}},
     {{{19, 24}, {20, 9}, {20, 9}, {82, 8}, {82, 8}, {62, 46}, {54, 96}}}},
    {{{{70, 18}, {46, 5}, {27, 22}, {44, 44}, {70, 62}, {71, 86}, {48, 96}, {25, 82}, {33, 60}, {60, 42}, {72, 18}}},
     {{{50, 5}, {29, 24}, {50, 46}, {71, 24}, {50, 5}}, {{50, 46}, {23, 70}, {50, 96}, {77, 70}, {50, 46}}}},
    {{{{74, 26}, {52, 6}, {26, 22}, {32, 47}, {58, 49}, {74, 26}, {74, 26}, {71, 62}, {64, 96}}},
     {{{73, 16}, {46, 6}, {25, 28}, {44, 52}, {70, 36}, {74, 14}, {74, 14}, {74, 70}, {54, 95}, {25, 88}}}}};

// The random draws of one sample.
class Dice {
 public:
    Dice(uint64_t seed, int64_t sample) : seed_(seed), sample_(uint64_t(sample)) {}
    uint64_t bits() { return random_bits(seed_, sample_, drawn_++); }
    int64_t between(int64_t low, int64_t high) {
        return low + int64_t((bits() >> 32) * uint64_t(high - low + 1) >> 32);
    }
    int64_t bell(int64_t most) { return (between(-most, most) + between(-most, most)) / 2; }  // triangular
    bool chance(int64_t percent) { return between(0, 99) < percent; }

 private:
    uint64_t seed_, sample_, drawn_ = 0;
};

// A smooth displacement of the plane, random at 5 x 5 knots 8 pixels apart.
class Wobble {
 public:
    explicit Wobble(Dice& dice) {
        for (auto& row : knots_)
            for (auto& knot : row) knot = {dice.bell(wobble), dice.bell(wobble)};
    }
    Point operator()(Point p) const {
        constexpr int64_t apart = 8 * pixel;
        const int64_t x = std::clamp<int64_t>(p.x, 0, 4 * apart - 1), y = std::clamp<int64_t>(p.y, 0, 4 * apart - 1);
        const auto *a = &knots_[y / apart][x / apart], *b = &knots_[y / apart + 1][x / apart];
        const auto mix = [&](auto part) {
            const int64_t fx = x % apart, fy = y % apart;
            const int64_t top = part(a[0]) * (apart - fx) + part(a[1]) * fx;
            const int64_t bottom = part(b[0]) * (apart - fx) + part(b[1]) * fx;
            return (top * (apart - fy) + bottom * fy) / (apart * apart);
        };
        return {p.x + mix([](Point k) { return k.x; }), p.y + mix([](Point k) { return k.y; })};
    }

 private:
    Point knots_[5][5];
};

using Ink = std::array<uint8_t, side * side>;

// A round pen: 255 inside, falling to 0 across an edge of about `edge` around `radius`.
struct Pen {
    int64_t radius, edge, strength;  // strength 0..255

    void dab(Ink& ink, Point p) const {
        const int64_t reach = radius + edge, slope = (255 << 15) / (radius * edge);
        const auto first = [&](int64_t c) { return std::max<int64_t>((c - reach) / pixel, 0); };
        const auto last = [&](int64_t c) { return std::min((c + reach) / pixel, side - 1); };
        for (int64_t y = first(p.y); y <= last(p.y); ++y)
            for (int64_t x = first(p.x); x <= last(p.x); ++x) {
                const int64_t dx = x * pixel + pixel / 2 - p.x, dy = y * pixel + pixel / 2 - p.y;
                const int64_t inside = radius * radius - dx * dx - dy * dy;
                const int64_t value = std::clamp<int64_t>(127 + inside * slope / 65536, 0, 255) * strength / 255;
                ink[size_t(y * side + x)] = std::max(ink[size_t(y * side + x)], uint8_t(value));
            }
    }

    // Catmull-Rom spline through the points, each step displaced by `bend`.
    void draw(Ink& ink, const Stroke& points, const Wobble& bend) const {
        constexpr int64_t steps = 32;
        const auto last = int64_t(points.size()) - 1;
        for (int64_t i = 0; i < last; ++i) {
            const Point a = points[size_t(std::max<int64_t>(i - 1, 0))], b = points[size_t(i)];
            const Point c = points[size_t(i + 1)], d = points[size_t(std::min(i + 2, last))];
            if (b == c) continue;
            for (int64_t t = 0; t <= steps; ++t) {
                const auto at = [t](int64_t a, int64_t b, int64_t c, int64_t d) {
                    const int64_t cubic = (3 * (b - c) + d - a) * t, square = (2 * a - 5 * b + 4 * c - d) * steps;
                    return b + (((cubic + square) * t + (c - a) * steps * steps) * t) / (2 * steps * steps * steps);
                };
                dab(ink, bend({at(a.x, b.x, c.x, d.x), at(a.y, b.y, c.y, d.y)}));
            }
        }
    }
};

Stroke place(const Stroke& stroke, const std::array<int64_t, 4>& matrix, Point centre, Dice& dice) {
    constexpr int64_t box = 20 * pixel;  // of a glyph, before distortion
    Stroke placed;
    for (size_t i = 0; i < stroke.size(); ++i) {
        if (i > 0 && stroke[i] == stroke[i - 1]) {
            placed.push_back(placed.back());  // a corner stays one
            continue;
        }
        const int64_t x = (stroke[i].x - 50) * box / 100 + dice.bell(jitter);
        const int64_t y = (stroke[i].y - 50) * box / 100 + dice.bell(jitter);
        placed.push_back(
            {centre.x + (matrix[0] * x + matrix[1] * y) / one, centre.y + (matrix[2] * x + matrix[3] * y) / one});
    }
    return placed;
}

void draw_digit(int64_t digit, Dice dice, uint8_t* pixels) {
    const auto& variants = glyphs[digit];
    const Glyph& glyph = variants[size_t(dice.between(0, int64_t(variants.size()) - 1))];
    const int64_t size = one - stretch / 3 + dice.bell(stretch), angle = dice.bell(turn);
    const std::array<int64_t, 4> matrix = {size + dice.bell(stretch), dice.bell(slant) - angle, angle,
                                           size + dice.bell(stretch / 2)};
    const Point centre{side * pixel / 2 + dice.bell(shift), side * pixel / 2 + dice.bell(shift)};
    const Wobble bend(dice);

    Ink ink{};
    const Pen pen{dice.between(220, 460), dice.between(160, 400), 255};
    for (const Stroke& stroke : glyph) pen.draw(ink, place(stroke, matrix, centre, dice), bend);
    for (int64_t stray = dice.between(0, 2); stray > 0; --stray) {
        const Point from{dice.between(0, side * pixel), dice.between(0, side * pixel)};
        const Point to{from.x + dice.bell(6 * pixel), from.y + dice.bell(6 * pixel)};
        Pen{dice.between(150, 260), 200, dice.between(60, 200)}.draw(ink, {from, to}, bend);
    }

    const int64_t paper = dice.between(0, 40), contrast = dice.between(130, 215);
    for (size_t p = 0; p < ink.size(); ++p)
        pixels[p] = uint8_t(std::clamp<int64_t>(paper + contrast * ink[p] / 255 + dice.bell(noise), 0, 255));
}

}  // namespace

Dataset make_digits(int64_t count, uint64_t seed, int64_t first) {
    if (count < 0 || first < 0)
        throw Error("digits: " + std::to_string(count) + " samples from number " + std::to_string(first));
    Dataset set;
    set.name = "digits";
    set.count = count, set.height = set.width = side, set.classes = classes;
    set.mean = {0}, set.scale = {1};
    set.bytes.resize(size_t(count * side * side));
    for (int64_t i = first; i < first + count; ++i) {
        std::array<int32_t, classes> order{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};  // of this ten; a stream beside the samples'
        Dice dice(~seed, i / classes);
        for (int64_t k = classes - 1; k > 0; --k) std::swap(order[size_t(k)], order[size_t(dice.between(0, k))]);
        set.labels.push_back(order[size_t(i % classes)]);
        draw_digit(set.labels.back(), Dice(seed, i), &set.bytes[size_t((i - first) * side * side)]);
    }
    return set;
}

}  // namespace tessera
