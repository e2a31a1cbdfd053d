// Chrome traces are JSON whose rows never overlap, with every event in them; Gantt charts are well-formed SVG of
// bounded size whose bars keep their shares, whatever the events.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "apps/chrome_trace.h"
#include "apps/gantt.h"
#include "apps/gantt_bars.h"
#include "apps/table.h"
#include "core/error.h"
#include "core/file.h"
#include "xml_flaw.h"

namespace tessera {
namespace {

using Json = nlohmann::json;

TaskEvent ran(int task, int worker, int64_t step, double fetch_us, double start_us, double end_us, int64_t bytes = 0) {
    TaskEvent e;
    e.task = task, e.worker = worker, e.step = step, e.memory_bytes = bytes;
    e.fetch_us = fetch_us, e.start_us = start_us, e.end_us = end_us;
    return e;
}

// Two steps of three tasks on a core and a GPU, names that need escapes, one transfer each way.
TraceData small_trace() {
    TraceData d;
    d.workers = {{"CPU 0", false, 0}, {"CUDA 0.0 (Tesla \"K40m\" <&> 10.0 GiB 04:00.0)", true, 1}};
    d.nodes = {"RAM", "CUDA 0"};
    d.plans = {{{"gemm_f32", "fc1", "y(0,1)", 2e6},
                {"relu\"\\\n<&>_f32", "fc\x01\xff", "z(0,0)", 0},
                {"adamw_f32", "é", "w(0,0)", 10}}};
    d.tasks = {{ran(0, 0, 0, 100, 100.2, 300, 1000), ran(2, 0, 1, 400, 410, 500, 2000)},
               {ran(1, 1, 0, 90, 120, 220.5, 64), ran(2, 1, 0, 200, 220.5, 221, 64), ran(0, 1, 1, 210, 320, 420, 128),
                ran(1, 1, 1, 330, 420, 420, 0)}};
    d.links = {{90, 110, 0, 1, 40000}, {300, 310, 1, 0, 50000}};
    return d;
}

TraceData random_trace(int workers, int gpus, int tasks, int ops, double task_us, bool overlapping) {
    std::mt19937 random(7);
    const auto uniform = [&](double low, double high) { return std::uniform_real_distribution<>(low, high)(random); };
    TraceData d;
    d.nodes = {"RAM"};
    d.plans.resize(1);
    for (int i = 0; i < ops; ++i) d.plans[0].push_back({"op" + std::to_string(i), "layer", "t(0,0)", 1e5});
    for (int w = 0; w < workers; ++w) {
        d.workers.push_back({"worker " + std::to_string(w), w < gpus, 0});
        std::vector<TaskEvent> events;
        double at = 1e6;
        for (int i = 0; i < tasks / workers; ++i) {
            const double start = at + uniform(0, task_us * 0.2), end = start + uniform(0.2, 1) * task_us;
            events.push_back(ran(int(uniform(0, ops)), w, i / 50, at, start, end, i));
            at = overlapping ? start + (end - start) * 0.7 : end;
        }
        d.tasks.push_back(events);
    }
    return d;
}

std::vector<Json> events_of(const TraceData& d) { return Json::parse(chrome_trace(d))["traceEvents"]; }

// Complete events by row, checked for overlap; every row has a name and a place.
std::map<std::string, std::vector<Json>> rows_of(const std::vector<Json>& events) {
    std::map<int, std::string> names, processes;
    std::set<int> placed;
    for (const Json& e : events) {
        const bool fresh = e["name"] != "thread_name" || names.emplace(e["tid"], e["args"]["name"]).second;
        EXPECT_TRUE(fresh) << e;
        if (e["name"] == "process_name") processes[e["pid"]] = e["args"]["name"];
        if (e["name"] == "thread_sort_index") placed.insert(int(e["tid"]));
    }
    std::map<std::string, std::vector<Json>> rows;
    std::map<int, int64_t> free_from_ns;
    for (const Json& e : events) {
        if (e["ph"] != "X") continue;
        const int row = e["tid"];
        EXPECT_TRUE(names.contains(row) && placed.contains(row)) << e;
        const auto ns = [](double us) { return int64_t(std::llround(us * 1000)); };
        EXPECT_GE(ns(e["ts"]), free_from_ns[row]) << e;
        free_from_ns[row] = ns(double(e["ts"]) + double(e["dur"]));
        rows[processes[e["pid"]] + "/" + names[row]].push_back(e);
    }
    return rows;
}

std::vector<Json> of_phase(const std::vector<Json>& events, const std::string& phase) {
    std::vector<Json> found;
    for (const Json& e : events)
        if (e["ph"] == phase) found.push_back(e);
    return found;
}

// Without a runtime there is one link for the ring's sake, and no worker.
TEST(Trace, LinksAreBoundedAndTheirSumsAreNot) {
    Trace trace(4);
    for (int i = 0; i < 10; ++i) trace.link({100.0 * i, 100.0 * i + 50, 0, 1, 1000});
    trace.link({2000, 2100, 1, 0, 7});
    const std::vector<std::array<int64_t, 3>> sums = {{0, 1, 10000}, {1, 0, 7}};
    EXPECT_EQ(trace.link_bytes(), sums);
    const TraceData d = trace.data({});
    ASSERT_EQ(d.links.size(), 4u);
    EXPECT_EQ(d.dropped, 7);
    EXPECT_EQ(d.links.front().start_us, 700) << "the oldest go";
    EXPECT_EQ(d.links.back().bytes, 7);
    Trace none(0);
    none.link({1, 2, 0, 1, 5});
    EXPECT_TRUE(none.data({}).links.empty());
    EXPECT_EQ(none.link_bytes().size(), 1u);
}

TEST(ChromeTrace, RowsHaveEveryTask) {
    const TraceData d = small_trace();
    auto rows = rows_of(events_of(d));
    const std::string gpu = "workers/" + d.workers[1].name;
    ASSERT_EQ(rows["workers/CPU 0"].size(), 2u);
    ASSERT_EQ(rows[gpu].size(), 4u);
    const Json& gemm = rows["workers/CPU 0"][0];
    EXPECT_EQ(gemm["name"], "gemm_f32");
    EXPECT_EQ(gemm["cat"], "op");
    EXPECT_DOUBLE_EQ(gemm["ts"], 100.2);
    EXPECT_DOUBLE_EQ(gemm["dur"], 199.8);
    EXPECT_EQ(gemm["args"]["layer"], "fc1");
    EXPECT_EQ(gemm["args"]["tile"], "y(0,1)");
    EXPECT_EQ(gemm["args"]["step"], 0);
    EXPECT_EQ(gemm["args"]["implementation"], 0);
    EXPECT_NEAR(gemm["args"]["GFLOP/s"], 2e6 / 199.8e-6 * 1e-9, 1e-3);
    EXPECT_EQ(rows[gpu][0]["name"], "relu\"\\\n<&>_f32");
    EXPECT_EQ(rows[gpu][0]["args"]["layer"], "fc\x01\xEF\xBF\xBD");
    EXPECT_FALSE(rows[gpu][3]["args"].contains("GFLOP/s")) << "no time, no rate";
    // 0.2 us of fetching are not worth an event; fetches that overlap have two rows.
    EXPECT_EQ(rows["workers/CPU 0: fetching"].size(), 1u);
    EXPECT_EQ(rows[gpu + ": fetching"].size() + rows[gpu + ": fetching (2)"].size(), 4u);
    EXPECT_EQ(rows[gpu + ": fetching (2)"].size(), 1u);
}

TEST(ChromeTrace, StepsMemoryAndDropped) {
    TraceData d = small_trace();
    d.dropped = 3;
    const Json whole = Json::parse(chrome_trace(d));
    EXPECT_EQ(whole["otherData"]["dropped"], 3);
    const std::vector<Json> events = whole["traceEvents"];
    const auto marks = of_phase(events, "i");
    ASSERT_EQ(marks.size(), 3u);
    EXPECT_EQ(marks[0]["name"], "3 earlier events were dropped");
    EXPECT_EQ(marks[1]["name"], "step 0");
    EXPECT_DOUBLE_EQ(marks[1]["ts"], 100.2);
    EXPECT_EQ(marks[2]["name"], "step 1");
    EXPECT_DOUBLE_EQ(marks[2]["ts"], 320);
    std::map<int, std::string> rows;
    for (const Json& e : of_phase(events, "M"))
        if (e["name"] == "thread_name") rows[e["tid"]] = e["args"]["name"];
    for (const Json& mark : marks) EXPECT_EQ(rows[mark["tid"]], "steps");
    std::map<std::string, std::vector<int64_t>> memory;
    for (const Json& e : of_phase(events, "C"))
        if (e["args"].contains("bytes")) memory[e["name"]].push_back(e["args"]["bytes"]);
    EXPECT_EQ(memory["RAM"], (std::vector<int64_t>{1000, 2000}));
    EXPECT_EQ(memory["CUDA 0"], (std::vector<int64_t>{64, 128, 0})) << "changes only";
}

TEST(ChromeTrace, SumsOverLinksAreCounters) {
    TraceData d = small_trace();
    d.links = {{100, 200, 0, 1, 100000}, {200, 300, 0, 1, 300000}, {400, 400, 0, 1, 5}};
    std::vector<std::pair<double, double>> rates;
    for (const Json& e : of_phase(events_of(d), "C"))
        if (e["name"] == "RAM to CUDA 0") rates.push_back({e["ts"], e["args"]["GB/s"]});
    EXPECT_EQ(rates, (std::vector<std::pair<double, double>>{{100, 1}, {200, 3}, {300, 0}}));
}

TEST(ChromeTrace, OverlapGoesToFurtherRows) {
    const TraceData d = random_trace(3, 1, 3000, 5, 10, true);
    size_t tasks = 0;
    for (const auto& [name, events] : rows_of(events_of(d)))
        for (const Json& e : events) tasks += e["cat"] == "op";
    EXPECT_EQ(tasks, 3000u);
}

TEST(ChromeTrace, ImpossibleEventsAndNumbersAreHarmless) {
    TraceData d = small_trace();
    d.tasks[0].push_back(ran(0, 0, 0, 0, NAN, 5));
    d.tasks[0].push_back(ran(0, 0, 0, 0, 9, 5));
    d.tasks[0].push_back(ran(0, 0, 0, 0, 1, INFINITY));
    d.tasks[0].push_back(ran(77, 0, 1, NAN, 600, 700));
    d.tasks.push_back({ran(-1, 2, 1, 0, 600, 700)});
    d.links.push_back({NAN, 5, 7, 8, 1});
    d.links.push_back({1, 5, 7, -8, 1});
    auto rows = rows_of(events_of(d));
    EXPECT_EQ(rows["workers/CPU 0"].size(), 3u);
    EXPECT_EQ(rows["workers/CPU 0"][2]["name"], "unknown");
    EXPECT_EQ(rows["workers/worker 2"].size(), 1u);
    int rates = 0;
    for (const Json& e : of_phase(events_of(d), "C")) rates += e["name"] == "node 7 to node -8";
    EXPECT_EQ(rates, 2) << "its rate, and 0 at its end";
    EXPECT_EQ(flaw(gantt_svg(d)), "");
}

TEST(ChromeTrace, EmptyAndFile) {
    const std::vector<Json> none = events_of({});
    EXPECT_EQ(of_phase(none, "M").size(), none.size());
    const auto path = std::filesystem::temp_directory_path() / ("trace_test-" + std::to_string(getpid()) + ".json");
    const TraceData d = random_trace(4, 0, 20000, 5, 10, false);  // several pieces
    write_chrome_trace(d, path);
    const auto bytes = read_file(path);
    EXPECT_EQ(std::string(bytes.begin(), bytes.end()), chrome_trace(d));
    std::filesystem::remove(path);
    EXPECT_THROW(write_chrome_trace(d, path / "no" / "folder.json"), Error);
}

TEST(Gantt, ShowsEveryRowOpStepAndNumber) {
    TraceData d = small_trace();
    d.dropped = 12345;
    const std::string picture = gantt_svg(d, {.title = "a <title> & \"more\""});
    EXPECT_EQ(flaw(picture), "");
    for (const char* part :
         {"a &lt;title&gt; &amp; &quot;more&quot;", ">CPU 0<", ">CUDA 0.0 Tesla &quot;K40m&quot; &lt;&amp;&gt;<",
          "gemm_f32 61 %", "relu&quot;\\ &lt;&amp;&gt;_f32", "adamw_f32", "waiting for data", ">RAM to CUDA 0<",
          ">CUDA 0 to RAM<", ">48.8 KiB<", "makespan 399.8 µs", "6 tasks", "12,345 earlier events were dropped",
          ">step<", "time (µs)", ">350<"})
        EXPECT_NE(picture.find(part), std::string::npos) << part;
    EXPECT_LT(picture.find(">CUDA 0.0 Tesla"), picture.find(">CPU 0<")) << "GPUs first";
    // CPU: 199.8 + 90 of 399.8 us; GPU: 100.5 + 0.5 + 100.
    EXPECT_NE(picture.find(">72 %<"), std::string::npos);
    EXPECT_NE(picture.find(">50 %<"), std::string::npos);
}

TEST(Gantt, LinksWithHardlyAnyBytesHaveNoRow) {
    TraceData d = small_trace();
    d.links.push_back({310, 320, 5, 6, 5000});  // of about 75,000 bytes
    EXPECT_NE(gantt_svg(d).find(">node 5 to node 6<"), std::string::npos);
    d.links.back().bytes = 500;
    const std::string picture = gantt_svg(d);
    EXPECT_EQ(picture.find(">node 5 to node 6<"), std::string::npos);
    EXPECT_NE(picture.find("1 link with less than 1 % of the bytes left out"), std::string::npos);
}

TEST(Gantt, WindowCutsAndCounts) {
    const std::string picture = gantt_svg(small_trace(), {.from_us = 200, .to_us = 300});
    EXPECT_EQ(flaw(picture), "");
    for (const char* part : {"100.0 µs of a run of 399.8 µs", "3 tasks", ">100 %<", ">21 %<"})
        EXPECT_NE(picture.find(part), std::string::npos) << part;
    EXPECT_NE(gantt_svg(small_trace(), {.from_us = 1e9}).find("no tasks"), std::string::npos);
}

TEST(Gantt, EmptyOrInstantOrTransfersOnly) {
    EXPECT_EQ(flaw(gantt_svg({})), "");
    EXPECT_NE(gantt_svg({}).find("no tasks"), std::string::npos);
    TraceData d = small_trace();
    d.tasks = {{}, {}};
    EXPECT_EQ(flaw(gantt_svg(d)), "");
    d.tasks = {{ran(0, 0, 0, 5, 5, 5)}};
    for (double width : {1000.0, 0.0, -1.0, 1e9, double(NAN), double(INFINITY)})
        EXPECT_EQ(flaw(gantt_svg(d, {.width = width})), "") << width;
    d.links.clear();
    EXPECT_EQ(flaw(gantt_svg(d)), "");
}

TEST(Gantt, SizeIsBoundedForAnyNumberOfTasks) {
    for (const auto& [workers, gpus, tasks, us] :
         {std::tuple{4, 2, 100'000, 30.0}, {20, 4, 300'000, 500.0}, {72, 8, 1'000'000, 1.0}}) {
        TraceData d = random_trace(workers, gpus, tasks, 12, us, false);
        for (int a = 0; a < 9; ++a)  // 72 links
            for (int b = 0; b < 9; ++b)
                for (int i = 0; i < 2000 && a != b; ++i)
                    d.links.push_back({1e6 + i * us, 1e6 + (i + 0.7) * us, a, b, 1000});
        const std::string picture = gantt_svg(d);
        EXPECT_LT(picture.size(), size_t(2) << 20) << workers << " workers";
        EXPECT_EQ(flaw(picture), "");
        EXPECT_NE(picture.find("48 links with less traffic left out"), std::string::npos);
    }
}

// Nothing to join, every bar in a colour of its own and apart from its neighbours.
TEST(Gantt, SizeIsBoundedForTheWorstTasks) {
    TraceData d = random_trace(40, 0, 40 * 8, 8, 1, false);
    for (size_t w = 0; w < d.tasks.size(); ++w) {
        d.tasks[w].clear();
        for (int i = 0; i < 2600; ++i) d.tasks[w].push_back(ran(i % 8, int(w), 0, 0, 1e3 + 4 * i, 1e3 + 4 * i + 3));
    }
    for (int i = 0; i < 24 * 1000; ++i) d.links.push_back({1e3 + i / 24 * 10, 1e3 + i / 24 * 10 + 9, i % 24, 99, 1});
    const std::string picture = gantt_svg(d);
    EXPECT_LT(picture.size(), size_t(2) << 20);
    EXPECT_EQ(flaw(picture), "");
}

// Sum of the lengths h of all paths of this colour, in pixels.
double drawn(const std::string& svg, const std::string& color) {
    double sum = 0;
    for (size_t at = svg.find(color); at != std::string::npos; at = svg.find(color, at + 1))
        for (size_t i = at; svg[i] != '>'; ++i)
            if (svg[i] == 'h') sum += std::stod(svg.substr(i + 1)) / 100;
    return sum;
}

TEST(Gantt, ThinBarsKeepTheirShares) {
    BarRow row(3, 0.15);
    for (int i = 0; i < 60'000; ++i) {  // 60 % of the time busy: 30, 20, 10
        row.add(i * 0.01, i * 0.01 + 0.006, i % 6 < 3 ? 0 : i % 6 < 5 ? 1 : 2);
    }
    row.finish();
    EXPECT_LT(row.size(), 10'000u);
    const std::string svg = row.svg(10, {"blue", "red", "green"});
    EXPECT_NEAR(drawn(svg, "red"), 120, 3);
    EXPECT_NEAR(drawn(svg, "green"), 60, 3);
    EXPECT_NEAR(drawn(svg, "blue"), 360, 6) << "the main colour lies under the others";
}

TEST(Gantt, RatesAreSharedOutToColumns) {
    RateRow row(4);
    row.add(0.5, 2.5, 200);
    row.add(-2, 1, 300);
    row.add(1, 1, 5);  // no time, no rate
    EXPECT_DOUBLE_EQ(row.highest(), 150);
    EXPECT_EQ(row.svg(150, 10, "x"), "<path fill=\"x\" d=\"M0 0v-10h1v10zM1 0v-6.7h1v6.7zM2 0v-3.3h1v3.3z\"/>\n");
    EXPECT_EQ(RateRow(4).svg(0, 10, "x"), "");
}

}  // namespace
}  // namespace tessera
