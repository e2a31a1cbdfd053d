// models/platform.h - StarPU's SimGrid platform of one machine: hosts (MAIN, CPU0.., CUDA0.., RAM), links, and a route
// per direction for every pair of memory nodes. Read strictly; written as a PCIe tree.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace tessera {

struct PlatformHost {
    std::string id;
    std::map<std::string, std::string> properties;  // "model", "memsize" (bytes), "memcpy_peer"
};
struct PlatformLink {
    std::string id;
    double bytes_per_s = 0, latency_s = 0;
};
struct PlatformRoute {
    std::string from, to;
    std::vector<std::string> links;
};
struct Platform {
    int version = 4;
    std::vector<PlatformHost> hosts;
    std::vector<PlatformLink> links;
    std::vector<PlatformRoute> routes;

    const PlatformHost* host(const std::string& id) const;  // or nullptr
    const PlatformLink* link(const std::string& id) const;
    const PlatformRoute* route(const std::string& from, const std::string& to) const;
    int count(const std::string& prefix) const;  // hosts named prefix0, prefix1, ... without a gap
};

// Throws Error naming file and line for all that SimGrid would end the program for: cut off, not XML, elements or
// attributes that there are not, none of a host's, link's or route's own, a bandwidth that is not positive or, in
// version 4, has no unit, what is there twice, a route without links or over hosts or links that are not there.
Platform parse_platform(const std::string& text, const std::string& name);
Platform read_platform(const std::filesystem::path&);

// Version 3 (bare numbers, for old SimGrid) or 4 (with units).
std::string to_xml(const Platform&, int version);

struct Bus;
// Two GPUs per PCIe switch; each GPU and each switch has a link up and one down; all switches hang on one link of
// `host_mbytes_per_s`, which carries both directions as StarPU's own platforms have it (0: as fast as the fastest that
// was seen on it). Peers on one switch pass through it alone, others over the host; peers over 1.5 times as fast as
// their links to the host have wires of their own. The bandwidth and latency of each pair stand on a link of its own.
Platform pci_tree(const Bus&, double host_mbytes_per_s = 0);

}  // namespace tessera
