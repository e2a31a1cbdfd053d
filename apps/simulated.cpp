#include "apps/simulated.h"

#include <starpu.h>

#include <cstdlib>

#include "apps/product_machine.h"
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

}  // namespace tessera
