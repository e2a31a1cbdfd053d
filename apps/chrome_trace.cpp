// Rows are written one after the other. Times become whole nanoseconds first: what does not overlap as nanoseconds does
// not overlap when a viewer adds start and duration.
#include "apps/chrome_trace.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "apps/table.h"
#include "apps/trace_view.h"
#include "core/file.h"

namespace tessera {
namespace {

constexpr int workers_process = 1, links_process = 2, memory_process = 3;
constexpr int64_t shortest_fetch_ns = 500;

// A JSON string; bytes that are no UTF-8 become U+FFFD.
std::string quoted(const std::string& text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

int64_t ns(double us) { return std::llround(us * 1000); }

struct Span {
    int64_t start_ns, end_ns;
    size_t index;  // of the event
};

class ChromeWriter {
 public:
    ChromeWriter(const TraceData& data, std::function<void(std::string_view)> take)
        : data_(data), take_(std::move(take)) {}
    void write();

 private:
    struct TaskText {
        std::string name, args;  // JSON
    };

    void prepare_texts();
    const TaskText& text(const TaskEvent&) const;
    void processes(), workers(), worker(size_t), links(), memory(), steps();
    void link_rates(const std::string& name, const std::vector<const LinkEvent*>&);

    ChromeWriter& operator<<(std::string_view s) { return out_ += s, *this; }
    ChromeWriter& operator<<(int64_t v);
    void time(const char* key, int64_t ns);
    void event(char phase, int process, int64_t row);
    void end_event();
    void metadata(const char* what, int process, int64_t row, const std::string& name, int64_t place);
    void counter(int process, int64_t at_ns, const std::string& name, const char* unit, const std::string& value);
    template <class Rest>
    void rows(int process, const std::string& name, std::vector<Span> spans, const Rest& rest);

    const TraceData& data_;
    std::function<void(std::string_view)> take_;
    std::string out_;
    std::vector<std::vector<TaskText>> texts_;  // of each plan's tasks, made once: events are many
    TaskText unknown_;
    int64_t next_row_ = 10;  // unlike any process: viewers take a row of its process's number for the main thread
    bool first_ = true;
};

ChromeWriter& ChromeWriter::operator<<(int64_t v) {
    char text[24];
    out_.append(text, std::to_chars(text, text + sizeof text, v).ptr);
    return *this;
}

// Microseconds with up to three decimals.
void ChromeWriter::time(const char* key, int64_t ns) {
    *this << key << (ns < 0 ? "-" : "") << std::abs(ns) / 1000;
    if (const int64_t rest = std::abs(ns) % 1000; rest != 0) {
        const char digits[] = {'.', char('0' + rest / 100), char('0' + rest / 10 % 10), char('0' + rest % 10)};
        out_.append(digits, rest % 100 == 0 ? 2 : rest % 10 == 0 ? 3 : 4);
    }
}

void ChromeWriter::event(char phase, int process, int64_t row) {
    *this << (first_ ? "\n" : ",\n") << "{\"ph\":\"" << std::string_view(&phase, 1) << "\",\"pid\":" << process;
    if (row > 0) *this << ",\"tid\":" << row;
    first_ = false;
}

void ChromeWriter::end_event() {
    out_ += "}}";
    if (out_.size() < size_t(1) << 20) return;
    take_(out_);
    out_.clear();
}

// Name and place of a process (row 0) or of a row.
void ChromeWriter::metadata(const char* what, int process, int64_t row, const std::string& name, int64_t place) {
    event('M', process, row);
    *this << ",\"name\":\"" << what << "_name\",\"args\":{\"name\":" << quoted(name);
    end_event();
    event('M', process, row);
    *this << ",\"name\":\"" << what << "_sort_index\",\"args\":{\"sort_index\":" << place;
    end_event();
}

void ChromeWriter::counter(int process, int64_t at_ns, const std::string& name, const char* unit,
                           const std::string& value) {
    event('C', process, 0);
    time(",\"ts\":", at_ns);
    *this << ",\"name\":" << name << ",\"args\":{\"" << unit << "\":" << value;
    end_event();
}

// Complete events in one row, or in as many as it takes for none to overlap. `rest` writes name, category and args of
// an event, all but the last brackets.
template <class Rest>
void ChromeWriter::rows(int process, const std::string& name, std::vector<Span> spans, const Rest& rest) {
    std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
        return std::pair(a.start_ns, a.end_ns) < std::pair(b.start_ns, b.end_ns);
    });
    std::vector<int64_t> free_from_ns;  // of each row
    const auto add_row = [&] {
        const size_t n = free_from_ns.size();
        metadata("thread", process, next_row_ + int64_t(n), n == 0 ? name : name + " (" + std::to_string(n + 1) + ")",
                 next_row_ + int64_t(n));
        free_from_ns.push_back(INT64_MIN);
    };
    add_row();
    for (const Span& s : spans) {
        size_t row = 0;
        while (row < free_from_ns.size() && free_from_ns[row] > s.start_ns) ++row;
        if (row == free_from_ns.size()) add_row();
        free_from_ns[row] = s.end_ns;
        event('X', process, next_row_ + int64_t(row));
        time(",\"ts\":", s.start_ns);
        time(",\"dur\":", s.end_ns - s.start_ns);
        rest(s);
        end_event();
    }
    next_row_ += int64_t(free_from_ns.size());
}

void ChromeWriter::prepare_texts() {
    const auto text_of = [](const TraceData::Task& t) {
        std::string op = quoted(t.op);
        return TaskText{op.substr(1, op.size() - 2), "\"layer\":" + quoted(t.layer) + ",\"tile\":" + quoted(t.tile)};
    };
    texts_.resize(data_.plans.size());
    for (size_t p = 0; p < texts_.size(); ++p)
        for (const TraceData::Task& t : data_.plans[p]) texts_[p].push_back(text_of(t));
    unknown_ = text_of(task_of(data_, {.plan = -1}));
}

const ChromeWriter::TaskText& ChromeWriter::text(const TaskEvent& e) const {
    const bool known =
        e.plan >= 0 && size_t(e.plan) < texts_.size() && e.task >= 0 && size_t(e.task) < texts_[size_t(e.plan)].size();
    return known ? texts_[size_t(e.plan)][size_t(e.task)] : unknown_;
}

void ChromeWriter::processes() {
    metadata("process", workers_process, 0, "workers", workers_process);
    metadata("process", links_process, 0, "links", links_process);
    metadata("process", memory_process, 0, "memory in use", memory_process);
}

void ChromeWriter::workers() {
    for (size_t w : worker_order(data_)) worker(w);
}

void ChromeWriter::worker(size_t w) {
    const auto& events = tasks_of(data_, w);
    std::vector<Span> tasks, fetches;
    for (size_t i = 0; i < events.size(); ++i) {
        const TaskEvent& e = events[i];
        if (!is_sound(e.start_us, e.end_us)) continue;
        tasks.push_back({ns(e.start_us), ns(e.end_us), i});
        if (is_sound(e.fetch_us, e.start_us) && ns(e.start_us) - ns(e.fetch_us) > shortest_fetch_ns)
            fetches.push_back({ns(e.fetch_us), ns(e.start_us), i});
    }
    const auto describe = [&](const char* category, const char* prefix, const TaskEvent& e) {
        const TaskText& t = text(e);
        *this << ",\"cat\":\"" << category << "\",\"name\":\"" << prefix << t.name << "\",\"args\":{" << t.args;
        *this << ",\"step\":" << e.step;
        if (data_.plans.size() > 1) *this << ",\"plan\":" << e.plan;
    };
    rows(workers_process, worker_name(data_, w), std::move(tasks), [&](const Span& s) {
        const TaskEvent& e = events[s.index];
        describe("op", "", e);
        *this << ",\"implementation\":" << e.implementation;
        const double gflops = task_of(data_, e).flops / (e.end_us - e.start_us) * 1e-3;
        if (std::isfinite(gflops)) *this << ",\"GFLOP/s\":" << fixed(gflops, 3);
    });
    if (fetches.empty()) return;
    rows(workers_process, worker_name(data_, w) + ": fetching", std::move(fetches),
         [&](const Span& s) { describe("transfer", "fetch for ", events[s.index]); });
}

void ChromeWriter::links() {
    for (const auto& [pair, events] : links_by_pair(data_))
        link_rates(quoted(link_name(data_, pair.first, pair.second)), events);
}

// Sums over intervals as a counter: the mean rate from an interval's start, and 0 from its end if no other follows.
void ChromeWriter::link_rates(const std::string& name, const std::vector<const LinkEvent*>& events) {
    for (size_t i = 0; i < events.size(); ++i) {
        const double rate = double(events[i]->bytes) / (events[i]->end_us - events[i]->start_us) * 1e-3;
        if (!std::isfinite(rate)) continue;
        counter(links_process, ns(events[i]->start_us), name, "GB/s", fixed(rate, 6));
        if (i + 1 == events.size() || ns(events[i + 1]->start_us) > ns(events[i]->end_us))
            counter(links_process, ns(events[i]->end_us), name, "GB/s", "0");
    }
}

// One counter per node that all its workers' tasks report to; only changes are written.
void ChromeWriter::memory() {
    std::map<int, std::vector<std::pair<int64_t, int64_t>>> in_use;  // node -> time, bytes
    for (size_t w = 0; w < data_.workers.size(); ++w)
        for (const TaskEvent& e : tasks_of(data_, w))
            if (is_sound(e.start_us, e.end_us)) in_use[data_.workers[w].node].push_back({ns(e.end_us), e.memory_bytes});
    for (auto& [node, samples] : in_use) {
        std::stable_sort(samples.begin(), samples.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
        const std::string name = quoted(node_name(data_, node));
        int64_t shown = 0;
        for (const auto& [at_ns, bytes] : samples) {
            if (bytes == shown) continue;
            shown = bytes;
            counter(memory_process, at_ns, name, "bytes", std::to_string(bytes));
        }
    }
}

// Marks in a row of their own: those of no row get one without a name in Perfetto.
void ChromeWriter::steps() {
    const auto starts = step_starts(data_);
    if (starts.empty() && data_.dropped == 0) return;
    const int64_t row = next_row_++;
    metadata("thread", workers_process, row, "steps", row);
    const auto mark = [&](double at_us, const std::string& name) {
        event('i', workers_process, row);
        time(",\"ts\":", ns(at_us));
        *this << ",\"s\":\"t\",\"cat\":\"step\",\"name\":" << quoted(name) << ",\"args\":{";
        end_event();
    };
    if (data_.dropped > 0)
        mark(starts.empty() ? 0 : starts[0].second, std::to_string(data_.dropped) + " earlier events were dropped");
    for (const auto& [step, at_us] : starts) mark(at_us, "step " + std::to_string(step));
}

void ChromeWriter::write() {
    prepare_texts();
    // No displayTimeUnit: ms is the default, and old versions of Perfetto took it for the unit of ts. What they don't
    // know stands behind the events, because they read no further.
    *this << "{\"traceEvents\":[";
    processes(), steps(), workers(), links(), memory();
    *this << "\n],\"otherData\":{\"producer\":\"tessera\",\"dropped\":" << data_.dropped << "}}\n";
    take_(out_);
}

}  // namespace

std::string chrome_trace(const TraceData& data) {
    std::string all;
    ChromeWriter(data, [&](std::string_view piece) { all += piece; }).write();
    return all;
}

void write_chrome_trace(const TraceData& data, const std::filesystem::path& path) {
    AtomicFile file(path);
    ChromeWriter(data, [&](std::string_view piece) { file.write(piece); }).write();
    file.commit();
}

}  // namespace tessera
