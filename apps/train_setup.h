// apps/train_setup.h - from the flags of `tessera train` to a trainer that is ready: for training, for calibration,
// which needs its plans only, and for simulation.
#pragma once
#include <cmath>
#include <map>
#include <memory>

#include "apps/options.h"
#include "core/trace.h"
#include "data/dataset.h"
#include "graphs/checkpoint.h"
#include "graphs/trainer.h"
#include "models/corun.h"
#include "models/estimate.h"

namespace tessera {

struct TrainFlags {
    CommonOptions common;
    std::string network, data = "digits", schedule = "constant", dtype = "f32", augment;
    std::string checkpoint, metrics, plot;
    double label_smoothing = 0, learning_rate = 0, width = 1;
    int64_t epochs = 5, batch = 128, tile = 0, every = 0, input = 0;
    int64_t steps = 10;  // of a simulation
    bool resume = false, auxiliary = false;
    std::optional<std::string> hidden, activation;  // of mlp
    static constexpr auto default_hidden = "512,512", default_activation = "relu";
    std::optional<double> momentum, weight_decay, dropout, validation;
    std::optional<int64_t> schedules;  // that are tried to place tasks; default: as the plan's size allows
    OptimizerOptions optimizer;
};
void add_train_flags(CLI::App&, TrainFlags&);

std::string checkpoint_file(const TrainFlags&);  // empty without --checkpoint

// Tiles that give every worker one part of each op.
RowTiles serial_tiles(const TrainFlags&, const Runtime&);

// Data, network, optimizer, loss and executor, put together. `data` is load_data's or shape_of_data's.
struct TrainSetup {
    TrainSetup(const TrainFlags&, const std::function<Split()>& data);

    const TrainFlags& flags;
    Runtime runtime;
    Split data;
    std::unique_ptr<Trace> trace;      // if a flag asks for what it records
    std::unique_ptr<Machine> machine;  // the models; null if nothing was measured yet
    Completion models;                 // under simulation: what was missing in them
    JointChoice joint;                 // of implementations, where company was measured: of the plan with most changes
    Params weights;
    Network network;
    Optimizer optimizer;
    Executor executor;
    Trainer trainer;

    Checkpoint::Facts facts() const;  // what a checkpoint must agree on with the run that resumes it
    std::vector<const Plan*> plans() const;
    // Says where its tasks run, and `in_company` by which implementation.
    void plan(Plan&, bool in_company = true);
    void write_dag() const { flags.common.write_dag(executor.plan(trainer.plan())); }
};

}  // namespace tessera
