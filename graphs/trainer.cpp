#include "graphs/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/list_schedule.h"
#include "core/random.h"

namespace tessera {

std::vector<int64_t> epoch_order(int64_t count, uint64_t seed, int64_t epoch) {
    std::vector<int64_t> order(static_cast<size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    const uint64_t stream = 0x5348554646u ^ uint64_t(epoch);
    for (int64_t i = count - 1; i > 0; --i)
        std::swap(order[size_t(i)], order[random_bits(seed, stream, uint64_t(i)) % uint64_t(i + 1)]);
    return order;
}

int64_t default_batch_tile(int64_t batch, int workers, bool deterministic, bool images) {
    const int64_t smallest = images ? 1 : 64;     // fewer rows than 64 make products slow; an image has its pixels
    if (deterministic) return images ? 32 : 128;  // must not depend on the machine
    return std::max(smallest, batch / std::max(1, workers) + (batch % std::max(1, workers) > 0));
}

RowTiles row_tiles_for_cores(int64_t batch, const std::vector<int64_t>& hidden, int cores) {
    constexpr double reading = 46;  // an element takes as long as so many multiplications: docs/decisions/0017
    const auto parts = [](int64_t extent, int64_t tile) { return extent / tile + (extent % tile > 0); };
    // Many more parts than cores gain nothing.
    const auto most = [&](int64_t extent, int64_t least) { return std::clamp<int64_t>(extent / least, 1, 4 * cores); };
    const int64_t widest = hidden.empty() ? 1 : std::ranges::max(hidden);
    RowTiles best;
    double least = INFINITY;
    for (int64_t across = 1; across <= most(widest, 128); ++across)
        for (int64_t down = 1; down <= most(batch, 64); ++down) {
            const int64_t rows = parts(batch, down), tile = parts(widest, across);
            double takes = hidden.empty() ? double(rows) : 0;
            for (const int64_t width : hidden) {
                const auto height = double(rows), columns = double(std::min(width, tile));
                const double rounds = std::ceil(double(down * parts(width, tile)) / cores);
                takes += rounds * (height * columns + reading * (height + columns));
            }
            if (takes < least) least = takes, best = {rows, across == 1 ? 0 : tile};
        }
    return best;
}

static BatchSource source_of(const Dataset& d) {
    return {d.bytes.empty() ? nullptr : d.bytes.data(),
            d.values.empty() ? nullptr : d.values.data(),
            d.labels.data(),
            d.count,
            d.features(),
            d.channels,
            d.mean.data(),
            d.scale.data(),
            d.height,
            d.width};
}

static void check_batch(int64_t batch, const Dataset& train) {
    if (batch > train.count)
        throw Error("a batch of " + std::to_string(batch) + " is larger than the training data (" +
                        std::to_string(train.count) + " samples)",
                    "choose a smaller --batch");
}

struct Trainer::Evaluating {
    BatchSource source;
    std::vector<int64_t> order;
    int64_t batch = 0;
    std::map<int64_t, int> plans;
};

Trainer::Trainer(Executor& executor, const Network& network, const Optimizer& optimizer, const Dataset& train,
                 TrainOptions options)
    : executor_(executor), network_(network), optimizer_(optimizer), options_(options), source_(source_of(train)) {
    check_batch(options_.batch, train);
    steps_per_epoch_ = (train.count + options_.batch - 1) / options_.batch;
    loss_sink_ = [this](int64_t step, double value) {
        if (!std::isfinite(value)) {
            const std::string epoch = std::to_string(step / steps_per_epoch_ + 1);
            throw Error("the loss is " + std::string(std::isnan(value) ? "NaN" : "infinite") + " at step " +
                        std::to_string(step + 1) + " (epoch " + epoch +
                        "); a smaller --lr or --clip may help, TESSERA_CHECK_NAN=1 finds where it comes from");
        }
        arrived(step, &StepResult::loss, value);
    };
    correct_sink_ = [this](int64_t step, double value) { arrived(step, &StepResult::correct, value); };
    eval_loss_sink_ = [this](int64_t, double value) {
        std::lock_guard lock(mutex_);
        eval_loss_ += value;
    };
    eval_correct_sink_ = [this](int64_t, double value) {
        std::lock_guard lock(mutex_);
        eval_correct_ += value;
    };
    const int64_t last = train.count - (steps_per_epoch_ - 1) * options_.batch;
    if (steps_per_epoch_ > 1 || last == options_.batch)
        training_[options_.batch] = make_plan(source_, options_.batch, true);
    if (last == options_.batch) return;
    try {
        training_[last] = make_plan(source_, last, true);
    } catch (const std::invalid_argument& e) {  // that is possible for a full batch
        if (training_.empty()) throw;
        throw Error("the last batch of an epoch has " + std::to_string(last) + " of " + std::to_string(train.count) +
                        " samples (" + std::to_string(train.count) + " mod " + std::to_string(options_.batch) +
                        "): " + e.what(),
                    "choose a --batch that leaves another number");
    }
}

void Trainer::arrived(int64_t step, double StepResult::*part, double value) {
    std::lock_guard lock(mutex_);
    StepResult& r = partial_[step];
    r.step = step, r.*part = value, ++r.parts;
}

Trainer::~Trainer() { executor_.drain(); }  // tasks in flight use our sinks and orders

// The labels of a batch and what the network makes of it.
static std::pair<Tensor, Outputs> batch_outputs(Graph& g, const Network& network, const BatchSource& source,
                                                int64_t batch, const TrainOptions& options, bool training) {
    const auto rows = cut(batch, options.tile_batch);
    const Maps x = network.takes_images()
                       ? load_images(g, source, network.image, rows, options.dtype,
                                     training ? options.augmentation : Augmentation{})
                       : Maps{load_features(g, source, batch, options.dtype, {rows, {source.features}})};
    const Tensor labels = load_labels(g, source, batch, {rows, {1}});
    return {labels, network.outputs(g, x, training)};
}

int64_t batch_tile_for_width(const Network& network, const Optimizer& optimizer, const Dataset& data,
                             TrainOptions options, int workers) {
    constexpr double as_busy = 1.03;
    check_batch(options.batch, data);
    const BatchSource source = source_of(data);
    const Devices equal{std::vector<int>(size_t(workers)), std::vector<int>(size_t(workers)), {{0.0}}, {{0.0}}};
    const int64_t most = std::min<int64_t>(options.batch, 2 * workers);
    std::vector<std::pair<double, int64_t>> tried;  // seconds, tile
    for (int64_t parts = 1; parts <= most; parts += (parts + 3) / 4) {
        options.tile_batch = (options.batch + parts - 1) / parts;
        Graph g;
        const auto [labels, outputs] = batch_outputs(g, network, source, options.batch, options, true);
        optimizer.minimize(classification_loss(outputs, labels, options.label_smoothing));
        const Plan plan(g);
        tried.push_back(
            {ListScheduler(plan, {estimated_times(plan)}, equal, false).greedy({}).step_s, options.tile_batch});
    }
    const double best = std::min_element(tried.begin(), tried.end())->first;
    return std::find_if(tried.begin(), tried.end(), [&](auto& t) { return t.first <= as_busy * best; })->second;
}

int Trainer::make_plan(const BatchSource& source, int64_t batch, bool training) {
    Graph g;
    const auto [labels, outputs] = batch_outputs(g, network_, source, batch, options_, training);
    Graph::Layer scope(g, "loss");
    Tensor loss = classification_loss(outputs, labels, training ? options_.label_smoothing : 0);
    Tensor correct = count_correct(outputs.logits, labels);
    if (training) {
        report(loss, loss_sink_);
        report(correct, correct_sink_);
        optimizer_.minimize(loss);
    } else {
        report(scale(loss, double(batch)), eval_loss_sink_);
        report(correct, eval_correct_sink_);
    }
    return executor_.load(Plan(g), {.share = true});
}

int64_t Trainer::batch_of(int64_t step) const {
    const int64_t first = step % steps_per_epoch_ * options_.batch;
    return std::min(options_.batch, source_.count - first);
}

double Trainer::flops_of(int64_t step) const { return executor_.plan(training_.at(batch_of(step))).flops(); }

void Trainer::step() {
    const int64_t epoch = next_step_ / steps_per_epoch_, in_epoch = next_step_ % steps_per_epoch_;
    if (!orders_.contains(epoch)) {
        orders_[epoch] = epoch_order(source_.count, options_.seed, epoch);
        // Steps in flight may still read the epochs before; each keeps at most steps_in_flight steps behind.
        while (int64_t(orders_.size()) > executor_.options().steps_in_flight + 1) orders_.erase(orders_.begin());
    }
    Step step;
    step.number = next_step_;
    step.seed = options_.seed;
    step.learning_rate = learning_rate(options_.schedule, optimizer_.options().learning_rate, next_step_,
                                       steps_per_epoch_, options_.epochs);
    step.batch = orders_[epoch].data() + in_epoch * options_.batch;
    executor_.submit(training_.at(batch_of(next_step_)), step);
    ++next_step_;
}

std::vector<StepResult> Trainer::take_results() {
    std::lock_guard lock(mutex_);
    std::vector<StepResult> ready;
    while (!partial_.empty() && partial_.begin()->second.parts == 2) {
        ready.push_back(partial_.begin()->second);
        partial_.erase(partial_.begin());
    }
    return ready;
}

void Trainer::prepare_evaluation(const Dataset& data) {
    auto& e = evaluating_[&data];
    if (e) return;
    e = std::make_unique<Evaluating>();
    e->source = source_of(data);
    e->order.resize(size_t(data.count));
    std::iota(e->order.begin(), e->order.end(), 0);
    e->batch = std::min(data.count, options_.batch);  // as in training: the tiles are there
    for (int64_t n : {e->batch, data.count % e->batch})
        if (n > 0 && !e->plans.contains(n)) e->plans[n] = make_plan(e->source, n, false);
}

Trainer::Evaluation Trainer::evaluate(const Dataset& data) {
    prepare_evaluation(data);
    auto& e = evaluating_[&data];
    eval_loss_ = eval_correct_ = 0;
    for (int64_t first = 0; first < data.count; first += e->batch) {
        const int64_t n = std::min(e->batch, data.count - first);
        Step step;
        step.batch = e->order.data() + first;
        executor_.submit(e->plans[n], step);
    }
    executor_.wait();
    return {eval_correct_ / double(data.count), eval_loss_ / double(data.count)};
}

}  // namespace tessera
