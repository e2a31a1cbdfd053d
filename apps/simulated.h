// apps/simulated.h - what the programs under simulation share.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/runtime.h"
#include "core/trace.h"
#include "models/estimate.h"
#include "models/model_file.h"

namespace tessera {

// Kinds of workers that the models must have times for: the cores, and each GPU.
std::vector<ModelDevice> devices_of(const Runtime&);

// What measures, on the machine that is simulated, what this simulation runs: the calibration of its command.
std::string calibrate_command();

// From now on a simulation in which nothing can go on is an error and exit code 1. SimGrid alone ends all threads then,
// main's, too, and exits with 0.
void end_at_standstill();

// Shares of the time per worker, from counters of that time: keys worker, tasks, busy, transfers, idle; as a table.
nlohmann::json worker_times(const Runtime&, const std::vector<WorkerTotals>&, double seconds);
std::string worker_table(const nlohmann::json& times);
// How many times were measured, and how many are estimates of which kind: keys models_measured and models_estimated,
// and models, which says it.
void add_models(nlohmann::json& result, const Completion&);

// Where `tessera simulate` put the machine's models.
std::string folder_of_models();

}  // namespace tessera
