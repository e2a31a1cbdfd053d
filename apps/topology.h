// apps/topology.h - what hwloc says about this machine, in words and figures.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace tessera {

struct TopologyCache {
    std::string name;  // "L2"
    int count = 0;
    int64_t bytes = 0;  // of one
};
struct TopologyGpu {
    std::string name, address;  // "NVIDIA H100", "0000:3b:00.0"
    double gbytes_per_s = 0;    // of its PCI link as it is set now, or 0
};
struct Topology {
    std::string cpu;
    int sockets = 0, numas = 0, cores = 0, threads = 0;
    int64_t memory_bytes = 0;
    std::vector<TopologyCache> caches;
    std::vector<TopologyGpu> gpus;
};

// The part of the machine that this process may use.
Topology read_topology();
nlohmann::json to_json(const Topology&);

}  // namespace tessera
