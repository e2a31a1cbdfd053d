#include "apps/gantt_rows.h"

#include <algorithm>
#include <map>

#include "apps/gantt_bars.h"
#include "apps/svg.h"
#include "apps/table.h"
#include "apps/trace_view.h"

namespace tessera {

// The palette without black, which is too heavy for areas; Okabe and Ito's yellow; grey for all other ops.
const std::vector<std::string> gantt_colors = {svg_palette[0], svg_palette[1], svg_palette[2], svg_palette[3],
                                               svg_palette[4], svg_palette[5], "#F0E442",      "#8c8c8c"};

TimeUnit unit_of(double us) {
    return us < 2e3 ? TimeUnit{1, "µs"} : us < 2e6 ? TimeUnit{1e3, "ms"} : TimeUnit{1e6, "s"};
}

double gantt_pitch(size_t workers) { return workers <= 16 ? 24 : workers <= 40 ? 16 : 11; }

double GanttRows::px(double us) const { return (std::clamp(us, from_us, to_us) - from_us) * width / (to_us - from_us); }

namespace {

constexpr size_t most_bars = 55'000, most_links = 24;
constexpr double thinnest = 0.15;          // pixels
constexpr double least_link_share = 0.01;  // of all bytes
const char* const link_color = "#666666";
const int other = int(gantt_colors.size()) - 1;

std::string duration(double us) {
    const TimeUnit unit = unit_of(us);
    const double v = us / unit.us;
    return fixed(v, v < 10 ? 2 : v < 1000 ? 1 : 0) + " " + unit.name;
}

std::string percent(double share) { return fixed(100 * share, share > 0 && share < 0.0995 ? 1 : 0) + " %"; }

// "CUDA 0.0 (Tesla K40m 10.0 GiB 04:00.0)" as "CUDA 0.0 Tesla K40m", cut where it is too long.
std::string short_name(const std::string& name) {
    std::string text = name;
    if (const size_t open = name.find(" ("); open != std::string::npos && name.ends_with(")")) {
        std::string device = name.substr(open + 2, name.size() - open - 3);
        if (const size_t size = device.find(" GiB"); size != std::string::npos && size > 0) {
            const size_t space = device.rfind(' ', size - 1);
            device.resize(space == std::string::npos ? 0 : space);
        }
        text = name.substr(0, open) + (device.empty() ? "" : " " + device);
    }
    if (display_width(text) <= 30) return text;
    while (display_width(text) > 29) {
        while ((uint8_t(text.back()) & 0xc0) == 0x80) text.pop_back();
        text.pop_back();
    }
    return text + "…";
}

class Maker {
 public:
    Maker(const TraceData& data, const GanttOptions& options) : data_(data) {
        choose_window(options), choose_colors(), choose_widths(options);
        out_.notes.push_back(span_note());
        worker_rows(), link_rows();
        if (data.dropped > 0) out_.notes.push_back(grouped(data.dropped) + " earlier events were dropped");
        if (out_.empty) out_.notes.erase(out_.notes.begin());
    }
    GanttRows take() { return std::move(out_); }

 private:
    struct Link {
        std::pair<int, int> pair;
        std::string name;
        double bytes;
        RateRow rates;
    };

    void choose_window(const GanttOptions&), choose_colors(), choose_widths(const GanttOptions&);
    std::string span_note() const;
    void worker_rows(), link_rows();
    size_t worker_row(size_t worker, const std::vector<const TaskEvent*>&, double thinnest);
    Link sum_link(const std::pair<int, int>&, const std::vector<const LinkEvent*>&) const;
    bool shown(double start_us, double end_us) const {
        return !out_.empty && is_sound(start_us, end_us) && end_us >= out_.from_us && start_us <= out_.to_us;
    }
    double shown_us(double start_us, double end_us) const {
        return std::min(end_us, out_.to_us) - std::max(start_us, out_.from_us);
    }
    int op_of(const TaskEvent& e) const {
        return &task_of(data_, e) == &unknown_ ? int(color_.size()) - 1 : op_[size_t(e.plan)][size_t(e.task)];
    }

    const TraceData& data_;
    const TraceData::Task& unknown_ = task_of(data_, {.plan = -1});
    GanttRows out_;
    std::vector<std::vector<int>> op_;  // of each plan's tasks
    std::vector<int> color_;            // of each op; the last one is that of unknown tasks
    double busy_us_ = 0;                // of all workers
};

// The run is what its tasks span; without tasks, its transfers.
void Maker::choose_window(const GanttOptions& options) {
    double from = INFINITY, to = -INFINITY;
    const auto include = [&](double start_us, double end_us) {
        if (is_sound(start_us, end_us)) from = std::min(from, start_us), to = std::max(to, end_us);
    };
    for (const auto& events : data_.tasks)
        for (const TaskEvent& e : events) include(e.start_us, e.end_us);
    if (!(from <= to))
        for (const LinkEvent& e : data_.links) include(e.start_us, e.end_us);
    if (!(from <= to)) return;
    out_.run_from_us = out_.from_us = from, out_.run_to_us = out_.to_us = to;
    out_.empty = !(std::max(from, options.from_us) <= std::min(to, options.to_us));
    if (!out_.empty) out_.from_us = std::max(from, options.from_us), out_.to_us = std::min(to, options.to_us);
    if (out_.to_us - out_.from_us < 1e-3) out_.to_us = out_.from_us + 1;
}

// The ops that take most of the time get a colour each, in that order.
void Maker::choose_colors() {
    std::map<std::string, int> index;
    std::vector<std::pair<double, std::string>> total_us;
    const auto add = [&](const std::string& op) {
        total_us.push_back({0, op});
        return int(total_us.size()) - 1;
    };
    for (const auto& plan : data_.plans) {
        op_.emplace_back();
        for (const TraceData::Task& t : plan) {
            if (!index.contains(t.op)) index[t.op] = add(t.op);
            op_.back().push_back(index[t.op]);
        }
    }
    add(unknown_.op);
    color_.assign(total_us.size(), other);
    double all_us = 0, others_us = 0;
    for (const auto& events : data_.tasks)
        for (const TaskEvent& e : events) {
            if (!shown(e.start_us, e.end_us)) continue;
            const double us = shown_us(e.start_us, e.end_us);
            total_us[size_t(op_of(e))].first += us, all_us += us;
        }
    std::vector<int> order;
    for (size_t i = 0; i < total_us.size(); ++i)
        if (total_us[i].first > 0) order.push_back(int(i));
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return total_us[size_t(a)].first > total_us[size_t(b)].first; });
    for (size_t rank = 0; rank < order.size(); ++rank) {
        const auto& [us, op] = total_us[size_t(order[rank])];
        if (int(rank) >= other) others_us += us;
        else
            color_[size_t(order[rank])] = int(rank),
            out_.legend.push_back({op + " " + percent(us / all_us), int(rank)});
    }
    if (others_us > 0)
        out_.legend.push_back(
            {grouped(int64_t(order.size()) - other) + " other " + percent(others_us / all_us), other});
}

// Space for names, then the rows' own: whole pixels, for rates are sums over columns of pixels.
void Maker::choose_widths(const GanttOptions& options) {
    double widest = 50;
    const auto include = [&](const std::string& name, double font) {
        widest = std::max(widest, 1.1 * svg_text_width(short_name(name), font));
    };
    const auto order = worker_order(data_);
    for (size_t w : order) include(worker_name(data_, w), gantt_pitch(order.size()) < 12 ? gantt_small : gantt_font);
    for (const auto& [pair, events] : links_by_pair(data_))
        include(link_name(data_, pair.first, pair.second), gantt_small);
    out_.label_width = widest;
    const double width = std::clamp(std::isfinite(options.width) ? options.width : 1000, 480.0, 1e4);
    out_.width = std::floor(width - widest - gantt_share_width - 32);
}

std::string Maker::span_note() const {
    const double span = out_.to_us - out_.from_us, run = out_.run_to_us - out_.run_from_us;
    if (span >= run * (1 - 1e-9)) return "makespan " + duration(run);
    return duration(span) + " of a run of " + duration(run);
}

void Maker::worker_rows() {
    const auto order = worker_order(data_);
    std::vector<std::vector<const TaskEvent*>> events(order.size());
    int64_t tasks = 0;
    for (size_t r = 0; r < order.size(); ++r) {
        for (const TaskEvent& e : tasks_of(data_, order[r]))
            if (shown(e.start_us, e.end_us)) events[r].push_back(&e);
        std::stable_sort(events[r].begin(), events[r].end(),
                         [](const TaskEvent* a, const TaskEvent* b) { return a->start_us < b->start_us; });
        tasks += int64_t(events[r].size());
    }
    size_t bars = most_bars + 1;
    for (double limit = thinnest; bars > most_bars; limit *= 1.6) {  // coarser until the picture is small
        bars = 0, busy_us_ = 0, out_.rows.clear();
        for (size_t r = 0; r < order.size(); ++r) bars += worker_row(order[r], events[r], limit);
    }
    if (tasks == 0) return;
    const double available_us = double(order.size()) * (out_.to_us - out_.from_us);
    out_.notes.push_back(grouped(tasks) + (tasks == 1 ? " task" : " tasks"));
    out_.notes.push_back("workers " + percent(busy_us_ / available_us) + " busy");
    out_.notes.push_back("percentages of ops: of all busy time");
}

// Events in order of their starts. Where they overlap, as on a GPU that takes the next task early, time counts once.
size_t Maker::worker_row(size_t worker, const std::vector<const TaskEvent*>& events, double limit) {
    BarRow busy(other + 1, limit), waits(1, limit);
    double busy_us = 0, until_us = out_.from_us;
    for (const TaskEvent* e : events) {
        const double start_us = std::max(e->start_us, until_us);
        if (is_sound(e->fetch_us, e->start_us))
            waits.add(out_.px(std::max(e->fetch_us, until_us)), out_.px(e->start_us), 0);
        if (e->end_us > start_us) busy.add(out_.px(start_us), out_.px(e->end_us), color_[size_t(op_of(*e))]);
        busy_us += std::max(0.0, shown_us(start_us, e->end_us)), until_us = std::max(until_us, e->end_us);
    }
    busy.finish(), waits.finish();
    busy_us_ += busy_us, out_.waits |= waits.size() > 0;
    const double height = std::floor(0.76 * gantt_pitch(worker_order(data_).size()));
    const std::string name = worker_name(data_, worker);
    const bool cuda = worker < data_.workers.size() && data_.workers[worker].cuda;
    out_.rows.push_back({cuda ? GanttRow::gpu : GanttRow::cpu, short_name(name), name,
                         out_.empty ? "" : percent(busy_us / (out_.to_us - out_.from_us)),
                         "<g transform=\"scale(.01 1)\">\n" + waits.svg(height / 3, {gantt_wait_color}) +
                             busy.svg(height, gantt_colors) + "</g>\n"});
    return busy.size() + waits.size();
}

Maker::Link Maker::sum_link(const std::pair<int, int>& pair, const std::vector<const LinkEvent*>& events) const {
    Link link{pair, link_name(data_, pair.first, pair.second), 0, RateRow(int(out_.width))};
    const double scale = out_.width / (out_.to_us - out_.from_us);
    for (const LinkEvent* e : events) {
        if (!shown(e->start_us, e->end_us)) continue;
        const double us = e->end_us - e->start_us, share = us > 0 ? shown_us(e->start_us, e->end_us) / us : 1;
        link.bytes += double(e->bytes) * share;
        link.rates.add((e->start_us - out_.from_us) * scale, (e->end_us - out_.from_us) * scale, double(e->bytes));
    }
    return link;
}

// The busiest links, each as its rate. Those with hardly any bytes would be empty rows.
void Maker::link_rows() {
    const auto pairs = links_by_pair(data_);
    std::vector<Link> links;
    double full = 0, bytes = 0;  // highest rate in bytes per pixel; all that moved
    for (const auto& [pair, events] : pairs) {
        Link link = sum_link(pair, events);
        if (link.bytes <= 0) continue;
        bytes += link.bytes;
        links.push_back(std::move(link));
    }
    const size_t all = links.size();
    std::erase_if(links, [&](const Link& link) { return link.bytes < least_link_share * bytes; });
    const bool many = links.size() > most_links;
    if (many) {
        std::stable_sort(links.begin(), links.end(), [](const Link& a, const Link& b) { return a.bytes > b.bytes; });
        links.erase(links.begin() + int64_t(most_links), links.end());
        std::sort(links.begin(), links.end(), [](const Link& a, const Link& b) { return a.pair < b.pair; });
    }
    for (const Link& link : links) full = std::max(full, link.rates.highest());
    for (const Link& link : links)
        out_.rows.push_back({GanttRow::link, short_name(link.name), link.name, human_bytes(std::llround(link.bytes)),
                             "<g transform=\"translate(0 5)\">" + link.rates.svg(full, 10, link_color) + "</g>\n"});
    if (bytes > 0) out_.notes.push_back(human_bytes(std::llround(bytes)) + " moved");
    if (full > 0)
        out_.notes.push_back("links: mean rates, full height " +
                             fixed(full * out_.width / (out_.to_us - out_.from_us) * 1e-3, 2) + " GB/s");
    if (all > links.size())
        out_.notes.push_back(grouped(int64_t(all - links.size())) + (all - links.size() == 1 ? " link" : " links") +
                             " with less " + (many ? "traffic" : "than 1 % of the bytes") + " left out");
}

}  // namespace

GanttRows gantt_rows(const TraceData& data, const GanttOptions& options) { return Maker(data, options).take(); }

}  // namespace tessera
