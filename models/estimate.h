// models/estimate.h - times for sizes that a machine never measured, so that a simulation need not stop: from StarPU's
// published products, a regression over the op's other sizes, or the device's peaks. Each is marked as what it is.
#pragma once
#include <memory>

#include "models/machine.h"
#include "models/regression.h"

namespace tessera {

struct Estimate {
    double time_us;
    Origin origin;
};

// Times for tasks that a device never ran, from what the machine knows; it must outlive this.
class Estimator {
 public:
    explicit Estimator(const Machine& machine) : machine_(machine) {}
    // In this order: f32 and f64 gemm-like products mapped from chol_model_gemm / starpu_sgemm_gemm / starpu_dgemm_gemm
    // by rate over n = cbrt(flops / 2); fit_times() over the codelet's measured sizes on that device; overhead +
    // max(flops / peak, bytes / bandwidth) from the device's facts. Never below the overhead of a launch. Nothing if
    // none of them applies.
    std::optional<Estimate> operator()(const TaskSpec&, const ModelDevice&);

 private:
    class Rates;
    const Rates& rates(const ModelDevice&, DType);
    const std::optional<TimeModel>& regression(const CodeletInfo&, const ModelDevice&);

    const Machine& machine_;
    std::map<std::pair<ModelDevice, DType>, std::shared_ptr<Rates>> rates_;
    std::map<std::pair<const CodeletInfo*, ModelDevice>, std::optional<TimeModel>> regressions_;
};

struct Completion {
    int64_t measured = 0;                 // (codelet, footprint, device) triples that had a model
    std::map<Origin, int64_t> estimates;  // by where they come from
    std::string text() const;             // "212 measured; estimates: 14 from regression, 3 from peaks"
};

// Gives every task of the plans a time on every device that can run it: measured, else estimated. Alternatives on CPU
// cores without a time of their own get a little more than number 0's, so that they are not chosen; CUDA needs number 0
// only, all that a simulation knows. Writes the model files and the facts in the machine's folder. Throws Error naming
// codelet and device, with the calibrate command, if no estimate applies.
Completion complete_models(Machine&, const std::vector<const Plan*>&, const std::vector<ModelDevice>& devices,
                           const std::string& calibrate_command);

// What a task costs on a device at least: waking a core, launching a kernel.
double launch_overhead_us(const ModelDevice&);

// One row as the regression takes it: flops and bytes as the sidecar has them (may be nullptr), else the model itself.
TimePoint time_point(const EntryFacts*, const ModelEntry&);

// Is it a matrix product, whose rate StarPU's own products tell?
bool is_product(const CodeletInfo&);

}  // namespace tessera
