#include "apps/product_machine.h"

#include <starpu.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "apps/simulated.h"
#include "models/bus.h"

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

namespace {

// The links of the platform between host memory and a GPU, numbered as they are first seen.
class Links {
 public:
    Links(const Machine* machine, std::vector<double>& bytes_per_s) : bytes_per_s_(bytes_per_s) {
        if (!machine) return;
        const auto folder = machine->folder() / "bus";
        for (const char* ending : {".platform.v4.xml", ".platform.xml"}) {
            const auto path = folder / (machine->name() + ending);
            if (!std::filesystem::exists(path)) continue;
            platform_ = read_platform(path);
            return;
        }
    }
    std::vector<int> between(const std::string& from, const std::string& to, double otherwise_bytes_per_s) {
        std::vector<int> way;
        if (const PlatformRoute* route = platform_.route(from, to)) {
            for (const std::string& id : route->links) way.push_back(number(id, platform_.link(id)->bytes_per_s));
        } else if (otherwise_bytes_per_s > 0) way.push_back(number(from + " to " + to, otherwise_bytes_per_s));
        return way;
    }

 private:
    int number(const std::string& id, double bytes_per_s) {
        const auto [it, fresh] = known_.emplace(id, int(bytes_per_s_.size()));
        if (fresh) bytes_per_s_.push_back(bytes_per_s);
        return it->second;
    }
    Platform platform_;
    std::map<std::string, int> known_;
    std::vector<double>& bytes_per_s_;
};

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
    Links links(machine, m.link_bytes_per_s);
    std::map<unsigned, size_t> of_node;
    std::vector<int> cores;
    double gpu_flops_per_s = 0;
    bool all_known = true;
    for (const WorkerInfo& w : runtime.workers()) {
        const auto [it, fresh] = of_node.emplace(w.node, m.devices.size());
        if (fresh) {
            m.names.push_back(w.name), cores.push_back(0);
            m.blocks.push_back({int(w.node), 0, w.cuda ? runtime.limit_bytes(w.node) : 0, 0});
            ProductDevice d{0, m.blocks.back().memory_bytes, {}, {}};
            if (w.cuda) {
                const std::string id = "CUDA" + std::to_string(starpu_worker_get_devid(w.id));
                d.in = links.between("RAM", id, 1e6 * starpu_transfer_bandwidth(STARPU_MAIN_RAM, w.node));
                d.out = links.between(id, "RAM", 1e6 * starpu_transfer_bandwidth(w.node, STARPU_MAIN_RAM));
            }
            m.devices.push_back(std::move(d));
        }
        const double seconds = time(w), flops_per_s = seconds > 0 ? task_flops / seconds : 0;
        all_known = all_known && flops_per_s > 0;
        m.devices[it->second].flops_per_s += flops_per_s;
        ++cores[it->second];
        if (w.cuda)
            m.names[it->second] = "CUDA " + std::to_string(starpu_worker_get_devid(w.id)),
            gpu_flops_per_s += flops_per_s;
        else m.names[it->second] = std::to_string(cores[it->second]) + " CPU cores";
    }
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
