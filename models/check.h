// models/check.h - what is wrong with a machine's models: poisoned entries, too few samples, stale sources, drift.
#pragma once
#include <functional>
#include <optional>

#include "models/machine.h"

namespace tessera {

// Measures one task again, quickly, on this machine: microseconds, or nothing where it cannot.
using Remeasure =
    std::function<std::optional<double>(const std::string& codelet, uint32_t footprint, int implementation)>;

struct CheckOptions {
    double deviation = 0.3;  // of the mean
    double spike = 5;        // factor between a mean and the regression over the op's other sizes
    double above_peak = 1.05;
    int64_t above_peak_at_least = 5;  // rows, before the peak itself is what is wrong
    double drift = 0.1;
    double least_us = 5;  // below, deviation and drift are those of the clock
    int64_t samples = least_samples;
    bool elsewhere = false;  // the machine is not this one: nothing of it can be measured here
    // Does the calibration that the machine's facts name measure such tasks, of any size if none is given? Unset:
    // nobody knows.
    std::function<bool(const std::string& codelet, std::optional<uint32_t> footprint)> measures;
    Remeasure remeasure;
};

struct Finding {
    std::string kind;     // "damaged", "stale", "few samples", "deviation", "spike", "above peak", "drift", "peak"
    std::string codelet;  // empty: the device's stored peak
    std::optional<ModelDevice> device;  // absent: the whole codelet
    int implementation = 0;
    uint32_t footprint = 0;
    std::string what;     // one line with the figures
    std::string command;  // that mends it: what measured it; COMMAND in it stands for the one that runs such a task
};

// Peaks first, then by codelet; empty if nothing is suspicious. Estimates are not looked at: they claim nothing.
std::vector<Finding> check_models(const Machine&, const CheckOptions& = {});

// Share of the device's peak that an entry reaches: of its flops or of its bandwidth, whichever is larger. Nothing if
// the device's figures or the entry's work are unknown.
std::optional<double> share_of_peak(const Machine&, const std::string& codelet, const ModelDevice&, const ModelEntry&);

// Label of an implementation ("oneDNN"), or its number if this program has no such codelet.
std::string implementation_label(const std::string& codelet, const ModelDevice&, int implementation);

}  // namespace tessera
