// One pass: axes from the data, margins from the axes' texts, then grid, labels, lines.
#include "apps/plot.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "apps/svg.h"
#include "apps/table.h"

namespace tessera {
namespace {

constexpr double width = 820, height = 480, font = 13;

bool plottable(double v) { return std::abs(v) <= 1e300; }  // finite, and differences stay so

int exponent_of(double v) { return int(std::floor(std::log10(std::abs(v)) + 1e-9)); }

// One style for all ticks of an axis: plain digits, k, M, or powers of ten.
std::vector<std::string> tick_texts(const std::vector<double>& ticks, bool logarithmic) {
    double largest = 0;
    for (double t : ticks) largest = std::max(largest, std::abs(t));
    const double unit = largest >= 1e6 ? 1e6 : largest >= 1e4 ? 1e3 : 1;
    const int decimals = std::max(0, exponent_of(unit) - exponent_of(ticks[1] - ticks[0]));
    const bool powers = logarithmic ? ticks[0] < 0.99e-4 || largest > 1.01e4 : largest >= 1e9 || largest < 1e-4;
    std::vector<std::string> texts;
    for (double t : ticks) {
        if (t == 0) texts.push_back("0");
        else if (powers) texts.push_back(human_power(t));
        else if (logarithmic) texts.push_back(fixed(t, std::max(0, -exponent_of(t))));
        else texts.push_back(fixed(t / unit, decimals) + (unit == 1e6 ? "M" : unit == 1e3 ? "k" : ""));
        if (texts.back()[0] == '-') texts.back().replace(0, 1, "−");
    }
    return texts;
}

void widen(double& low, double& high) {  // one value gets some room on both sides
    if (high - low >= std::max(1e-9 * std::max(std::abs(low), std::abs(high)), 1e-250)) return;
    const double room = low == 0 ? 1 : std::abs(low) * 0.1 + 1e-250;
    low -= room, high += room;
}

struct Axis {
    bool used = false, logarithmic = false;
    double low = INFINITY, high = -INFINITY;
    double from = 0, to = 1;  // pixels
    std::vector<double> ticks;
    std::vector<std::string> texts;

    bool accepts(double v) const { return plottable(v) && (!logarithmic || v >= 1e-300); }
    void include(double v) {
        if (accepts(v)) low = std::min(low, v), high = std::max(high, v);
    }
    // Chooses ticks; the range grows to zero if that is near, and to whole ticks if wanted.
    void settle(int count, double near_zero, bool whole_ticks) {
        if (!(low <= high)) low = logarithmic ? 0.1 : 0, high = 1;
        if (!logarithmic && low > 0 && low < near_zero * high) low = 0;
        if (!logarithmic) widen(low, high);
        ticks = logarithmic ? log_ticks(low, high) : nice_ticks(low, high, count);
        const double slack = 1e-9 * (high - low);
        if (whole_ticks) low = ticks.front(), high = ticks.back();
        else std::erase_if(ticks, [&](double t) { return t < low - slack || t > high + slack; });
        texts = tick_texts(ticks, logarithmic);
    }
    double at(double v) const {
        const auto scale = [this](double u) { return logarithmic ? std::log(u) : u; };
        return from + (to - from) * (scale(v) - scale(low)) / (scale(high) - scale(low));
    }
};

// Appends a line through points in pixels. Many in one pixel column become the first, lowest, highest and last of them:
// the picture stays, the file shrinks.
void append_run(std::string& path, const std::vector<std::pair<double, double>>& run) {
    for (size_t i = 0, end; i < run.size(); i = end) {
        size_t least = i, most = i;
        for (end = i; end < run.size() && std::floor(run[end].first) == std::floor(run[i].first); ++end) {
            if (run[end].second < run[least].second) least = end;
            if (run[end].second > run[most].second) most = end;
        }
        size_t kept[] = {i, std::min(least, most), std::max(least, most), end - 1};
        const size_t* const kept_end = std::unique(kept, kept + 4);
        for (const size_t* k = kept; k < kept_end; ++k)
            path += (*k == 0 ? "M" : "L") + svg_at(run[*k].first, run[*k].second);
    }
    if (run.size() == 1) path += "h0";  // with round caps, a dot
}

std::string drawn(const Series& s, const std::string& color, const Axis& x, const Axis& y) {
    std::string path, dots;
    std::vector<std::pair<double, double>> run;
    for (size_t i = 0; i <= s.x.size(); ++i) {
        const bool gap = i == s.x.size() || !x.accepts(s.x[i]) || !y.accepts(s.y[i]);
        if (gap) append_run(path, run), run.clear();
        else run.push_back({x.at(s.x[i]), y.at(s.y[i])});
        const bool marked = s.marks == Series::few_marked ? !s.faint && s.x.size() <= 40 : s.marks != Series::unmarked;
        if (gap || !marked) continue;
        const auto& [cx, cy] = run.back();
        dots += "<circle cx=\"" + svg_number(cx) + "\" cy=\"" + svg_number(cy) + "\" r=\"2.8\"/>\n";
    }
    if (path.empty()) return "";
    const std::string marks =
        dots.empty() ? "" : "<g fill=\"" + color + (s.faint ? "\" fill-opacity=\"0.5" : "") + "\">\n" + dots + "</g>\n";
    if (s.marks == Series::only_marks) return marks;
    return "<path d=\"" + path + "\" fill=\"none\" stroke=\"" + color + "\" stroke-width=\"" +
           (s.faint ? "0.8\" stroke-opacity=\"0.35" : "2") +
           "\" stroke-linejoin=\"round\" stroke-linecap=\"round\"/>\n" + marks;
}

class Drawing {
 public:
    explicit Drawing(const Chart& chart);
    std::string text() {
        place(), grid(), labels();
        for (bool faint : {true, false})  // the light lines behind
            for (size_t i = 0; i < chart_.series.size(); ++i)
                if (const Series& s = chart_.series[i]; s.faint == faint)
                    out_ += drawn(s, colors_[i], x_, s.right_axis ? right_ : left_);
        return out_ + "</svg>\n";
    }

 private:
    void place(), grid(), labels();
    double legend(double y);
    std::string axis_color(bool right) const;

    const Chart& chart_;
    Axis x_, left_, right_;
    std::vector<std::string> colors_;  // of each series
    double top_ = 18, bottom_ = height - 60;
    std::string out_;
};

Drawing::Drawing(const Chart& chart) : chart_(chart) {
    x_.logarithmic = chart.log_x;
    left_.logarithmic = chart.log_y;
    int next = 0;
    for (const Series& s : chart.series) {
        if (s.x.size() != s.y.size())
            throw std::invalid_argument("plot: series '" + s.name + "' has " + std::to_string(s.x.size()) + " x but " +
                                        std::to_string(s.y.size()) + " y");
        Axis& y = s.right_axis ? right_ : left_;
        y.used = true;
        for (size_t i = 0; i < s.x.size(); ++i)
            if (x_.accepts(s.x[i]) && y.accepts(s.y[i])) x_.include(s.x[i]), y.include(s.y[i]);
        colors_.push_back(svg_palette[size_t(s.color >= 0 ? s.color : next++) % std::size(svg_palette)]);
    }
    left_.used |= !right_.used;
    if (chart.right_range) right_.include(chart.right_range->first), right_.include(chart.right_range->second);
}

// Margins from what stands in them; title and legend stand above the plot, so that they never hide data.
void Drawing::place() {
    const bool empty = !(x_.low <= x_.high);
    x_.settle(8, 0.1, chart_.log_x);  // a logarithmic axis always has two whole ticks
    for (Axis* axis : {&left_, &right_}) axis->settle(6, 0.3, true);
    const auto margin = [](const Axis& axis, const std::string& label) {
        double widest = 0;
        for (const auto& text : axis.texts) widest = std::max(widest, svg_text_width(text, font));
        return axis.used ? 26 + widest + (label.empty() ? 0 : 22) : 28;
    };
    x_.from = margin(left_, chart_.y_label);
    x_.to = width - margin(right_, chart_.right_label);
    out_ = svg_open(width, height, font);
    if (!chart_.title.empty()) {
        out_ += svg_text(x_.from, top_ + 12, "start", chart_.title, " font-size=\"16\" font-weight=\"bold\"");
        top_ += 34;
    }
    top_ = legend(top_ + 2);
    if (chart_.x_label.empty()) bottom_ += 22;
    for (Axis* axis : {&left_, &right_}) axis->from = bottom_, axis->to = top_;
    if (empty) out_ += svg_text((x_.from + x_.to) / 2, (top_ + bottom_) / 2, "middle", "no data");
}

// In as many rows as it needs, from `y` on; returns where the plot may begin.
double Drawing::legend(double y) {
    double x = x_.from, next = y;
    for (size_t i = 0; i < chart_.series.size(); ++i) {
        const Series& s = chart_.series[i];
        if (s.name.empty()) continue;
        const std::string name = s.name + (left_.used && s.right_axis ? " (right)" : "");
        const double size = 29 + svg_text_width(name, font) * 12 / font;
        if (x > x_.from && x + size > x_.to) x = x_.from, y = next;
        out_ += "<path d=\"M" + svg_at(x, y) + "h22\" stroke=\"" + colors_[i] + "\" stroke-width=\"" +
                (s.faint ? "1.2\" stroke-opacity=\"0.5\"/>\n" : "2.5\" stroke-linecap=\"round\"/>\n") +
                svg_text(x + 29, y + 4, "start", name, " font-size=\"12\"");
        x += size + 14;
        next = y + 19;
    }
    return next;
}

void Drawing::grid() {
    const Axis& ruled = left_.used ? left_ : right_;
    std::string rules, frame = "M" + svg_at(x_.from, bottom_) + "H" + svg_number(x_.to);
    for (double t : ruled.ticks) rules += "M" + svg_at(x_.from, ruled.at(t)) + "H" + svg_number(x_.to);
    for (double t : x_.ticks) rules += "M" + svg_at(x_.at(t), top_) + "V" + svg_number(bottom_);
    for (double t : x_.ticks) frame += "M" + svg_at(x_.at(t), bottom_) + "v4";
    for (double t : right_.ticks) frame += right_.used ? "M" + svg_at(x_.to, right_.at(t)) + "h4" : "";
    out_ += "<path d=\"" + rules + "\" stroke=\"#e4e4e4\" stroke-width=\"0.8\"/>\n";
    out_ += "<path d=\"" + frame + "\" stroke=\"#666666\" fill=\"none\"/>\n";
}

void Drawing::labels() {
    for (size_t i = 0; i < x_.ticks.size(); ++i)
        out_ += svg_text(x_.at(x_.ticks[i]), bottom_ + 19, "middle", x_.texts[i]);
    out_ += svg_text((x_.from + x_.to) / 2, height - 16, "middle", chart_.x_label);
    const auto side = [&](const Axis& axis, double x, const char* anchor, double turn, const std::string& label) {
        if (!axis.used) return;
        const std::string fill = " fill=\"" + axis_color(&axis == &right_) + "\"";
        for (size_t i = 0; i < axis.ticks.size(); ++i)
            out_ += svg_text(x, axis.at(axis.ticks[i]) + 4.5, anchor, axis.texts[i], fill);
        const std::string middle = svg_at(turn < 0 ? 20 : width - 20, (top_ + bottom_) / 2);
        out_ += svg_text(0, 0, "middle", label,
                         fill + " transform=\"translate(" + middle + ") rotate(" + svg_number(turn) + ")\"");
    };
    side(left_, x_.from - 9, "end", -90, chart_.y_label);
    side(right_, x_.to + 9, "start", 90, chart_.right_label);
}

// With two axes, the colour that all series of one share: it says which line belongs to it.
std::string Drawing::axis_color(bool right) const {
    std::string color;
    for (size_t i = 0; i < colors_.size() && left_.used && right_.used; ++i)
        if (chart_.series[i].right_axis == right) color = color.empty() || color == colors_[i] ? colors_[i] : svg_ink;
    return color.empty() ? svg_ink : color;
}

}  // namespace

std::string svg(const Chart& chart) { return Drawing(chart).text(); }

Series smoothed(const Series& raw, double window, std::string name) {
    Series smooth = raw;
    smooth.name = std::move(name);
    smooth.faint = false;
    const double keep = std::max(0.0, 1 - 2 / (std::max(1.0, window) + 1));
    double mean = 0, weight = 0;
    for (double& v : smooth.y) {
        if (!plottable(v)) continue;
        mean = keep * mean + (1 - keep) * v;
        weight = keep * weight + (1 - keep);
        v = mean / weight;
    }
    return smooth;
}

std::vector<double> nice_ticks(double low, double high, int count) {
    widen(low, high);
    const double rough = (high - low) / std::max(1, count), power = std::pow(10.0, std::floor(std::log10(rough)));
    const double ratio = rough / power;
    const double step = power * (ratio < 1.5 ? 1 : ratio < 3.5 ? 2 : ratio < 7.5 ? 5 : 10);
    const int64_t first = int64_t(std::floor(low / step + 1e-6)), last = int64_t(std::ceil(high / step - 1e-6));
    std::vector<double> ticks;
    for (int64_t i = first; i <= last; ++i) ticks.push_back(double(i) * step);
    return ticks;
}

std::vector<double> log_ticks(double low, double high) {
    const int first = int(std::floor(std::log10(low) + 1e-9));
    const int last = std::max(first + 1, int(std::ceil(std::log10(high) - 1e-9)));
    const int stride = (last - first + 7) / 8;
    std::vector<double> ticks;
    for (int e = first; e < last + stride; e += stride)
        for (double m : {1, 2, 5})
            if (m == 1 || last - first < 3) ticks.push_back(m * std::pow(10.0, e));
    while (ticks.size() > 2 && ticks[ticks.size() - 2] >= high * (1 - 1e-9)) ticks.pop_back();
    while (ticks.size() > 2 && ticks[1] <= low * (1 + 1e-9)) ticks.erase(ticks.begin());
    return ticks;
}

}  // namespace tessera
