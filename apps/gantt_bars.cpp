#include "apps/gantt_bars.h"

#include <algorithm>
#include <cmath>

#include "apps/svg.h"
#include "apps/table.h"

namespace tessera {

static constexpr double seam = 0.4;  // white between wide bars, so that one can count them

void BarRow::add(double from, double to, int color) {
    const double width = to - from;
    if (!(width > 0)) return;
    if (width >= thinnest_) {
        join();
        push(from, width >= 3 ? to - seam : to, color);
        return;
    }
    if (joined_width_ > 0 && to > joined_from_ + thinnest_) join();
    if (joined_width_ == 0) joined_from_ = from;
    joined_width_ += width;
    owed_[size_t(color)] += width;
}

// The thin ones as one bar as wide as all of them: the rest stays white. It takes the colour that is owed most.
void BarRow::join() {
    if (joined_width_ == 0) return;
    const auto most = std::max_element(owed_.begin(), owed_.end());
    *most -= joined_width_;
    push(joined_from_, joined_from_ + joined_width_, int(most - owed_.begin()));
    joined_width_ = 0;
}

void BarRow::push(double from, double to, int color) {
    int64_t a = int64_t(std::llround(from * 100));
    const int64_t b = std::max(a + 1, int64_t(std::llround(to * 100)));
    if (!bars_.empty()) a = std::max(a, bars_.back().to);
    if (b <= a) return;
    const bool grows = !bars_.empty() && bars_.back().to == a && bars_.back().color == color;
    if (grows && double(b - a) < 100) bars_.back().to = b;
    else bars_.push_back({a, b, color});
}

// Where bars of two colours meet within a pixel, viewers let the background shine through. So the row's main colour
// goes under all thin bars, too.
std::string BarRow::svg(double height, const std::vector<std::string>& colors) const {
    std::vector<double> width(colors.size());
    for (const Bar& bar : bars_) width[size_t(bar.color)] += double(bar.to - bar.from);
    const int main = int(std::max_element(width.begin(), width.end()) - width.begin());
    std::vector<std::string> paths(colors.size());
    const auto append = [&](int color, int64_t from, int64_t to) {
        (paths[size_t(color)] += 'M').append(std::to_string(from)).append(" 0h").append(std::to_string(to - from));
    };
    int64_t from = 0, to = 0;  // of a run in the main colour
    for (const Bar& bar : bars_) {
        if (bar.color != main) append(bar.color, bar.from, bar.to);
        if (bar.color != main && bar.to - bar.from >= 150) continue;
        if (bar.from > to) {
            if (to > from) append(main, from, to);
            from = bar.from;
        }
        to = bar.to;
    }
    if (to > from) append(main, from, to);
    std::swap(paths[0], paths[size_t(main)]);  // drawn first
    std::string out;
    for (size_t i = 0; i < paths.size(); ++i) {
        const size_t color = i == 0 ? size_t(main) : i == size_t(main) ? 0 : i;
        if (!paths[i].empty()) out += "<path stroke=\"" + colors[color] + "\" d=\"" + paths[i] + "\"/>\n";
    }
    return out.empty() ? "" : "<g fill=\"none\" stroke-width=\"" + svg_number(height) + "\">\n" + out + "</g>\n";
}

void RateRow::add(double from, double to, double bytes) {
    const double density = bytes / (to - from);
    if (!std::isfinite(density)) return;
    from = std::clamp(from, 0.0, double(bytes_.size()));
    to = std::clamp(to, 0.0, double(bytes_.size()));
    for (size_t c = size_t(from); c < bytes_.size() && double(c) < to; ++c)
        bytes_[c] += density * (std::min(to, double(c + 1)) - std::max(from, double(c)));
}

double RateRow::highest() const { return bytes_.empty() ? 0 : *std::max_element(bytes_.begin(), bytes_.end()); }

std::string RateRow::svg(double full, double height, const std::string& color) const {
    const auto level = [&](size_t c) { return std::llround(10 * height * std::min(1.0, bytes_[c] / full)); };
    std::string path;
    for (size_t c = 0, end; c < bytes_.size() && full > 0; c = end) {
        const int64_t tenths = bytes_[c] > 0 ? std::max<int64_t>(1, level(c)) : 0;
        for (end = c + 1; end < bytes_.size() && (bytes_[end] > 0) == (tenths > 0) && level(end) == level(c);) ++end;
        const std::string up = svg_number(double(tenths) / 10);
        if (tenths > 0) path += "M" + std::to_string(c) + " 0v-" + up + "h" + std::to_string(end - c) + "v" + up + "z";
    }
    return path.empty() ? "" : "<path fill=\"" + color + "\" d=\"" + path + "\"/>\n";
}

}  // namespace tessera
