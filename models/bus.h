// models/bus.h - how fast the memory nodes of a machine talk to each other, as StarPU keeps it in bus/<name>.bandwidth,
// .latency, .affinity, .config, .platform.xml and .platform.v4.xml. StarPU measures anew when .config differs from the
// machine that it runs on; in simulation it reads bandwidth, latency and the platform only.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "models/platform.h"

namespace tessera {

struct BusDevice {
    std::string model;  // "Tesla K40m"
    int64_t memory_bytes = 0;
    bool peer = true;  // copies to other GPUs without the host
};

// Memory nodes: `numas` of the host, then the GPUs. [from][to]; 0 from a node to itself.
struct Bus {
    std::string name;
    int cpus = 0, numas = 1, cudas = 0;
    std::vector<BusDevice> devices;  // one per GPU
    std::vector<std::vector<double>> mbytes_per_s, latency_us;

    int nodes() const { return numas + cudas; }
    int gpu_node(int gpu) const { return numas + gpu; }
    std::string node_name(int node) const;  // "NUMA 0", "CUDA 0", as StarPU calls them
};

// "11.7 GB/s"; below 1 GB/s "870 MB/s".
std::string rate_text(double mbytes_per_s, int decimals);

// A bus of that many nodes with all speeds 0, to be filled.
Bus empty_bus(const std::string& name, int cpus, int cudas);

// Reads <folder>/<name>.*; throws Error naming file and line: missing, cut off, negative or zero bandwidth, nan between
// nodes that .config names, a platform without a device of .config. OpenCL devices in old files are passed over.
Bus read_bus(const std::filesystem::path& folder, const std::string& name);

// All six files; the folder is made. Throws what check_bus() does, and Error if they cannot be written.
void write_bus(const std::filesystem::path& folder, const Bus&, const Platform&);

// Throws std::invalid_argument unless all speeds between different nodes are positive and finite.
void check_bus(const Bus&);

// Figures that cannot be right, or are right on few machines, one line each.
std::vector<std::string> suspicious(const Bus&);

}  // namespace tessera
