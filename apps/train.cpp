// tessera train NETWORK: data, network, optimizer and loss put together from flags; progress, metrics, checkpoints,
// table.
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/metrics.h"
#include "apps/options.h"
#include "apps/plot.h"
#include "apps/progress.h"
#include "apps/summary.h"
#include "apps/table.h"
#include "core/error.h"
#include "core/file.h"
#include "graphs/checkpoint.h"
#include "graphs/trainer.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Flags {
    CommonOptions common;
    std::string network, data = "digits", schedule = "constant", dtype = "f32", hidden = "512,512", activation = "relu";
    std::string checkpoint, metrics, plot;
    double validation = -1, dropout = 0, label_smoothing = 0, learning_rate = 0;
    int64_t epochs = 5, batch = 128, tile = 0, every = 0;
    bool resume = false;
    OptimizerOptions optimizer;
};

void add_flags(CLI::App& app, Flags& f) {
    app.add_option("network", f.network, "mlp")->required()->type_name("NETWORK");
    app.add_option("--data", f.data, "digits[:N], mnist:DIR, cifar10:DIR, cifar100:DIR or npy:X,Y")
        ->type_name("KIND:PATH")
        ->capture_default_str()
        ->group("Data");
    app.add_option("--validation", f.validation, "Last fraction of the training data, held out")->group("Data");
    app.add_option("--hidden", f.hidden, "Widths of the hidden layers")
        ->type_name("N,N,...")
        ->capture_default_str()
        ->group("Network");
    app.add_option("--activation", f.activation, join(activation_names(), ", "))
        ->capture_default_str()
        ->group("Network");
    app.add_option("--dropout", f.dropout, "Probability of dropping a hidden value")
        ->capture_default_str()
        ->group("Network");
    app.add_option("--dtype", f.dtype, "f32, f64, or bf16 (weights stay f32)")->capture_default_str()->group("Network");
    app.add_option("--epochs", f.epochs)->capture_default_str()->check(whole_number(1))->group("Training");
    app.add_option("--batch", f.batch)->capture_default_str()->check(whole_number(1))->group("Training");
    app.add_option("--optimizer", f.optimizer.kind, "sgd, adam or adamw")->capture_default_str()->group("Training");
    app.add_option("--lr", f.learning_rate, "Learning rate; default 0.1 for sgd, 0.001 for adam and adamw")
        ->check(positive_number())
        ->group("Training");
    app.add_option("--momentum", f.optimizer.momentum, "For sgd")->capture_default_str()->group("Training");
    app.add_flag("--nesterov", f.optimizer.nesterov, "For sgd")->group("Training");
    app.add_option("--weight-decay", f.optimizer.weight_decay, "L2 for sgd and adam, decoupled for adamw")
        ->capture_default_str()
        ->group("Training");
    app.add_option("--clip", f.optimizer.clip, "Largest global norm of the gradients; 0 does not clip")
        ->capture_default_str()
        ->group("Training");
    app.add_option("--schedule", f.schedule, "constant, step or cosine, each with :N warm-up steps")
        ->capture_default_str()
        ->group("Training");
    app.add_option("--label-smoothing", f.label_smoothing)->capture_default_str()->group("Training");
    app.add_option("--tile", f.tile, "Largest extent of a tile of batch or weights; 0 chooses")
        ->capture_default_str()
        ->check(whole_number(0))
        ->group("Execution");
    app.add_option("--checkpoint", f.checkpoint, "Folder for checkpoint.safetensors")
        ->type_name("DIR")
        ->check(not_empty())
        ->group("Output");
    app.add_option("--every", f.every, "Steps between checkpoints; 0: at the end of every epoch")
        ->capture_default_str()
        ->check(whole_number(0))
        ->group("Output");
    app.add_flag("--resume", f.resume, "Go on from the checkpoint if there is one")->group("Output");
    app.add_option("--metrics", f.metrics, "One JSON line per step and epoch")
        ->type_name("FILE.jsonl")
        ->check(not_empty())
        ->group("Output");
    app.add_option("--plot", f.plot, "Curves of loss and accuracy")
        ->type_name("FILE.svg")
        ->check(not_empty())
        ->group("Output");
    f.common.add_to(app);
}

struct Curves {
    std::vector<double> step, loss, epoch_step, accuracy;
};

class Training {
 public:
    explicit Training(const Flags& f);
    int run();

 private:
    void epoch(int64_t number);
    void take_results();
    void dag_outputs();
    void draw_curves() const;
    void print_result(double seconds);
    std::map<std::string, std::string> facts() const;
    const Dataset& held_out() const { return data_.test.count > 0 ? data_.test : data_.validation; }

    const Flags& flags_;
    Clock::time_point start_ = Clock::now();
    Runtime runtime_;
    Split data_;
    Params weights_;
    Network network_;
    Optimizer optimizer_;
    Executor executor_;
    Trainer trainer_;
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
    WorkerClock clock_, spent_;
};

// Everything that can be found wrong without a runtime is found before one is started.
const Flags& checked(const Flags& f) {
    parse_dtype(f.dtype), parse_widths(f.hidden), parse_schedule(f.schedule), parse_activation(f.activation);
    if (!(f.dropout >= 0 && f.dropout < 1)) throw UsageError("--dropout must be in [0, 1)");
    if (!(f.label_smoothing >= 0 && f.label_smoothing < 1)) throw UsageError("--label-smoothing must be in [0, 1)");
    if (f.validation != -1 && !(f.validation >= 0 && f.validation < 1))
        throw UsageError("--validation must be in [0, 1)");
    if (f.resume && f.checkpoint.empty()) throw UsageError("--resume needs --checkpoint DIR");
    if (f.every > 0 && f.checkpoint.empty()) throw UsageError("--every needs --checkpoint DIR");
    if (f.network != "mlp")
        throw UsageError("unknown network '" + f.network + "'", suggestion_or_list(f.network, {"mlp"}));
    if (!f.plot.empty()) require_writable(f.plot, "--plot");
    if (!f.common.dag.empty()) require_writable(f.common.dag, "--dag");
    if (!f.metrics.empty()) require_writable(f.metrics, "--metrics");
    if (!f.checkpoint.empty()) {
        std::error_code failure;
        std::filesystem::create_directories(f.checkpoint, failure);
        if (failure) throw Error("--checkpoint: cannot make the folder '" + f.checkpoint + "': " + failure.message());
        require_writable(std::filesystem::path(f.checkpoint) / "checkpoint.safetensors", "--checkpoint");
    }
    return f;
}

NetworkOptions network_options(const Flags& f, const Split& data) {
    NetworkOptions o;
    o.inputs = data.train.features();
    o.classes = data.train.classes;
    o.hidden = parse_widths(f.hidden);
    o.activation = parse_activation(f.activation);
    o.dropout = f.dropout;
    o.dtype = parse_dtype(f.dtype);
    o.tile_features = f.tile;
    o.seed = f.common.seed;
    return o;
}

OptimizerOptions optimizer_options(const Flags& f) {
    OptimizerOptions o = f.optimizer;
    o.learning_rate = f.learning_rate > 0 ? f.learning_rate : o.kind == "sgd" ? 0.1 : 0.001;
    return o;
}

TrainOptions train_options(const Flags& f, const Runtime& runtime) {
    TrainOptions o;
    o.epochs = f.epochs;
    o.batch = f.batch;
    const int workers = runtime.cuda_workers() > 0 ? runtime.cuda_workers() : runtime.cpu_workers();
    o.tile_batch = f.tile > 0 ? f.tile : default_batch_tile(f.batch, workers, f.common.deterministic);
    o.dtype = parse_dtype(f.dtype);
    o.label_smoothing = f.label_smoothing;
    o.schedule = parse_schedule(f.schedule);
    o.seed = f.common.seed;
    return o;
}

Training::Training(const Flags& f)
    : flags_(checked(f)),
      runtime_(f.common.runtime()),
      data_(load_data(f.data, f.validation, f.common.seed)),
      network_(make_network(f.network, weights_, network_options(f, data_))),
      optimizer_(optimizer_options(f), weights_),
      executor_(runtime_, f.common.executor(runtime_.config())),
      trainer_(executor_, network_, optimizer_, data_.train, train_options(f, runtime_)),
      progress_(f.common.quiet, isatty(2)) {
    if (!f.checkpoint.empty())
        checkpoint_ =
            std::make_unique<Checkpoint>(executor_, std::vector<const Params*>{&weights_, &optimizer_.state()},
                                         std::filesystem::path(f.checkpoint) / "checkpoint.safetensors", facts());
    if (f.resume && checkpoint_->exists()) {
        first_step_ = checkpoint_->load();
        if (first_step_ > trainer_.total_steps())
            throw Error("checkpoint '" + checkpoint_->file().string() + "' is at step " + std::to_string(first_step_) +
                        ", beyond the " + std::to_string(trainer_.total_steps()) + " steps of this run");
        trainer_.resume_at(first_step_);
        progress_.message("resumed at step " + std::to_string(first_step_) + " of " +
                          std::to_string(trainer_.total_steps()));
    }
    metrics_ = std::make_unique<Metrics>(f.metrics, first_step_);
    if (runtime_.cuda_workers() > 0) starpu_profiling_status_set(STARPU_PROFILING_ENABLE);
    setup_s_ = seconds_since(start_);
}

// What a checkpoint must agree on with the run that resumes it.
std::map<std::string, std::string> Training::facts() const {
    const auto number = [](double x) { return nlohmann::json(x).dump(); };
    const auto& o = optimizer_.options();
    // A constant rate may go on for more epochs; the other schedules depend on the end.
    const bool constant = parse_schedule(flags_.schedule).kind == Schedule::Kind::constant;
    return {{"network", flags_.network},
            {"hidden", flags_.hidden},
            {"activation", flags_.activation},
            {"dtype", flags_.dtype},
            {"dropout", number(flags_.dropout)},
            {"data", data_.train.name},
            {"samples", std::to_string(data_.train.count)},
            {"batch", std::to_string(flags_.batch)},
            {"optimizer", o.kind},
            {"lr", number(o.learning_rate)},
            {"momentum", number(o.momentum)},
            {"nesterov", o.nesterov ? "1" : "0"},
            {"weight_decay", number(o.weight_decay)},
            {"clip", number(o.clip)},
            {"label_smoothing", number(flags_.label_smoothing)},
            {"schedule",
             constant ? flags_.schedule : flags_.schedule + " over " + std::to_string(flags_.epochs) + " epochs"},
            {"seed", std::to_string(flags_.common.seed)}};
}

void Training::dag_outputs() {
    const Plan& plan = executor_.plan(trainer_.plan());
    if (!flags_.common.dag.empty()) write_file(flags_.common.dag, to_dot(plan, flags_.common.deterministic));
    if (!flags_.common.dag_stats) return;
    const DagStats s = dag_stats(plan, estimated_times(plan), flags_.common.deterministic);
    std::cout << "one step, estimated from flops and bytes: " << s.tasks << " tasks, " << s.edges
              << " dependencies, T1 " << human_seconds(s.t1) << ", Tinf " << human_seconds(s.t_inf) << ", T1/Tinf "
              << fixed(s.parallelism(), 2) << ", width " << s.width << "\n";
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
    epoch_loss_ = epoch_correct_ = 0, epoch_samples_ = 0;
    epoch_start_ = Clock::now();
    const double flops_before = flops_;
    while (trainer_.next_step() < last) {
        trainer_.step();
        take_results();
        const int64_t done = trainer_.next_step();
        if (checkpoint_ && flags_.every > 0 && done % flags_.every == 0 && done != last) {
            trainer_.wait();  // a run killed here resumes at this step: the metrics of all before must be in their file
            take_results();
            checkpoint_->save(done);
        }
        if (done == first_step_ + 3) memory_.sample(executor_);
        const double spent = train_s_ + seconds_since(epoch_start_);
        ProgressState p;
        p.epoch = number, p.epochs = flags_.epochs;
        p.steps_in_epoch = trainer_.steps_per_epoch(), p.step = done - last + p.steps_in_epoch;
        p.done_steps = done, p.total_steps = trainer_.total_steps();
        p.loss = last_loss_;
        if (epoch_samples_ > 0) p.accuracy = epoch_correct_ / double(epoch_samples_);
        p.samples_per_s = double(samples_) / spent, p.gflops = flops_ / spent * 1e-9;
        p.eta_s = spent / double(done - first_step_) * double(p.total_steps - done);
        progress_.update(p);
    }
    trainer_.wait();
    take_results();
    const double seconds = seconds_since(epoch_start_);
    train_s_ += seconds;
    memory_.sample(executor_);
    const WorkerClock before = WorkerClock::now(runtime_, executor_);
    EpochSummary s;
    if (held_out().count > 0) s.test_accuracy = accuracy_ = trainer_.evaluate(held_out()).accuracy;
    const WorkerClock after = WorkerClock::now(runtime_, executor_);
    for (size_t w = 0; w < after.busy_s.size(); ++w) {  // evaluation is not training
        clock_.busy_s[w] += after.busy_s[w] - before.busy_s[w];
        clock_.transfer_s[w] += after.transfer_s[w] - before.transfer_s[w];
    }
    s.epoch = number, s.epochs = flags_.epochs;
    s.test_name = data_.separate_test ? "test" : "held-out";
    const double n = double(std::max<int64_t>(1, epoch_samples_));
    s.loss = epoch_loss_ / n, s.accuracy = epoch_correct_ / n;
    s.samples_per_s = double(epoch_samples_) / seconds, s.gflops = (flops_ - flops_before) / seconds * 1e-9,
    s.seconds = seconds;
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
    dag_outputs();
    clock_ = WorkerClock::now(runtime_, executor_);
    for (int64_t e = first_step_ / trainer_.steps_per_epoch() + 1; e <= flags_.epochs; ++e) epoch(e);
    if (train_s_ == 0 && held_out().count > 0)
        accuracy_ = trainer_.evaluate(held_out()).accuracy;  // nothing left to train
    spent_ = WorkerClock::now(runtime_, executor_);
    if (checkpoint_) checkpoint_->wait();
    progress_.finish();
    draw_curves();
    print_result(train_s_);
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
    table.row({"network", flags_.network + ", " + human_count(double(weights_.elements())) + " parameters"});
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
    std::cout << table.text();
    Table workers({"worker", "tasks", "transfers", "idle"});
    for (const WorkerShare& w : worker_shares(runtime_, clock_, spent_, seconds > 0 ? seconds : 1))
        workers.row({w.name, fixed(100 * w.tasks, 1) + " %", fixed(100 * w.transfers, 1) + " %",
                     fixed(100 * w.idle, 1) + " %"});
    std::cout << "\n" << workers.text();
    if (!flags_.common.json) return;
    nlohmann::json j = {{"network", flags_.network},
                        {"parameters", weights_.elements()},
                        {"epochs", flags_.epochs},
                        {"steps", steps},
                        {"train_loss", last_loss_},
                        {"samples_per_s", double(samples_) / seconds},
                        {"gflops", flops_ / seconds * 1e-9},
                        {"seconds", seconds},
                        {"setup_seconds", setup_s_},
                        {"tasks", executor_.submitted_tasks()},
                        {"efficiency", efficiency},
                        {"bound", bound_s},
                        {"bound_kind", bound.kind},
                        {"peak_memory_bytes", {{"per_node", memory_.per_node()}, {"sum", memory_.total()}}},
                        {"rss_bytes", rss_bytes()},
                        {"policy", runtime_.policy()},
                        {"workers", runtime_.workers().size()}};
    if (std::isfinite(accuracy_)) j["test_accuracy"] = accuracy_;
    std::cout << j.dump() << std::endl;
}

}  // namespace

Command add_train(CLI::App& app) {
    auto flags = std::make_shared<Flags>();
    add_flags(app, *flags);
    return [flags] { return Training(*flags).run(); };
}

}  // namespace tessera
