// What an executor refuses before a plan runs: StarPU would wait for ever, or stop the program.
#include <algorithm>

#include "core/config.h"
#include "core/error.h"
#include "core/executor.h"
#include "core/gpus.h"
#include "core/host_memory.h"
#include "core/pieces.h"
#include "core/reuse.h"

namespace tessera {

// Without a disk below. With GPUs only what lasts is sure to be in host memory.
void Executor::check_host_memory(const Plan& plan) const {
    if (!options_.in_place) return;
    std::vector<int64_t> of_value(plan.values.size());
    int64_t bytes = 0;
    for (const PlanTile& t : plan.tiles) {
        of_value[size_t(t.value)] += t.bytes;
        if (plan.values[size_t(t.value)].param) bytes += t.bytes;
    }
    if (runtime_.cuda_workers() == 0) bytes = memory_bytes(plan);
    if (bytes == 0) return;
    const auto largest = std::max_element(of_value.begin(), of_value.end());
    require_host_memory(
        bytes,
        "one step (its largest value: " + plan.values[size_t(largest - of_value.begin())].name + ", " +
            std::to_string(*largest >> 20) + " MiB) needs",
        "smaller --batch or layers; or --host-memory SIZE --swap DIR, and what does not fit is on disk");
}

// Every worker of a memory holds the tiles of a task while it runs: below that sum StarPU waits for ever. With a disk
// below, what GPUs read and write goes through host memory, too: once in and, for another task, once out.
void Executor::check_limits(const Plan& plan) const {
    if (plan.tasks.empty()) return;
    const auto workers = runtime_.workers();
    const auto taken = [&](const TaskSpec& t) {
        int64_t sum = 0;
        for (const TileUse& u : t.tiles) sum += tile_handles_.taken(plan.tiles[size_t(u.tile)].bytes);
        return sum;
    };
    const TaskSpec& t = *std::max_element(plan.tasks.begin(), plan.tasks.end(),
                                          [&](const TaskSpec& a, const TaskSpec& b) { return taken(a) < taken(b); });
    const int64_t largest = taken(t);
    for (unsigned node = 0; node < starpu_memory_nodes_get_count(); ++node) {
        const auto kind = starpu_node_get_kind(node);
        if (kind != STARPU_CPU_RAM && kind != STARPU_CUDA_RAM) continue;
        const bool passage = kind == STARPU_CPU_RAM && runtime_.cuda_workers() > 0;
        const auto here = passage ? int64_t(workers.size())
                                  : std::count_if(workers.begin(), workers.end(),
                                                  [&](const WorkerInfo& w) { return w.node == node; });
        const int64_t at_once = std::max<int64_t>(1, here) * (passage ? 2 : 1);
        const int64_t need = largest * at_once, limit = runtime_.limit_bytes(node);
        if (kind == STARPU_CUDA_RAM && starpu_memory_get_used(node) == 0)
            try_gpu_memory(starpu_memory_node_get_devid(node), cut_from_pieces() ? std::max(need, piece_bytes) : need);
        if (limit == 0 || need <= limit || (kind == STARPU_CPU_RAM && options_.in_place)) continue;
        throw Error("a memory limit of " + std::to_string(limit) + " bytes is too small: the largest task, " +
                        t.codelet->name + " in " + plan.nodes[size_t(t.node)].name() + ", needs " +
                        std::to_string(largest) + " bytes at once, and " + std::to_string(here) +
                        " workers may run one each" + (passage ? ", with the tiles of another on their way" : ""),
                    "the least that works is " + whole_mebibytes(need) + "; or choose a smaller --tile");
    }
}

// StarPU waits for ever, too, when what does not fit into memory does not fit onto the disk.
void Executor::check_swap(const Plan& plan) {
    if (options_.in_place) return;
    for (const PlanTile& t : plan.tiles) {
        const Param* param = plan.values[size_t(t.value)].param;
        if (t.reuses < 0 && !(param && params_.contains(param))) tile_bytes_ += tile_handles_.taken(t.bytes);
    }
    const int64_t limit = runtime_.limit_bytes(STARPU_MAIN_RAM), disk = runtime_.swap_bytes();
    if (disk > 0 && tile_bytes_ - limit > disk * 9 / 10)
        throw Error("the swap folder has " + std::to_string(disk >> 20) + " MiB free; " +
                        std::to_string(tile_bytes_ >> 20) + " MiB of tiles with a memory limit of " +
                        std::to_string(limit >> 20) + " MiB may need more",
                    "choose a folder on a larger disk or a higher --host-memory");
}

void Executor::check_workers(const Plan& plan) const {
    const bool cpu = runtime_.cpu_workers() > 0, cuda = runtime_.cuda_workers() > 0;
    for (const TaskSpec& t : plan.tasks) {
        if (cpu && t.codelet->starpu->cpu_funcs[0]) continue;
        if (cuda && t.codelet->starpu->cuda_funcs[0]) continue;
        throw Error("no worker can run " + t.codelet->name + " (needed by " + plan.nodes[size_t(t.node)].name() + ")",
                    "look at STARPU_NCPU and STARPU_NCUDA, and at 'tessera ops' for its backends");
    }
}

}  // namespace tessera
