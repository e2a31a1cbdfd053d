// tessera train NETWORK: data, network, optimizer and loss put together from flags; progress, metrics, checkpoints,
// table.
#include <starpu.h>

#ifndef STARPU_SIMGRID  // there it is that of simulated_train.cpp
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <cmath>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>

#include "apps/metrics.h"
#include "apps/plot.h"
#include "apps/progress.h"
#include "apps/summary.h"
#include "apps/table.h"
#include "apps/train_setup.h"
#include "core/error.h"
#include "core/file.h"
#include "graphs/checkpoint.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Curves {
    std::vector<double> step, loss, epoch_step, accuracy;
};

class Training {
 public:
    explicit Training(const TrainFlags& f);
    int run();

 private:
    void epoch(int64_t number);
    void take_results();
    std::string epoch_so_far() const;
    double epoch_mean(double sum) const { return sum / double(std::max<int64_t>(1, epoch_samples_)); }
    void resume_epoch(const std::string& note);
    void resume_curves();
    void draw_curves() const;
    void print_result(double seconds);

    const TrainFlags& flags_;
    Clock::time_point start_ = Clock::now();
    TrainSetup setup_;
    Runtime& runtime_ = setup_.runtime;
    const Split& data_ = setup_.data;
    Executor& executor_ = setup_.executor;
    Trainer& trainer_ = setup_.trainer;
    std::unique_ptr<Checkpoint> checkpoint_;
    std::unique_ptr<Metrics> metrics_;
    Progress progress_;
    MemoryPeak memory_;
    Curves curves_;
    int64_t first_step_ = 0, samples_ = 0;
    double train_s_ = 0, flops_ = 0, epoch_loss_ = 0, epoch_correct_ = 0, last_loss_ = NAN, accuracy_ = NAN,
           setup_s_ = 0;
    int64_t epoch_samples_ = 0;
    Clock::time_point epoch_start_;
    WorkerCounters counters_{runtime_, executor_};
    WorkerClock clock_, spent_;
};

// With --quiet, too: it says what the results are of.
Split load(const TrainFlags& f) {
    Split split = load_data(f.data, f.validation.value_or(-1), f.common.seed);
    if (!split.note.empty()) std::cerr << "data: " << split.note << std::endl;
    return split;
}

Training::Training(const TrainFlags& f)
    : flags_(f), setup_(f, [&] { return load(f); }), progress_(f.common.quiet, isatty(2)) {
    if (!f.checkpoint.empty())
        checkpoint_ = std::make_unique<Checkpoint>(
            executor_, std::vector<const Params*>{&setup_.weights, &setup_.optimizer.state()}, checkpoint_file(f),
            setup_.facts());
    if (f.resume && checkpoint_->exists()) {
        const Checkpoint::Found found = checkpoint_->load();
        first_step_ = found.step;
        if (first_step_ > trainer_.total_steps())
            throw Error("checkpoint '" + checkpoint_->file().string() + "' is at step " + std::to_string(first_step_) +
                        ", beyond the " + std::to_string(trainer_.total_steps()) + " steps of this run");
        resume_epoch(found.note);
        trainer_.resume_at(first_step_);
        progress_.message("resumed at step " + std::to_string(first_step_) + " of " +
                          std::to_string(trainer_.total_steps()));
    }
    metrics_ = std::make_unique<Metrics>(f.metrics, first_step_);
    resume_curves();
    if (runtime_.cuda_workers() > 0) starpu_profiling_status_set(STARPU_PROFILING_ENABLE);
    setup_s_ = seconds_since(start_);
}

// A checkpoint within an epoch carries what the epoch has come to, so that its line covers all of it.
std::string Training::epoch_so_far() const {
    return nlohmann::json{{"loss", epoch_loss_}, {"correct", epoch_correct_}, {"samples", epoch_samples_}}.dump();
}

void Training::resume_epoch(const std::string& note) {
    const int64_t steps = first_step_ % trainer_.steps_per_epoch(), samples = steps * flags_.batch;
    if (steps == 0) return;
    const auto j = nlohmann::json::parse(note, nullptr, false);
    const auto number = [&](const char* key, double least, double most) {
        const double x = j.is_object() && j.contains(key) && j[key].is_number() ? j[key].get<double>() : NAN;
        if (!(x >= least && x <= most))
            throw Error("checkpoint '" + checkpoint_->file().string() +
                        "' does not say what its epoch had come to: " + std::to_string(samples) +
                        " samples, of which it notes " + (note.empty() ? "nothing" : in_quotes(note)));
        return x;
    };
    const double most_loss = double(samples) * std::numeric_limits<float>::max();
    epoch_loss_ = number("loss", -most_loss, most_loss);
    epoch_correct_ = number("correct", 0, double(samples));
    epoch_samples_ = int64_t(number("samples", double(samples), double(samples)));
}

// What the run before wrote down belongs into the picture of the whole.
void Training::resume_curves() {
    const auto number = [](const nlohmann::json& j, const char* key) {
        return j.contains(key) && j[key].is_number() ? j[key].get<double>() : NAN;
    };
    for (const nlohmann::json& j : metrics_->kept()) {
        const double step = number(j, "step") + 1, loss = number(j, "loss"), accuracy = number(j, "test_accuracy");
        if (std::isfinite(loss)) curves_.step.push_back(step), curves_.loss.push_back(loss);
        if (std::isfinite(accuracy)) curves_.epoch_step.push_back(step), curves_.accuracy.push_back(100 * accuracy);
    }
}

void Training::take_results() {
    for (const StepResult& r : trainer_.take_results()) {
        const int64_t n = trainer_.batch_of(r.step);
        last_loss_ = r.loss;
        epoch_loss_ += r.loss * double(n), epoch_correct_ += r.correct, epoch_samples_ += n;
        samples_ += n, flops_ += trainer_.flops_of(r.step);
        curves_.step.push_back(double(r.step + 1)), curves_.loss.push_back(r.loss);
        metrics_->line({{"step", r.step}, {"loss", r.loss}, {"accuracy", r.correct / double(n)}});
    }
}

void Training::epoch(int64_t number) {
    const int64_t last = number * trainer_.steps_per_epoch();
    if (trainer_.next_step() % trainer_.steps_per_epoch() == 0) epoch_loss_ = epoch_correct_ = 0, epoch_samples_ = 0;
    const int64_t samples_before = epoch_samples_;
    epoch_start_ = Clock::now();
    const double flops_before = flops_;
    while (trainer_.next_step() < last) {
        trainer_.step();
        take_results();
        const int64_t done = trainer_.next_step();
        if (checkpoint_ && flags_.every > 0 && done % flags_.every == 0 && done != last) {
            trainer_.wait();  // a run killed here resumes at this step: the metrics of all before must be in their file
            take_results();
            checkpoint_->save(done, epoch_so_far());
        }
        if (done == first_step_ + 3) memory_.sample(executor_);
        const double spent = train_s_ + seconds_since(epoch_start_);
        ProgressState p;
        p.epoch = number, p.epochs = flags_.epochs;
        p.steps_in_epoch = trainer_.steps_per_epoch(), p.step = done - last + p.steps_in_epoch;
        p.done_steps = done, p.total_steps = trainer_.total_steps();
        p.loss = last_loss_;
        if (epoch_samples_ > 0) p.accuracy = epoch_correct_ / double(epoch_samples_);
        if (samples_ > 0) {  // a result has arrived: before, only submission was timed
            p.samples_per_s = double(samples_) / spent, p.gflops = flops_ / spent * 1e-9;
            p.eta_s = spent / double(done - first_step_) * double(p.total_steps - done);
        }
        progress_.update(p);
    }
    trainer_.wait();
    take_results();
    const double seconds = seconds_since(epoch_start_);
    train_s_ += seconds;
    memory_.sample(executor_);
    const WorkerClock before = counters_.now();
    EpochSummary s;
    if (data_.test.count > 0) s.test_accuracy = accuracy_ = trainer_.evaluate(data_.test).accuracy;
    const WorkerClock after = counters_.now();
    for (size_t w = 0; w < after.busy_s.size(); ++w) {  // evaluation is not training
        clock_.busy_s[w] += after.busy_s[w] - before.busy_s[w];
        clock_.transfer_s[w] += after.transfer_s[w] - before.transfer_s[w];
    }
    s.epoch = number, s.epochs = flags_.epochs;
    s.test_name = data_.separate_test ? "test" : "held-out";
    s.loss = epoch_mean(epoch_loss_), s.accuracy = epoch_mean(epoch_correct_);
    s.samples_per_s = double(epoch_samples_ - samples_before) / seconds,
    s.gflops = (flops_ - flops_before) / seconds * 1e-9, s.seconds = seconds;
    progress_.line(s);
    nlohmann::json line = {{"epoch", number},
                           {"step", last - 1},
                           {"train_loss", s.loss},
                           {"train_accuracy", s.accuracy},
                           {"seconds", seconds}};
    if (std::isfinite(accuracy_)) line["test_accuracy"] = accuracy_;
    metrics_->line(line);
    if (checkpoint_) checkpoint_->save(last);  // after the line: a run killed here resumes behind this epoch
    curves_.epoch_step.push_back(double(last)), curves_.accuracy.push_back(100 * accuracy_);
}

int Training::run() {
    setup_.write_dag();
    clock_ = counters_.now();
    for (int64_t e = first_step_ / trainer_.steps_per_epoch() + 1; e <= flags_.epochs; ++e) epoch(e);
    if (train_s_ == 0 && data_.test.count > 0)
        accuracy_ = trainer_.evaluate(data_.test).accuracy;  // nothing left to train
    spent_ = counters_.now();
    if (checkpoint_) checkpoint_->wait();
    progress_.finish();
    print_result(train_s_);  // before files that may fail
    flags_.common.write_trace(setup_.trace.get(), setup_.plans());
    draw_curves();
    return 0;
}

void Training::draw_curves() const {
    if (flags_.plot.empty()) return;
    Chart chart;
    chart.title = flags_.network + " on " + data_.train.name;
    chart.x_label = "step", chart.y_label = "training loss", chart.right_label = "accuracy, %";
    chart.log_y = true;
    Series loss{"", curves_.step, curves_.loss};
    loss.faint = true, loss.color = 0;
    Series smooth = smoothed(loss, std::max(5.0, double(curves_.step.size()) / 50), "loss, smoothed");
    smooth.faint = false, smooth.color = 0;
    Series accuracy{data_.separate_test ? "test accuracy" : "held-out accuracy", curves_.epoch_step, curves_.accuracy};
    accuracy.right_axis = true, accuracy.color = 1;
    chart.series = {loss, smooth, accuracy};
    chart.right_range = {{0, 100}};
    write_file(flags_.plot, svg(chart));
}

void Training::print_result(double seconds) {
    const int64_t steps = trainer_.next_step() - first_step_;
    const Bound bound = steps > 0 ? measured_bound(runtime_, executor_, trainer_.plan()) : Bound{};
    const double bound_s =
        bound.seconds * double(steps) * double(samples_) / double(std::max<int64_t>(1, steps * flags_.batch));
    const double efficiency = seconds > 0 ? bound_s / seconds : NAN;
    Table table({"", ""}, false);
    const std::string accuracy_name = data_.separate_test ? "test accuracy" : "held-out accuracy";
    table.row({"network", flags_.network + ", " + human_count(double(setup_.weights.elements())) + " parameters"});
    if (std::isfinite(accuracy_)) table.row({accuracy_name, fixed(100 * accuracy_, 2) + " %"});
    if (steps == 0)
        table.row(
            {"training", "nothing left to do: all " + std::to_string(trainer_.total_steps()) + " steps are done"});
    if (steps > 0) {
        table.row({"training", std::to_string(steps) + " steps in " + human_seconds(seconds) + ", " +
                                   human_count(double(samples_) / seconds) + " samples/s, " +
                                   fixed(flops_ / seconds * 1e-9, 1) + " GFLOP/s; set-up " + human_seconds(setup_s_)});
        table.row({"efficiency",
                   fixed(100 * efficiency, 1) + " % of the bound (" + bound.kind + ", " + human_seconds(bound_s) + ")" +
                       (efficiency > 1 ? "; above 100 % is suspicious: the machine's speed drifted" : "")});
    }
    table.row({"memory",
               human_bytes(memory_.total()) + " of live tiles at the peak, " + human_bytes(rss_bytes()) + " resident"});
    const auto traffic = setup_.trace ? setup_.trace->link_bytes() : std::vector<std::array<int64_t, 3>>{};
    const auto name = [](int64_t node) { return node_name(unsigned(node)); };
    for (const auto& [from, to, bytes] : traffic)
        table.row({"traffic", human_bytes(bytes) + " from " + name(from) + " to " + name(to)});
    std::cout << table.text();
    Table workers({"worker", "tasks", "transfers", "idle"});
    for (const WorkerShare& w : worker_shares(runtime_, clock_, spent_, seconds > 0 ? seconds : 1))
        workers.row({w.name, fixed(100 * w.tasks, 1) + " %", fixed(100 * w.transfers, 1) + " %",
                     fixed(100 * w.idle, 1) + " %"});
    std::cout << "\n" << workers.text();
    if (!flags_.common.json) return;
    nlohmann::json j = {{"network", flags_.network},
                        {"parameters", setup_.weights.elements()},
                        {"epochs", flags_.epochs},
                        {"steps", steps},
                        {"seconds", seconds},
                        {"setup_seconds", setup_s_},
                        {"tasks", executor_.submitted_tasks()},
                        {"peak_memory_bytes", {{"per_node", memory_.per_node()}, {"sum", memory_.total()}}},
                        {"rss_bytes", rss_bytes()},
                        {"policy", runtime_.policy()},
                        {"workers", runtime_.workers().size()}};
    for (const auto& [from, to, bytes] : traffic)
        j["bytes"].push_back({{"from", name(from)}, {"to", name(to)}, {"bytes", bytes}});
    if (std::isfinite(accuracy_)) j["test_accuracy"] = accuracy_;
    if (steps > 0) {
        j["samples_per_s"] = double(samples_) / seconds, j["gflops"] = flops_ / seconds * 1e-9;
        j["train_loss"] = epoch_mean(epoch_loss_);  // of the last epoch
        j["efficiency"] = efficiency, j["bound"] = bound_s, j["bound_kind"] = bound.kind;
    }
    std::cout << j.dump() << std::endl;
}

}  // namespace

Command add_train(CLI::App& app) {
    auto flags = std::make_shared<TrainFlags>();
    add_train_flags(app, *flags);
    return [flags] { return Training(*flags).run(); };
}

}  // namespace tessera
#endif
