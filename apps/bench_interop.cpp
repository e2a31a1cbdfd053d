// tessera bench interop NETWORK: what running independent ops side by side wins. A training step and a forward pass of
// made-up data, op after op (--serial) and as they come, interleaved; then the step on other machines, simulated.
#include <starpu.h>
#include <sys/wait.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/bench.h"
#include "apps/summary.h"
#include "apps/table.h"
#include "core/error.h"

namespace tessera {
namespace {

// The data's shapes with contents for `steps` whole batches, and no more.
Split few_batches(const TrainFlags& f, int64_t steps) {
    Split data = shape_of_data(f.data, 0, f.batch * steps);
    data.train = data.train.slice(0, f.batch * steps);
    data.test = {};
    return data;
}

// Two executors of one runtime: what is measured is the order of the ops, nothing else. `step` trains.
struct Way {
    Executor& executor;
    Trainer& trainer;
    std::vector<double> step_s = {}, forward_s = {};

    void step(int64_t steps) {
        step_s.push_back(time_s([&] {
                             for (int64_t i = 0; i < steps; ++i) trainer.step();
                             trainer.wait();
                         }) /
                         double(steps));
    }
    // Until schedules of GPUs are tried; bounded, for only steps that end in order, in a row, are timed.
    void settle(const Dataset& data) {
        for (int i = 0; i < 400 && !executor.settled(trainer.plan()); ++i) trainer.step();
        trainer.wait();
        const auto settled = [&] {
            for (int plan = 0; plan < executor.plans(); ++plan)
                if (!executor.settled(plan)) return false;
            return true;
        };
        for (int i = 0; i < 200 && !settled(); ++i) trainer.evaluate(data);
    }
    void forward(const Dataset& data, int64_t steps) {
        forward_s.push_back(time_s([&] { trainer.evaluate(data); }) / double(steps));
    }
};

// T1, Tinf and the bound of one step, from the times that its tasks took in this run.
nlohmann::json work_of(const Runtime& runtime, const Executor& executor, int plan, double seconds) {
    std::map<std::pair<const CodeletInfo*, uint32_t>, size_t> known;
    const auto classes = executor.class_times(plan);
    std::vector<double> times;
    for (const TaskSpec& t : executor.plan(plan).tasks) {
        const size_t c = known.emplace(std::pair{t.codelet, t.footprint}, known.size()).first->second;
        times.push_back(classes[c].cpu.count ? classes[c].cpu.sum_s / double(classes[c].cpu.count) : 0);
    }
    const DagStats dag = dag_stats(executor.plan(plan), times, executor.options().deterministic);
    const Bound bound = measured_bound(runtime, executor, plan);
    return {{"tasks", dag.tasks},
            {"width", dag.width},
            {"t1_seconds", dag.t1},
            {"tinf_seconds", dag.t_inf},
            {"bound", bound.seconds},
            {"bound_kind", bound.kind},
            {"eta", bound.seconds / seconds}};
}

// What was chosen because of what runs beside it, what that was to win, and what it won.
nlohmann::json company_of(const JointChoice& joint, double gain) {
    nlohmann::json changes = nlohmann::json::array();
    for (const JointChoice::Change& c : joint.changes)
        changes.push_back(
            {{"codelet", c.codelet}, {"arguments", c.arguments}, {"alone", c.alone}, {"together", c.together}});
    return {{"changes", changes}, {"predicted_gain", joint.alone_s / joint.together_s}, {"gain", gain}};
}

nlohmann::json measured(const InteropBench& f, const TrainFlags& train) {
    TrainSetup setup(train, [&] { return few_batches(train, f.steps); });
    const Dataset held = setup.data.train;
    ExecutorOptions serial_options = setup.executor.options();
    serial_options.serial = true, serial_options.planner = {};
    Executor serial_executor(setup.runtime, serial_options);
    TrainOptions options = setup.trainer.options();
    options.tile_batch = serial_tiles(train, setup.runtime).batch;  // each op as fast as it can be alone
    Trainer serial_trainer(serial_executor, setup.network, setup.optimizer, setup.data.train, options);
    Way serial{serial_executor, serial_trainer}, concurrent{setup.executor, setup.trainer};
    std::vector<Way*> ways = {&serial, &concurrent};
    // Each task as it is best alone, if that is another way than what was chosen for its company.
    std::optional<Executor> alone_executor;
    std::optional<Trainer> alone_trainer;
    std::optional<Way> alone;
    if (!setup.joint.changes.empty()) {
        ExecutorOptions alone_options = setup.executor.options();
        alone_options.planner = [&setup](Plan& plan) { setup.plan(plan, false); };
        alone_executor.emplace(setup.runtime, alone_options);
        alone_trainer.emplace(*alone_executor, setup.network, setup.optimizer, setup.data.train,
                              setup.trainer.options());
        ways.push_back(&alone.emplace(Way{*alone_executor, *alone_trainer}));
    }
    for (int r = -1; r < f.rounds; ++r) {
        say_round(f.train.common, r, f.rounds, 1);
        for (Way* way : ways) {
            if (r < 0) way->settle(held);
            way->step(f.steps);
            way->forward(held, f.steps);
        }
        if (r >= 0) continue;  // the first round fills models and caches
        for (Way* way : ways) way->step_s.clear(), way->forward_s.clear();
    }
    const auto ratios = [](const std::vector<double>& a, const std::vector<double>& b) {
        std::vector<double> all;
        for (size_t i = 0; i < a.size(); ++i) all.push_back(a[i] / b[i]);
        return median(all);
    };
    nlohmann::json j = work_of(setup.runtime, setup.executor, setup.trainer.plan(), median(concurrent.step_s));
    j["serial_seconds"] = median(serial.step_s), j["concurrent_seconds"] = median(concurrent.step_s);
    j["gain"] = ratios(serial.step_s, concurrent.step_s);
    j["workers"] = setup.runtime.workers().size(), j["policy"] = setup.runtime.policy();
    j["parameters"] = setup.weights.elements(), j["gflop"] = setup.trainer.flops_of(0) * 1e-9;
    j["forward_serial_seconds"] = median(serial.forward_s);
    j["forward_concurrent_seconds"] = median(concurrent.forward_s);
    j["forward_gain"] = ratios(serial.forward_s, concurrent.forward_s);
    if (alone) j["company"] = company_of(setup.joint, ratios(alone->step_s, concurrent.step_s));
    return j;
}

// The JSON line of a command; if it fails, what its error line and hint say. `what` it is for comes before.
nlohmann::json last_json(const std::string& what, const std::vector<std::string>& words) {
    std::string command, text;
    for (const std::string& w : words) {
        command += command.empty() ? "'" : " '";
        for (char c : w) command += c == '\'' ? "'\\''" : std::string(1, c);
        command += "'";
    }
    FILE* pipe = popen((command + " 2>&1").c_str(), "r");
    check_system(pipe != nullptr, "cannot start '" + words[0] + "'");
    char buffer[4096];
    while (const size_t n = fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, n);
    const int status = pclose(pipe);
    std::string error, hint = "to see more: " + command;
    nlohmann::json j;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("{")) j = nlohmann::json::parse(line, nullptr, false);
        else if (line.starts_with("error: ")) error = line.substr(7);
        else if (line.starts_with("hint: ")) hint = line.substr(6);
    }
    if (status == 0 && j.is_object()) return j;
    const std::string message = what + ": " + (error.empty() ? "the simulation failed" : error);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) throw UsageError(message, hint);
    throw Error(message, hint);
}

std::vector<std::string> network_words(const TrainFlags& f) {
    std::vector<std::string> words = {f.network, "--data",          f.data,    "--batch", std::to_string(f.batch),
                                      "--width", fixed(f.width, 6), "--dtype", f.dtype};
    if (f.input > 0) words.insert(words.end(), {"--input", std::to_string(f.input)});
    return words;
}

// MACHINE:GPUS[:CPUS] on the command line.
struct Simulated {
    std::string text, machine;
    int64_t gpus, cpus = 0;
};
Simulated parse_machine(const std::string& text) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, ':');) parts.push_back(part);
    const auto number = [&](size_t i) {
        if (parts[i].empty() || parts[i].size() > 4 || parts[i].find_first_not_of("0123456789") != std::string::npos)
            throw UsageError("--machines '" + text + "': '" + parts[i] + "' is not a number", "e.g. sirocco:2");
        return int64_t(std::stoll(parts[i]));
    };
    if (parts.size() < 2 || parts.size() > 3 || parts[0].empty())
        throw UsageError("--machines '" + text + "' is not MACHINE:GPUS or MACHINE:GPUS:CPUS", "e.g. sirocco:2");
    return {text, parts[0], number(1), parts.size() > 2 ? number(2) : 0};
}

nlohmann::json simulated(const InteropBench& f, const TrainFlags& train, const Simulated& on) {
    std::vector<std::string> words = {(program_folder() / "tessera").string(),
                                      "simulate",
                                      "--machine",
                                      on.machine,
                                      "--gpus",
                                      std::to_string(on.gpus),
                                      "--cpus",
                                      std::to_string(on.cpus),
                                      "--",
                                      "train"};
    const auto network = network_words(train);
    words.insert(words.end(), network.begin(), network.end());
    words.insert(words.end(), {"--tile", std::to_string(train.tile > 0 ? train.tile : train.batch), "--steps",
                               std::to_string(f.simulated_steps), "--json", "--quiet"});
    if (train.schedules) words.insert(words.end(), {"--schedules", std::to_string(*train.schedules)});
    const auto j = last_json("--machines '" + on.text + "'", words);
    int64_t used = 0;
    for (const auto& device : j["devices"]) used += device["busy"].get<double>() > 0.01;
    return {{"machine", on.machine},
            {"gpus", on.gpus},
            {"cpus", on.cpus},
            {"used", used},
            {"seconds", j["step_seconds"]},
            {"planned", j["planned"]},
            {"bound", j["bound"]},
            {"bound_kind", j["bound_kind"]},
            {"policy", j["policy"]}};
}

void print(const nlohmann::json& j) {
    Table table({"", "op after op", "side by side", "gain"});
    const auto seconds = [&](const char* key) { return human_seconds(j[key]); };
    table.row({"training step", seconds("serial_seconds"), seconds("concurrent_seconds"), fixed(j["gain"], 3)});
    table.row({"forward pass", seconds("forward_serial_seconds"), seconds("forward_concurrent_seconds"),
               fixed(j["forward_gain"], 3)});
    std::cout << table.text() << "\n";
    Table work({"step", ""}, false);
    work.row({"T1",
              human_seconds(j["t1_seconds"]) + ", the sum of " + std::to_string(j["tasks"].get<int64_t>()) + " tasks"});
    work.row({"Tinf", human_seconds(j["tinf_seconds"]) + ", the longest path"});
    work.row({"eta", fixed(j["eta"], 3) + " of the bound (" + j["bound_kind"].get<std::string>() + ", " +
                         human_seconds(j["bound"]) + ")"});
    std::cout << work.text() << "\n";
    if (j.contains("company")) {
        Table chosen({"chosen for its company", "alone", "together", "of"});
        for (const auto& c : j["company"]["changes"])
            chosen.row({c["codelet"].get<std::string>(), std::to_string(c["alone"].get<int>()),
                        std::to_string(c["together"].get<int>()), c["arguments"].get<std::string>()});
        std::cout << chosen.text() << "gain of these: " << fixed(j["company"]["gain"], 3) << ", predicted "
                  << fixed(j["company"]["predicted_gain"], 3) << "\n\n";
    }
    if (j["machines"].empty()) return;
    Table machines({"simulated", "GPUs", "cores", "that work", "step", "speed-up", "bound"});
    std::map<std::string, double> first;
    std::map<std::string, int> lines;
    for (const auto& m : j["machines"]) ++lines[m["machine"].get<std::string>()];
    for (const auto& m : j["machines"]) {
        const double s = m["seconds"];
        const std::string name = m["machine"];
        const double base = first.emplace(name, s).first->second;
        machines.row({name, std::to_string(m["gpus"].get<int64_t>()), std::to_string(m["cpus"].get<int64_t>()),
                      std::to_string(m["used"].get<int64_t>()), human_seconds(s),
                      lines[name] > 1 ? fixed(base / s, 2) : "-",
                      human_seconds(m["bound"]) + " (" + m["bound_kind"].get<std::string>() + ")"});
    }
    std::cout << machines.text() << "the whole batch is one tile there; speed-ups are to the machine's first line\n";
}

}  // namespace

void add_interop_flags(CLI::App& app, InteropBench& f) {
    f.train.data = "cifar10";
    f.train.batch = 64;
    f.machines = {"sirocco:1", "sirocco:2", "sirocco:4", "idgraf:8", "mixed-k40m-m2070:4", "mixed-h100-half:4"};
    app.add_option("network", f.train.network, "One of `tessera networks`")->required()->type_name("NETWORK");
    app.add_option("--data", f.train.data, "Whose shapes the made-up images have")->capture_default_str();
    app.add_option("--batch", f.train.batch, "Images in a step")->capture_default_str()->check(whole_number(1));
    app.add_option("--input", f.train.input, "Height and width of images; default: the data's")->check(whole_number(2));
    app.add_option("--width", f.train.width, "Times all channel counts")
        ->capture_default_str()
        ->check(positive_number());
    app.add_option("--dtype", f.train.dtype, "f32, f64 or bf16")->capture_default_str();
    app.add_option("--tile", f.train.tile, "Images in a tile of the batch; 0 chooses")
        ->capture_default_str()
        ->check(whole_number(0));
    app.add_option("--machines", f.machines, "Simulated, with so many GPUs and cores; none: no simulation")
        ->type_name("NAME:GPUS[:CPUS],...")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--schedules", f.train.schedules, "Tried before tasks are placed on GPUs")->check(whole_number(0));
    app.add_option("--steps", f.steps, "In a round")->capture_default_str()->check(whole_number(1));
    app.add_option("--rounds", f.rounds, "Interleaved repetitions")->capture_default_str()->check(whole_number(1));
    app.add_flag("--json", f.train.common.json, "Last line of stdout is one JSON object");
    app.add_flag("--quiet", f.train.common.quiet, "No progress on stderr");
}

nlohmann::json bench_interop(const InteropBench& f) {
    TrainFlags train = f.train;
    train.common.quiet = true;
    std::vector<Simulated> machines;
    for (const std::string& m : f.machines)
        if (m != "none") machines.push_back(parse_machine(m));
    auto simulations = nlohmann::json::array();  // first: a runtime leaves its variables in the environment
    for (const Simulated& m : machines) {
        f.train.common.progress("simulating " + m.machine + " with " + counted(m.gpus, "GPU") + " and " +
                                counted(m.cpus, "core"));
        simulations.push_back(simulated(f, train, m));
    }
    nlohmann::json j = measured(f, train);
    j["bench"] = "interop", j["network"] = train.network, j["batch"] = train.batch, j["machines"] = simulations;
    print(j);
    return j;
}

}  // namespace tessera
