#include "apps/simulated.h"

#include <starpu.h>

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#ifdef STARPU_SIMGRID
#include <simgrid/s4u/Engine.hpp>
#endif

#include "apps/options.h"
#include "apps/product_machine.h"
#include "apps/table.h"
#include "core/error.h"

namespace tessera {

std::vector<ModelDevice> devices_of(const Runtime& runtime) {
    std::vector<ModelDevice> all;
    if (runtime.cpu_workers() > 0) all.push_back({});
    for (const WorkerInfo& w : runtime.workers())
        if (w.cuda) all.push_back(device_of(w));
    return all;
}

std::string folder_of_models() {
    const char* folder = std::getenv("STARPU_PERF_MODEL_DIR");
    if (!folder)
        throw UsageError("tessera-sim is started by 'tessera simulate'",
                         "tessera simulate --machine NAME -- train mlp");
    return folder;
}

std::string calibrate_command() {
    return "tessera calibrate " +
           typed_words({"--quiet", "--json", "--dag-stats"}, {"--steps", "--repeat", "--trace", "--gantt", "--dag"});
}

#ifdef STARPU_SIMGRID
void end_at_standstill() {
    simgrid::s4u::Engine::on_deadlock_cb([] {
        constexpr char line[] =
            "error: the simulation came to a standstill: tasks are left, and every worker waits\n"
            "hint: the policy kept tasks back, or memory is too short; try STARPU_SCHED=dmdas, or a larger "
            "--gpu-memory\n";
        if (write(2, line, sizeof line - 1) < 0) {}
        _exit(1);  // no destructor could wait for tasks any more
    });
}
#endif

nlohmann::json worker_times(const Runtime& runtime, const std::vector<WorkerTotals>& totals, double seconds) {
    auto times = nlohmann::json::array();
    for (const WorkerInfo& w : runtime.workers()) {
        const WorkerTotals& t = totals[size_t(w.id)];
        const double busy = t.busy_us * 1e-6 / seconds, transfers = t.fetch_us * 1e-6 / seconds;
        times.push_back({{"worker", w.name},
                         {"tasks", t.tasks},
                         {"busy", busy},
                         {"transfers", transfers},
                         {"idle", std::max(0.0, 1 - (busy + transfers))}});
    }
    return times;
}

std::string worker_table(const nlohmann::json& times) {
    Table table({"worker", "tasks", "busy", "transfers", "idle"});
    const auto percent = [](const nlohmann::json& x) { return fixed(100 * x.get<double>(), 1) + " %"; };
    for (const auto& w : times)
        table.row({w["worker"].get<std::string>(), std::to_string(w["tasks"].get<int64_t>()), percent(w["busy"]),
                   percent(w["transfers"]), percent(w["idle"])});
    return table.text();
}

void add_models(nlohmann::json& result, const Completion& models) {
    auto estimates = nlohmann::json::object();
    for (const auto& [origin, count] : models.estimates) estimates[std::string(name_of(origin))] = count;
    result["models_measured"] = models.measured, result["models_estimated"] = estimates;
    result["models"] = models.text();
}

}  // namespace tessera
