// models/estimate.cpp - estimates, in the order that estimate.h states.
#include "models/estimate.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"

namespace tessera {
namespace {

constexpr double alternative_factor = 1.001;
constexpr int64_t estimate_samples = 10;  // StarPU warns about entries with fewer

}  // namespace

// Rate of products over their size n: linear in log n, constant beyond the ends.
class Estimator::Rates {
 public:
    void add(double flops, double time_us) {
        auto& [sum, count] = points_[std::cbrt(flops / 2)];
        sum += flops / time_us, ++count;
    }
    bool empty() const { return points_.empty(); }
    double flops_per_us(double flops) const {
        const double n = std::cbrt(flops / 2);
        const auto rate = [](const auto& point) { return point.second.first / point.second.second; };
        const auto above = points_.lower_bound(n);
        if (above == points_.begin()) return rate(*above);
        const auto below = std::prev(above);
        if (above == points_.end()) return rate(*below);
        const double part = std::log(n / below->first) / std::log(above->first / below->first);
        return rate(*below) + part * (rate(*above) - rate(*below));
    }

 private:
    std::map<double, std::pair<double, double>> points_;  // n -> sum of rates, how many
};

namespace {

// StarPU's programs of products: how many bytes and flops a tile of b x b stands for.
struct Published {
    const char* codelet;
    DType dtype;
    double bytes_per_b2, flops_per_b3;
};
constexpr Published published[] = {{"chol_model_gemm", DType::f32, 12, 2},    // C += A B, all b x b
                                   {"starpu_sgemm_gemm", DType::f32, 36, 8},  // A is b x 4b, B 4b x b
                                   {"starpu_dgemm_gemm", DType::f64, 72, 8}};

// Integers (labels, images) are worked on in f32.
double compute_peak(const DeviceFacts& facts, DType dtype) {
    return facts.gflops(tessera::facts(dtype).epsilon > 0 ? dtype : DType::f32);
}

Origin origin_of(const Machine& machine, const std::string& codelet, uint32_t footprint, const ModelDevice& device) {
    const EntryFacts* facts = machine.facts.entry(codelet, footprint);
    return facts ? facts->on(device) : Origin::measured;
}

}  // namespace

// The first of the published products of that type which the device has run.
const Estimator::Rates& Estimator::rates(const ModelDevice& device, DType dtype) {
    const auto [at, missing] = rates_.try_emplace({device, dtype});
    if (!missing) return *at->second;
    at->second = std::make_shared<Rates>();
    Rates& curve = *at->second;
    for (const Published& p : published) {
        if (p.dtype != dtype || !curve.empty()) continue;
        for (const ModelArch& arch : machine_.model(p.codelet).archs) {
            if (arch.device != device) continue;
            for (const ModelEntry& e : arch.implementations[0]) {
                const double flops =
                    e.flops > 0 ? e.flops : p.flops_per_b3 * std::pow(double(e.bytes) / p.bytes_per_b2, 1.5);
                // Faster than a launch: an entry that somebody has written by hand.
                if (e.samples > 0 && e.mean_us >= launch_overhead_us(device) && flops > 0) curve.add(flops, e.mean_us);
            }
        }
    }
    return curve;
}

const std::optional<TimeModel>& Estimator::regression(const CodeletInfo& codelet, const ModelDevice& device) {
    const auto [at, missing] = regressions_.try_emplace({&codelet, device});
    if (!missing) return at->second;
    std::vector<TimePoint> points;
    for (const ModelArch& arch : machine_.model(codelet.name).archs) {
        if (arch.device != device) continue;
        for (const ModelEntry& e : arch.implementations[0])
            if (e.samples > 0 && origin_of(machine_, codelet.name, e.footprint, device) == Origin::measured)
                points.push_back(time_point(machine_.facts.entry(codelet.name, e.footprint), e));
    }
    return at->second = fit_times(points);
}

std::optional<Estimate> Estimator::operator()(const TaskSpec& task, const ModelDevice& device) {
    const CodeletInfo& codelet = *task.codelet;
    const double least = launch_overhead_us(device), flops = task.cost.flops, bytes = task.cost.bytes;
    if (flops > 0 && is_product(codelet))
        if (const Rates& known = rates(device, codelet.dtype); !known.empty())
            return Estimate{std::max(least, flops / known.flops_per_us(flops)), Origin::mapped};
    if (const auto& fitted = regression(codelet, device))
        return Estimate{std::max(least, fitted->at(flops, bytes)), Origin::regression};
    const DeviceFacts* facts = machine_.facts.device(device);
    const double peak = facts ? compute_peak(*facts, codelet.dtype) : 0;  // flops per ns
    if (!facts || !(facts->gbytes_per_s > 0) || (flops > 0 && !(peak > 0))) return {};
    const double compute_us = flops > 0 ? flops / (peak * 1e3) : 0, move_us = bytes / (facts->gbytes_per_s * 1e3);
    return Estimate{least + std::max(compute_us, move_us), Origin::peaks};
}

namespace {

class Completer {
 public:
    Completer(Machine& machine, const std::vector<const Plan*>& plans, const std::string& calibrate)
        : machine_(machine), calibrate_(calibrate) {
        for (const Plan* plan : plans) {
            describe(machine.facts, *plan);
            for (const TaskSpec& task : plan->tasks) {
                Wanted& wanted = wanted_[task.codelet][task.footprint];
                if (!wanted.task) wanted = {plan, &task};
            }
        }
    }

    Completion run(const std::vector<ModelDevice>& devices) {
        for (const auto& [codelet, sizes] : wanted_) {
            ModelFile model = machine_.model(codelet->name);
            bool changed = false;
            for (const ModelDevice& device : devices) {
                const int implementations = implementations_on(*codelet, device);
                if (implementations == 0) continue;
                for (const auto& [footprint, wanted] : sizes)
                    changed |= complete(model, device, implementations, wanted);
            }
            if (changed) changed_.emplace_back(codelet->name, std::move(model));
        }
        // Nothing is written before every task has a time.
        std::filesystem::create_directories(machine_.folder() / "codelets" / "45");
        for (const auto& [name, model] : changed_) write_model(machine_.model_path(name), model);
        write_facts(machine_.folder(), machine_.facts);
        return done_;
    }

 private:
    struct Wanted {
        const Plan* plan = nullptr;
        const TaskSpec* task = nullptr;
        int64_t bytes() const {
            int64_t sum = 0;
            for (const TileUse& u : task->tiles) sum += plan->tiles[size_t(u.tile)].bytes;
            return sum;
        }
    };
    struct ByName {
        bool operator()(const CodeletInfo* a, const CodeletInfo* b) const { return a->name < b->name; }
    };

    static int implementations_on(const CodeletInfo& codelet, const ModelDevice& device) {
        if (device.type == 0) return int(codelet.cpu.size());
        return device.type == 1 && !codelet.cuda.empty() ? 1 : 0;
    }

    // True if an entry was added.
    bool complete(ModelFile& model, const ModelDevice& device, int implementations, const Wanted& wanted) {
        const TaskSpec& task = *wanted.task;
        const std::string& name = task.codelet->name;
        const auto has = [&](int i) {
            const ModelEntry* e = model.find(device, i, task.footprint);
            return e && e->samples > 0 ? e : nullptr;
        };
        const ModelEntry* known = nullptr;
        for (int i = 0; i < implementations && !known; ++i) known = has(i);
        Estimate time{};
        if (known) time = {known->mean_us, origin_of(machine_, name, task.footprint, device)};
        else if (const auto guess = estimate_(task, device)) time = *guess;
        else
            throw Error("machine '" + machine_.name() + "' has no time for " + name + " on " + name_of(device) +
                            ", no sizes of it to estimate one from, and no peaks of that device",
                        "measure there: " + calibrate_);
        if (time.origin == Origin::measured) ++done_.measured;
        else
            ++done_.estimates[time.origin],
                machine_.facts.codelets[name].entries[task.footprint].origin[device] = time.origin;
        bool added = false;
        for (int i = 0; i < implementations; ++i) {
            if (has(i)) continue;
            const double t = time.time_us * (i > 0 || known ? alternative_factor : 1);
            model.set(
                device, i,
                entry_of(task.footprint, wanted.bytes(), task.cost.flops, std::vector<double>(estimate_samples, t)));
            added = true;
        }
        return added;
    }

    Machine& machine_;
    const std::string& calibrate_;
    std::map<const CodeletInfo*, std::map<uint32_t, Wanted>, ByName> wanted_;
    Estimator estimate_{machine_};
    std::vector<std::pair<std::string, ModelFile>> changed_;
    Completion done_;
};

}  // namespace

double launch_overhead_us(const ModelDevice& device) { return device.type == 0 ? 1 : 5; }

TimePoint time_point(const EntryFacts* facts, const ModelEntry& e) {
    const bool known = facts && facts->described();
    return {known ? facts->flops : e.flops, known ? facts->bytes : double(e.bytes), e.mean_us};
}

bool is_product(const CodeletInfo& codelet) {
    return codelet.op.starts_with("gemm") || codelet.op.starts_with("linear") || codelet.op.starts_with("conv2d");
}

std::string Completion::text() const {
    const std::pair<Origin, const char*> ways[] = {{Origin::mapped, " from StarPU's products"},
                                                   {Origin::regression, " from regression"},
                                                   {Origin::peaks, " from peaks"},
                                                   {Origin::scaled, " scaled"}};
    std::vector<std::string> parts;
    for (const auto& [origin, how] : ways)
        if (const auto at = estimates.find(origin); at != estimates.end() && at->second > 0)
            parts.push_back(std::to_string(at->second) + how);
    return std::to_string(measured) + " measured" + (parts.empty() ? "" : "; estimates: " + join(parts));
}

Completion complete_models(Machine& machine, const std::vector<const Plan*>& plans,
                           const std::vector<ModelDevice>& devices, const std::string& calibrate_command) {
    return Completer(machine, plans, calibrate_command).run(devices);
}

}  // namespace tessera
