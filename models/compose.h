// models/compose.h - a machine put together from measured devices, or from measured ones scaled by a stated factor, or
// from published figures alone: bus, PCIe tree, models per device, and facts that say where everything comes from.
#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/bus.h"
#include "models/machine.h"

namespace tessera {

// Where devices are taken from: a machine with its models and bus, or published figures alone.
struct ComposeSource {
    std::optional<Machine> machine;
    Bus bus;                            // of the machine
    std::optional<DeviceFacts> device;  // published; its type says GPU or core
};

struct ComposePart {
    int count = 0;
    std::string source;
    double scale = 1;              // of the speed: times are divided by it
    double link_mbytes_per_s = 0;  // 0: what the source measured
    int64_t memory_bytes = 0;      // of each GPU; 0: what the source has
};

// GPU k of a part is the source's GPU k, and again its first when it has no more.
struct ComposeOptions {
    std::string name;
    std::vector<ComposePart> gpus;
    ComposePart cpus;  // cores that run tasks; each GPU gets one more that drives it
    // Between GPUs; 0: as measured where both come from one machine, else the slower of the two links on one switch,
    // and one after the other through host memory.
    double peer_mbytes_per_s = 0;
    double host_mbytes_per_s = 0;  // of the host's link; 0: see pci_tree()
    std::string command, date;     // for the facts
};

// Writes the machine's folder, whole or not at all. Throws UsageError for parts that cannot be: a source without GPUs,
// more devices than StarPU is built for, no link; Error if `out` is there already or cannot be written. `replace` takes
// the place of a machine's folder, and of no other.
Machine compose(const ComposeOptions&, const std::map<std::string, ComposeSource>&, const std::filesystem::path& out,
                bool replace);

// An entry as a device `scale` times as fast would have it.
ModelEntry scaled(ModelEntry, double scale);

}  // namespace tessera
