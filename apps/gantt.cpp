// From the top down: title, legend, rows, axis, what the picture says in numbers.
#include "apps/gantt.h"

#include <algorithm>

#include "apps/gantt_rows.h"
#include "apps/plot.h"
#include "apps/svg.h"
#include "apps/table.h"
#include "apps/trace_view.h"

namespace tessera {
namespace {

constexpr double link_pitch = 13, margin = 16;
const char* const pale = "#666666";

std::string font_size(double size) { return " font-size=\"" + svg_number(size) + "\""; }

class Gantt {
 public:
    Gantt(const TraceData& data, const GanttOptions& options)
        : data_(data), title_(options.title), content_(gantt_rows(data, options)) {
        left_ = margin + content_.label_width + 8;
        right_ = left_ + content_.width;
        width_ = right_ + gantt_share_width + 8;
    }
    std::string text() {
        heading();
        place_rows();
        if (content_.empty) out_ += svg_text((left_ + right_) / 2, (top_ + y_) / 2 + 4, "middle", "no tasks");
        else axis();
        rows();
        if (!content_.empty) steps(), y_ += 42;
        notes();
        return svg_open(width_, y_ + 14, gantt_font) + out_ + "</svg>\n";
    }

 private:
    void heading(), legend(), place_rows(), axis(), rows(), steps(), notes();

    const TraceData& data_;
    std::string title_;
    GanttRows content_;
    std::vector<double> middles_;  // y of each row
    double left_, right_, width_, top_ = 0, y_ = margin, step_labels_y_ = 0;
    std::string out_;
};

void Gantt::heading() {
    if (!title_.empty()) {
        out_ += svg_text(left_, y_ + 10, "start", title_, font_size(16) + " font-weight=\"bold\"");
        y_ += 26;
    }
    y_ += 10;
    legend();
    step_labels_y_ = y_ + 5;
    top_ = y_ += 12;
}

// In as many lines as it needs.
void Gantt::legend() {
    auto items = content_.legend;
    if (content_.waits) items.push_back({"waiting for data", -1});
    double x = left_, next = y_;
    for (const auto& [label, color] : items) {
        const double size = 18 + 1.08 * svg_text_width(label, gantt_font);
        if (x > left_ && x + size > width_ - 8) x = left_, y_ = next;
        const bool wait = color < 0;
        out_ += "<rect x=\"" + svg_number(x) + "\" y=\"" + svg_number(y_ - (wait ? 7 : 10)) +
                "\" width=\"12\" height=\"" + (wait ? "5" : "11") + "\" fill=\"" +
                (wait ? gantt_wait_color : gantt_colors[size_t(color)]) + "\"/>\n" +
                svg_text(x + 18, y_, "start", label);
        x += size + 14, next = y_ + 19;
    }
    y_ = next;
}

void Gantt::place_rows() {
    const auto& rows = content_.rows;
    const std::string grey = font_size(gantt_small) + " fill=\"" + pale + "\"";
    const size_t workers = worker_order(data_).size();
    if (workers > 0 && !content_.empty)
        out_ += svg_text(right_ + gantt_share_width, step_labels_y_, "end", "busy", grey);
    for (size_t r = 0; r < rows.size(); ++r) {
        const bool link = rows[r].kind == GanttRow::link;
        if (link ? r == workers : r > 0 && rows[r].kind != rows[r - 1].kind) y_ += link ? 20 : 6;
        if (link && r == workers) out_ += svg_text(right_ + gantt_share_width, y_ - 4, "end", "moved", grey);
        const double pitch = link ? link_pitch : gantt_pitch(workers);
        middles_.push_back(y_ + pitch / 2);
        y_ += pitch;
    }
    y_ = std::max(y_ + 2, top_ + 40);
}

// Rules behind the rows, ticks below them.
void Gantt::axis() {
    const GanttRows& c = content_;
    const TimeUnit unit = unit_of(c.to_us - c.run_from_us);
    const double low = (c.from_us - c.run_from_us) / unit.us, high = (c.to_us - c.run_from_us) / unit.us;
    auto ticks = nice_ticks(low, high, std::max(3, int(c.width / 95)));
    const double step = ticks[1] - ticks[0], slack = 1e-9 * (high - low);
    std::erase_if(ticks, [&](double t) { return t < low - slack || t > high + slack; });
    const int decimals = std::max(0, -int(std::floor(std::log10(step) + 1e-9)));
    std::string rules, frame = "M" + svg_at(left_, y_) + "H" + svg_number(right_), labels;
    for (double t : ticks) {
        const double x = left_ + c.px(c.run_from_us + t * unit.us);
        rules += "M" + svg_at(x, top_) + "V" + svg_number(y_);
        frame += "M" + svg_at(x, y_) + "v4";
        labels += svg_text(x, y_ + 18, "middle", fixed(t, decimals));
    }
    out_ += "<path d=\"" + rules + "\" stroke=\"#e8e8e8\" stroke-width=\"0.8\"/>\n";
    out_ += "<path d=\"" + frame + "\" stroke=\"" + pale + "\" fill=\"none\"/>\n" + labels;
    out_ += svg_text((left_ + right_) / 2, y_ + 36, "middle", "time (" + std::string(unit.name) + ")");
}

void Gantt::rows() {
    for (size_t r = 0; r < middles_.size(); ++r) {
        const GanttRow& row = content_.rows[r];
        const bool tight = row.kind == GanttRow::link || gantt_pitch(worker_order(data_).size()) < 12;
        const double font = tight ? gantt_small : gantt_font, y = middles_[r] + 0.36 * font;
        out_ += "<g><title>" + svg_escaped(row.name) + "</title>\n" +
                svg_text(left_ - 8, y, "end", row.label, font_size(font)) + "</g>\n";
        out_ += svg_text(right_ + gantt_share_width, y, "end", row.share, font_size(font));
        out_ += "<g transform=\"translate(" + svg_at(left_, middles_[r]) + ")\">\n" + row.body + "</g>\n";
    }
}

// A dashed line where each step starts, the step's number above it; where they are dense, every second, fifth, tenth
// ...
void Gantt::steps() {
    auto starts = step_starts(data_);
    std::erase_if(starts, [&](const auto& s) { return s.second < content_.from_us || s.second > content_.to_us; });
    if (starts.empty()) return;
    size_t longest = 1;
    for (const auto& start : starts) longest = std::max(longest, std::to_string(start.first).size());
    const auto stride = [&](double room) {  // so that they have so many pixels each on average
        size_t n = 1;
        for (int i = 0; double(starts.size() / n) > content_.width / room; ++i) n = n * (i % 3 == 1 ? 5 : 4) / 2;
        return n;
    };
    const double label_width = 1.1 * svg_text_width(std::string(longest, '0'), gantt_small);
    const size_t line_stride = stride(20), label_stride = std::max(line_stride, stride(label_width + 6));
    std::string lines, labels;
    double free_from = 0;
    for (size_t i = 0; i < starts.size(); i += line_stride) {
        const double x = left_ + content_.px(starts[i].second);
        lines += "M" + svg_at(x, top_ - 3) + "V" + svg_number(y_);
        if (i % label_stride != 0 || x - label_width / 2 < free_from) continue;
        labels += svg_text(x, step_labels_y_, "middle", std::to_string(starts[i].first));
        free_from = x + label_width / 2 + 3;
    }
    out_ += "<path d=\"" + lines + "\" fill=\"none\" stroke=\"#000000\" stroke-opacity=\"0.5\" stroke-width=\"0.8\"" +
            " stroke-dasharray=\"4 2\"/>\n<g" + font_size(gantt_small) + " fill=\"" + pale + "\">\n" +
            svg_text(left_ - 12, step_labels_y_, "end", "step") + labels + "</g>\n";
}

// In as many lines as they need.
void Gantt::notes() {
    const std::string separator = "  ·  ", style = font_size(11) + " fill=\"" + pale + "\"";
    std::string line;
    const auto flush = [&] {
        if (line.empty()) return;
        y_ += 16;
        out_ += svg_text(margin, y_, "start", line, style);
        line.clear();
    };
    for (const std::string& note : content_.notes) {
        if (!line.empty() && 1.08 * svg_text_width(line + separator + note, 11) > width_ - 2 * margin) flush();
        line += (line.empty() ? "" : separator) + note;
    }
    flush();
}

}  // namespace

std::string gantt_svg(const TraceData& data, const GanttOptions& options) { return Gantt(data, options).text(); }

}  // namespace tessera
