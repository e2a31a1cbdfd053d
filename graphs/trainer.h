// graphs/trainer.h - a network, a loss, an optimizer and data put together: one plan per (mode, batch size), batches
// drawn from (seed, epoch) alone, results recorded as they arrive. Nothing here waits inside an epoch.
#pragma once
#include <functional>
#include <map>
#include <mutex>
#include <optional>

#include "codelets/load.h"
#include "core/executor.h"
#include "data/dataset.h"
#include "graphs/network.h"
#include "graphs/optimizer.h"
#include "graphs/schedule.h"

namespace tessera {

struct TrainOptions {
    int64_t epochs = 1, batch = 128;
    int64_t tile_batch = 0;  // largest extent of a tile of the batch; 0: whole batches
    DType dtype = DType::f32;
    double label_smoothing = 0;
    Schedule schedule;
    Augmentation augmentation = {};  // of training images
    uint64_t seed = 1;
};

struct StepResult {
    int64_t step = 0;  // over the whole training
    double loss = 0, correct = 0;
    int parts = 0;  // of the two values above, how many have arrived
};

// The order of an epoch's samples: Fisher-Yates from the last to the first with random_bits(seed, "SHFF" ^ epoch, i).
std::vector<int64_t> epoch_order(int64_t count, uint64_t seed, int64_t epoch);

// The tile extent that gives every worker a part of the batch, where parts stay large enough to be worth a task: 64
// rows, or one image.
int64_t default_batch_tile(int64_t batch, int workers, bool deterministic, bool images);

// Largest extents of tiles of a batch of rows and of the weights of linear layers; 0: whole.
struct RowTiles {
    int64_t batch = 0, features = 0;
};
// With which the forward products of all hidden layers are done first, if each core computes one tile of an output at a
// time, which takes rows x columns multiplications and reads both operands, rows + columns, per term of a sum: parts
// for all cores, near-square. Of at least 64 x 128.
RowTiles row_tiles_for_cores(int64_t batch, const std::vector<int64_t>& hidden, int cores);

// The largest tile of a batch of images with which that many equal workers would be as busy as with any smaller one, by
// a list schedule of a training step: a network that is wide itself needs fewer tiles than a chain.
int64_t batch_tile_for_width(const Network&, const Optimizer&, const Dataset&, TrainOptions, int workers);

class Trainer {
 public:
    // `train` must outlive the trainer. Throws Error if the batch is larger than the data.
    Trainer(Executor&, const Network&, const Optimizer&, const Dataset& train, TrainOptions);
    ~Trainer();

    const TrainOptions& options() const { return options_; }
    int64_t steps_per_epoch() const { return steps_per_epoch_; }
    int64_t total_steps() const { return steps_per_epoch_ * options_.epochs; }
    int64_t next_step() const { return next_step_; }
    void resume_at(int64_t step) { next_step_ = step; }

    // Submits the next step; blocks only while too many are in flight.
    void step();
    void wait() { executor_.wait(); }
    // Results that have arrived since the last call, in step order.
    std::vector<StepResult> take_results();
    int64_t batch_of(int64_t step) const;  // samples in that step
    double flops_of(int64_t step) const;

    // Fraction of `data` classified correctly, and mean loss. Waits.
    struct Evaluation {
        double accuracy, loss;
    };
    Evaluation evaluate(const Dataset& data);
    // Makes the plans that evaluate() will run.
    void prepare_evaluation(const Dataset& data);

    int plan() const { return training_.rbegin()->second; }  // of the full batch, for Executor::plan

 private:
    void arrived(int64_t step, double StepResult::*part, double value);
    int make_plan(const BatchSource&, int64_t batch, bool training);

    Executor& executor_;
    const Network& network_;
    const Optimizer& optimizer_;
    TrainOptions options_;
    BatchSource source_;
    int64_t steps_per_epoch_, next_step_ = 0;
    std::map<int64_t, int> training_;                 // batch size -> plan
    std::map<int64_t, std::vector<int64_t>> orders_;  // epoch -> order, kept while steps that read it are in flight
    struct Evaluating;
    std::map<const Dataset*, std::unique_ptr<Evaluating>> evaluating_;

    std::mutex mutex_;  // results come from workers
    std::map<int64_t, StepResult> partial_;
    Sink loss_sink_, correct_sink_;
    double eval_loss_ = 0, eval_correct_ = 0;
    Sink eval_loss_sink_, eval_correct_sink_;
};

}  // namespace tessera
