// apps/product_machine.h - a machine as a product sees it: who computes how fast in which memory, and over which links.
#pragma once
#include <functional>
#include <memory>

#include "core/blocks.h"
#include "core/product_bound.h"
#include "core/runtime.h"
#include "models/links.h"
#include "models/machine.h"

namespace tessera {

struct ProductMachine {
    std::vector<std::string> names;      // per device: "CUDA 0", "3 CPU cores"
    std::vector<BlockDevice> blocks;     // for planning; speed 0: takes no part
    std::vector<ProductDevice> devices;  // for the bound, in the same order
    std::vector<double> link_bytes_per_s;
};

// Seconds of one task on one worker; NaN: not known.
using TaskTime = std::function<double(const WorkerInfo&)>;

// Every memory with workers. Speeds are from `time` of a task of `task_flops`; where none is known devices count as
// alike. Links are those of the machine's platform between host memory and each GPU, else one per direction as StarPU
// measured it. CPU cores take part beside GPUs if they add a hundredth at least.
ProductMachine product_machine(const Runtime&, const Machine*, double task_flops, const TaskTime&);

// The models that this run uses, or null if nothing was measured yet.
bool are_models_here(const Config&);
std::unique_ptr<Machine> models_here(const Runtime&);

// From the machine's models: the fastest implementation.
TaskTime model_time(const Machine&, const TaskSpec&);

// What a product of square tiles would see: for plans of which it is not known yet what they multiply.
ProductMachine typical_machine(const Runtime&, Machine*, DType, int64_t tile);

// The links between two memories of this run; where the platform does not tell, one of the rate that StarPU measured.
std::vector<int> links_between(Links&, unsigned from_node, unsigned to_node);

// The models' name of a worker's device.
ModelDevice device_of(const WorkerInfo&);

}  // namespace tessera
