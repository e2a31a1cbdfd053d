// tessera-sim train NETWORK: the plan of a training step on a simulated machine. Bodies do not run, no data is read;
// printed is what does not depend on values.
#include <starpu.h>
#include <CLI/CLI.hpp>

#ifdef STARPU_SIMGRID
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/simulated.h"
#include "apps/summary.h"
#include "apps/table.h"
#include "apps/train_setup.h"
#include "core/error.h"
#include "models/estimate.h"

namespace tessera {
namespace {

// Every step that is timed has a full batch. Data of less than one are refused, as in training.
Split whole_batches(const TrainFlags& f) {
    Split data = shape_of_data(f.data, f.validation.value_or(-1), 0);
    if (data.train.count >= f.batch) data.train.count -= data.train.count % f.batch;
    return data;
}

struct Measured {
    double step_s = 0, seconds = 0;
    std::vector<WorkerTotals> totals;
    std::map<std::pair<int64_t, int64_t>, int64_t> bytes;  // from and to memory node
};

// Steps until the pipeline is full, then the steps that count.
Measured run_steps(TrainSetup& s) {
    const int64_t warm = s.executor.options().steps_in_flight + 1;
    s.flags.common.progress("simulating " + std::to_string(warm + s.flags.steps) + " steps of " +
                            std::to_string(s.executor.plan(s.trainer.plan()).tasks.size()) + " tasks, of which " +
                            std::to_string(s.flags.steps) + " count");
    for (int64_t i = 0; i < warm; ++i) s.trainer.step();
    constexpr int enough = 400;  // steps that end out of order are not timed: they could go on for ever
    for (int i = 0; i < enough && !s.executor.settled(s.trainer.plan()); ++i) s.trainer.step();
    s.trainer.wait();
    const auto before = s.trace->totals();
    const auto bytes_before = s.trace->link_bytes();
    const double start = starpu_timing_now();
    for (int64_t i = 0; i < s.flags.steps; ++i) s.trainer.step();
    s.trainer.wait();
    Measured m;
    m.seconds = (starpu_timing_now() - start) * 1e-6;
    m.step_s = m.seconds / double(s.flags.steps);
    m.totals = s.trace->totals();
    for (const auto& [from, to, bytes] : s.trace->link_bytes()) m.bytes[{from, to}] += bytes;
    for (const auto& [from, to, bytes] : bytes_before) m.bytes[{from, to}] -= bytes;
    for (size_t w = 0; w < m.totals.size(); ++w) {
        m.totals[w].tasks -= before[w].tasks;
        m.totals[w].busy_us -= before[w].busy_us, m.totals[w].fetch_us -= before[w].fetch_us;
    }
    return m;
}

nlohmann::json result_of(TrainSetup& s) {
    const Machine& machine = *s.machine;
    const Measured m = run_steps(s);
    const Plan& plan = s.executor.plan(s.trainer.plan());
    const TaskSchedule* const schedule = s.executor.schedule(s.trainer.plan());
    const Bound bound = model_bound(s.runtime, plan, machine, s.flags.common.deterministic);
    const double flops = s.trainer.flops_of(0);
    std::vector<nlohmann::json> traffic;
    std::vector<std::string> nodes;
    for (const auto& [pair, bytes] : m.bytes)
        if (bytes > 0)
            traffic.push_back({{"from", node_name(unsigned(pair.first))},
                               {"to", node_name(unsigned(pair.second))},
                               {"bytes", bytes}});
    const auto peak = s.trace->peak_memory_bytes();
    for (size_t n = 0; n < peak.size(); ++n) nodes.push_back(node_name(int64_t(n)));
    nlohmann::json j = {
        {"simulated", true},
        {"machine", machine.name()},
        {"network", s.flags.network},
        {"parameters", s.weights.elements()},
        {"steps", s.flags.steps},
        {"seconds", m.seconds},
        {"step_seconds", m.step_s},
        {"samples_per_s", double(s.flags.batch) / m.step_s},
        {"gflops", flops / m.step_s * 1e-9},
        {"tasks", s.executor.submitted_tasks()},
        {"efficiency", bound.seconds / m.step_s},
        {"bound", bound.seconds},
        {"bound_kind", bound.kind},
        {"devices", worker_times(s.runtime, m.totals, m.seconds)},
        {"bytes", traffic},
        {"peak_memory_bytes", {{"per_node", peak}, {"sum", std::accumulate(peak.begin(), peak.end(), int64_t(0))}}},
        {"memory_nodes", nodes},
        {"planned", schedule && schedule->step_s > 0 ? nlohmann::json(schedule->step_s) : nullptr},
        {"policy", s.runtime.policy()},
        {"workers", s.runtime.workers().size()}};
    add_models(j, s.models);
    return j;
}

void print(const nlohmann::json& j) {
    const auto percent = [](const nlohmann::json& x) { return fixed(100 * x.get<double>(), 1) + " %"; };
    Table table({"", ""}, false);
    table.row({"machine", j["machine"].get<std::string>() + ", simulated under " + j["policy"].get<std::string>()});
    table.row({"network", j["network"].get<std::string>() + ", " + human_count(j["parameters"]) + " parameters"});
    table.row({"step", human_seconds(j["step_seconds"]) + ", " + human_count(j["samples_per_s"]) + " samples/s, " +
                           fixed(j["gflops"], 1) + " GFLOP/s"});
    table.row({"efficiency", percent(j["efficiency"]) + " of the bound (" + j["bound_kind"].get<std::string>() + ", " +
                                 human_seconds(j["bound"]) + ")"});
    table.row({"models", j["models"].get<std::string>()});
    std::cout << table.text() << "\n";
    std::cout << worker_table(j["devices"]) << "\n";
    Table bytes({"from", "to", "bytes"});
    for (const auto& b : j["bytes"])
        bytes.row({b["from"].get<std::string>(), b["to"].get<std::string>(), human_bytes(b["bytes"].get<int64_t>())});
    if (!j["bytes"].empty()) std::cout << bytes.text() << "\n";
    Table memory({"memory", "most in use"});
    for (size_t n = 0; n < j["memory_nodes"].size(); ++n)
        memory.row({j["memory_nodes"][n].get<std::string>(),
                    human_bytes(j["peak_memory_bytes"]["per_node"][n].get<int64_t>())});
    std::cout << memory.text();
}

}  // namespace

Command add_train(CLI::App& app) {
    auto flags = std::make_shared<TrainFlags>();
    add_train_flags(app, *flags);
    return [flags] {
        TrainSetup setup(*flags, [&] { return whole_batches(*flags); });
        setup.write_dag();
        const nlohmann::json j = result_of(setup);
        print(j);
        if (flags->common.json) std::cout << j.dump() << std::endl;
        flags->common.write_trace(setup.trace.get(), setup.plans());  // after the results: it may fail
        return 0;
    };
}

}  // namespace tessera
#endif
