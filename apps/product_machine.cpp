#include "apps/product_machine.h"

#include <starpu.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "apps/simulated.h"
#include "apps/table.h"
#include "core/pieces.h"
#include "models/bus.h"
#include "models/links.h"

namespace tessera {

ModelDevice device_of(const WorkerInfo& w) {
    return w.cuda ? ModelDevice{1, starpu_worker_get_devid(w.id), 1} : ModelDevice{};
}

bool are_models_here([[maybe_unused]] const Config& config) {
#ifdef STARPU_SIMGRID
    return true;
#else
    return std::filesystem::exists(own_folder(config) / "bus" / (machine_name() + ".config"));
#endif
}

std::unique_ptr<Machine> models_here([[maybe_unused]] const Runtime& runtime) {
#ifdef STARPU_SIMGRID
    return std::make_unique<Machine>(folder_of_models());
#else
    if (!are_models_here(runtime.config())) return nullptr;
    return std::make_unique<Machine>(own_folder(runtime.config()), machine_name());
#endif
}

TaskTime model_time(const Machine& machine, const TaskSpec& task) {
    const auto model = std::make_shared<ModelFile>(machine.model(task.codelet->name));
    return [model, footprint = task.footprint](const WorkerInfo& w) {
        return 1e-6 * model->fastest_us(device_of(w), footprint);
    };
}

// Platforms know one host memory and the GPUs'.
static std::string name_in_platform(unsigned node) {
    if (node == STARPU_MAIN_RAM) return "RAM";
    return (starpu_node_get_kind(node) == STARPU_CUDA_RAM ? "CUDA" : "memory ") +
           std::to_string(starpu_memory_node_get_devid(node));
}

std::vector<int> links_between(Links& links, unsigned from, unsigned to) {
    return links.between(name_in_platform(from), name_in_platform(to), 1e6 * starpu_transfer_bandwidth(from, to));
}

namespace {

// Each device gets of each link what its speed is of all that use it.
void share_links(ProductMachine& m) {
    std::vector<double> users(m.link_bytes_per_s.size());
    const auto each_way = [&](auto&& f) {
        for (size_t d = 0; d < m.devices.size(); ++d)
            if (m.blocks[d].speed > 0)
                for (int l : m.devices[d].in) f(d, size_t(l));
    };
    each_way([&](size_t d, size_t l) { users[l] += m.blocks[d].speed; });
    each_way([&](size_t d, size_t l) {
        const double part = m.link_bytes_per_s[l] * m.blocks[d].speed / users[l];
        m.blocks[d].bytes_per_s = m.blocks[d].bytes_per_s > 0 ? std::min(m.blocks[d].bytes_per_s, part) : part;
    });
}

}  // namespace

ProductMachine product_machine(const Runtime& runtime, const Machine* machine, double task_flops,
                               const TaskTime& time) {
    ProductMachine m;
    Links links(machine);
    std::map<unsigned, size_t> of_node;
    std::vector<int> cores;
    double gpu_flops_per_s = 0;
    bool all_known = true;
    for (const WorkerInfo& w : runtime.workers()) {
        const auto [it, fresh] = of_node.emplace(w.node, m.devices.size());
        if (fresh) {
            m.names.push_back(w.name), cores.push_back(0);
            m.blocks.push_back(
                {int(w.node), 0, w.cuda ? runtime.limit_bytes(w.node) : 0, 0, w.cuda && cut_from_pieces()});
            ProductDevice d{0, m.blocks.back().memory_bytes, {}, {}};
            if (w.cuda) {
                d.in = links_between(links, STARPU_MAIN_RAM, w.node);
                d.out = links_between(links, w.node, STARPU_MAIN_RAM);
            }
            m.devices.push_back(std::move(d));
        }
        const double seconds = time(w), flops_per_s = seconds > 0 ? task_flops / seconds : 0;
        all_known = all_known && flops_per_s > 0;
        m.devices[it->second].flops_per_s += flops_per_s;
        ++cores[it->second];
        if (!w.cuda) m.blocks[it->second].workers = cores[it->second], m.blocks[it->second].cores = true;
        if (w.cuda)
            m.names[it->second] = "CUDA " + std::to_string(starpu_worker_get_devid(w.id)),
            gpu_flops_per_s += flops_per_s;
        else m.names[it->second] = counted(cores[it->second], "CPU core");
    }
    m.link_bytes_per_s = links.bytes_per_s;
    for (size_t d = 0; d < m.devices.size(); ++d) {
        const bool cpu = m.devices[d].in.empty() && m.devices[d].out.empty();
        const double speed = all_known ? m.devices[d].flops_per_s : 1;
        const bool helps = runtime.cuda_workers() == 0 || (all_known && speed > 0.01 * gpu_flops_per_s);
        m.blocks[d].speed = !cpu || helps ? speed : 0;
        if (m.blocks[d].speed == 0) m.devices[d].flops_per_s = 0;
    }
    if (all_known) share_links(m);
    return m;
}

}  // namespace tessera
