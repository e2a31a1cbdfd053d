// models/check.cpp - looks at every measured entry of every model.
#include "models/check.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "models/estimate.h"

namespace tessera {
namespace {

std::string number(double value) {
    char text[64];
    return {text, std::to_chars(text, text + sizeof text, value, std::chars_format::general, 3).ptr};
}
std::string percent(double part) { return number(std::round(part * 1000) / 10) + " %"; }

std::optional<DType> dtype_of_codelet(const Machine& machine, const std::string& codelet) {
    const auto facts = machine.facts.codelets.find(codelet);
    for (DType t : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::u8})
        if (facts != machine.facts.codelets.end() && facts->second.dtype == name_of(t)) return t;
    return {};
}

// Entries whose mean is far from the regression over the others. The worst goes first, and out of the regression: one
// spike must not make its neighbours look wrong.
struct Spike {
    const ModelEntry* entry;
    double expected_us;
};
std::vector<Spike> spikes(std::vector<const ModelEntry*> entries, std::vector<TimePoint> points, double factor) {
    std::vector<Spike> found;
    while (points.size() >= 4) {
        size_t worst = 0;
        double least = INFINITY, expected = 0;
        for (size_t i = 0; i < points.size(); ++i) {
            std::vector<TimePoint> others = points;
            others.erase(others.begin() + std::ptrdiff_t(i));
            const auto model = fit_times(others);
            if (!model) continue;
            if (const double off = misfit(*model, others); off < least)
                least = off, worst = i, expected = model->at(points[i].flops, points[i].bytes);
        }
        if (!(least < INFINITY)) break;
        const double ratio = points[worst].time_us / expected;
        if (!(ratio > factor || ratio < 1 / factor)) break;
        found.push_back({entries[worst], expected});
        points.erase(points.begin() + std::ptrdiff_t(worst));
        entries.erase(entries.begin() + std::ptrdiff_t(worst));
    }
    return found;
}

class Check {
 public:
    Check(const Machine& machine, const CheckOptions& options) : machine_(machine), options_(options) {
        recorded_ = machine.facts.command.starts_with("tessera calibrate");
        again_ = recorded_ ? machine.facts.command : "tessera calibrate --all";
        if (const size_t at = again_.find(" --reset"); at != again_.npos) again_.erase(at, 8);
    }

    std::vector<Finding> run() {
        for (const std::string& codelet : machine_.codelets()) check_codelet(codelet);
        peaks();
        return std::move(findings_);
    }

 private:
    enum Reset : bool { keep, reset };  // what was measured enough

    static std::string flag(Reset r) { return r == reset ? " --reset" : ""; }
    // The last calibration again.
    std::string again(Reset r) const {
        if (!options_.elsewhere) return again_ + flag(r);
        return "measure there" + (recorded_ ? ": " + again_ + flag(r) : "");
    }
    // The commands that measured an entry, or those of a codelet.
    std::vector<std::string> noted(const std::string& codelet, std::optional<uint32_t> footprint) const {
        std::vector<std::string> all;
        const auto facts = machine_.facts.codelets.find(codelet);
        if (facts == machine_.facts.codelets.end()) return all;
        for (const auto& [of, entry] : facts->second.entries)
            if (!entry.command.empty() && (!footprint || *footprint == of) &&
                std::find(all.begin(), all.end(), entry.command) == all.end())
                all.push_back(entry.command);
        return all;
    }
    // What mends an entry, or a codelet's whole file.
    std::string command(Reset r, const std::string& codelet, std::optional<uint32_t> footprint = {}) const {
        if (auto all = noted(codelet, footprint); !all.empty()) {
            for (std::string& one : all) one += flag(r);
            return (options_.elsewhere ? "measure there: " : "") + join(all, " && ");
        }
        const bool of_another = (footprint && !machine_.facts.entry(codelet, *footprint)) ||
                                (options_.measures && !options_.measures(codelet, footprint));
        return of_another && !options_.elsewhere ? "tessera calibrate COMMAND" + flag(r) : again(r);
    }

    void check_codelet(const std::string& codelet) {
        ModelFile model;
        try {
            model = machine_.model(codelet);
        } catch (const Error& e) {
            findings_.push_back({"damaged", codelet, {}, 0, 0, e.what(), command(reset, codelet)});
            return;
        }
        if (source_state(machine_.facts, codelet) == SourceState::stale) {
            const CodeletFacts& facts = machine_.facts.codelets.at(codelet);
            findings_.push_back({"stale",
                                 codelet,
                                 {},
                                 0,
                                 0,
                                 facts.source + " has changed since it was measured (" + facts.hash + ", now " +
                                     find_codelet(codelet)->source_hash + ")",
                                 command(keep, codelet)});
        }
        for (const ModelArch& arch : model.archs)
            for (size_t i = 0; i < arch.implementations.size(); ++i)
                check_entries(codelet, arch.device, int(i), arch.implementations[i]);
    }

    void check_entries(const std::string& codelet, const ModelDevice& device, int implementation,
                       const std::vector<ModelEntry>& entries) {
        const auto add = [&](const char* kind, const ModelEntry& e, const std::string& what, Reset r = reset) {
            findings_.push_back(
                {kind, codelet, device, implementation, e.footprint, what, command(r, codelet, e.footprint)});
        };
        std::vector<const ModelEntry*> measured;
        std::vector<TimePoint> points;
        for (const ModelEntry& e : entries) {
            const EntryFacts* facts = machine_.facts.entry(codelet, e.footprint);
            if (facts && facts->on(device) != Origin::measured) continue;
            if (e.samples == 0) continue;  // seen, but never timed: StarPU leaves out the first run
            if (e.samples < options_.samples)
                add("few samples", e, std::to_string(e.samples) + " of at least " + std::to_string(options_.samples),
                    keep);
            if (e.mean_us >= options_.least_us && !(e.deviation_us <= options_.deviation * e.mean_us))
                add("deviation", e, percent(e.deviation_us / e.mean_us) + " of a mean of " + number(e.mean_us) + " us");
            above_peak(codelet, device, e, add);
            drift(codelet, device, implementation, e, add);
            if (e.mean_us > 0) measured.push_back(&e), points.push_back(time_point(facts, e));
        }
        for (const Spike& s : spikes(std::move(measured), std::move(points), options_.spike))
            add("spike", *s.entry,
                number(s.entry->mean_us) + " us, where the op's other sizes let expect " + number(s.expected_us));
    }

    // Flops only: small tiles lie in a cache, whose bandwidth is above the memory's.
    template <class Add>
    void above_peak(const std::string& codelet, const ModelDevice& device, const ModelEntry& e, const Add& add) {
        const DeviceFacts* facts = machine_.facts.device(device);
        const auto dtype = dtype_of_codelet(machine_, codelet);
        const double peak = facts && dtype ? facts->gflops(*dtype) : 0;
        const double flops = time_point(machine_.facts.entry(codelet, e.footprint), e).flops;
        if (!(peak > 0) || !(flops > 0)) return;
        const double gflops = flops / e.mean_us * 1e-3;
        NearPeak& rows = near_peak_[{device, *dtype}];
        rows.peak = peak;
        if (gflops > 0.5 * peak) ++rows.near;
        if (!(gflops > options_.above_peak * peak)) return;
        rows.highest = std::max(rows.highest, gflops), rows.above.insert(findings_.size());
        add("above peak", e, number(gflops) + " GFLOP/s, more than the peak of " + number(peak));
    }

    // Where most of the rows that come near a peak are above it, the peak is wrong: one finding in place of theirs.
    void peaks() {
        std::vector<Finding> kept;
        std::set<size_t> left_out;
        for (auto& [of, rows] : near_peak_) {
            const auto above = int64_t(rows.above.size());
            if (above < options_.above_peak_at_least || 2 * above <= rows.near) continue;
            const std::string what = "stored for " + std::string(name_of(of.second)) + ": " + number(rows.peak) +
                                     " GFLOP/s; " + std::to_string(above) + " rows are above it, up to " +
                                     number(rows.highest);
            kept.push_back({"peak", "", of.first, 0, 0, what, again(keep)});  // of two measurements the higher is kept
            left_out.merge(rows.above);
        }
        for (size_t i = 0; i < findings_.size(); ++i)
            if (!left_out.contains(i)) kept.push_back(std::move(findings_[i]));
        findings_ = std::move(kept);
    }

    // The hook measures on a CPU core where there is one: entries of other devices have nothing to be compared with.
    template <class Add>
    void drift(const std::string& codelet, const ModelDevice& device, int implementation, const ModelEntry& e,
               const Add& add) {
        if (!options_.remeasure || device.type != 0 || !(e.mean_us > 0)) return;
        const auto now = options_.remeasure(codelet, e.footprint, implementation);
        if (now && e.mean_us >= options_.least_us && std::abs(*now / e.mean_us - 1) > options_.drift)
            add("drift", e,
                number(*now) + " us now, " + number(e.mean_us) + " when measured (" + (*now > e.mean_us ? "+" : "-") +
                    percent(std::abs(*now / e.mean_us - 1)) + ")");
    }

    const Machine& machine_;
    const CheckOptions& options_;
    std::string again_;
    bool recorded_ = false;  // the machine's facts name a calibration
    std::vector<Finding> findings_;
    struct NearPeak {
        double peak = 0, highest = 0;
        int64_t near = 0;        // rows above half of it
        std::set<size_t> above;  // findings
    };
    std::map<std::pair<ModelDevice, DType>, NearPeak> near_peak_;
};

}  // namespace

std::vector<Finding> check_models(const Machine& machine, const CheckOptions& options) {
    return Check(machine, options).run();
}

std::optional<double> share_of_peak(const Machine& machine, const std::string& codelet, const ModelDevice& device,
                                    const ModelEntry& e) {
    const DeviceFacts* facts = machine.facts.device(device);
    if (!facts || !(e.mean_us > 0)) return {};
    const TimePoint p = time_point(machine.facts.entry(codelet, e.footprint), e);
    const auto dtype = dtype_of_codelet(machine, codelet);
    const double peak = dtype ? facts->gflops(*dtype) : 0;
    if (p.flops > 0 && !(peak > 0)) return {};  // of StarPU's own codelets, whose type nobody wrote down
    double share = 0;
    if (peak > 0) share = p.flops / e.mean_us * 1e-3 / peak;
    if (facts->gbytes_per_s > 0) share = std::max(share, p.bytes / e.mean_us * 1e-3 / facts->gbytes_per_s);
    return share > 0 ? std::optional(share) : std::nullopt;
}

std::string implementation_label(const std::string& codelet, const ModelDevice& device, int implementation) {
    if (const CodeletInfo* info = find_codelet(codelet)) {
        const auto& labels = device.type == 0 ? info->cpu : info->cuda;
        if (implementation < int(labels.size())) return labels[size_t(implementation)];
    }
    return std::to_string(implementation);
}

}  // namespace tessera
