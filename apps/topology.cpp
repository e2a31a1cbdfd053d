#include "apps/topology.h"

#include <hwloc.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/host_memory.h"

namespace tessera {
namespace {

constexpr unsigned display_controller = 0x03, accelerator = 0x12;  // PCI classes

void add_gpus(hwloc_topology_t t, std::vector<TopologyGpu>& gpus) {
    for (hwloc_obj_t d = nullptr; (d = hwloc_get_next_pcidev(t, d));) {
        const auto& pci = d->attr->pcidev;
        if (pci.class_id >> 8 != display_controller && pci.class_id >> 8 != accelerator) continue;
        char address[64], id[32];
        std::snprintf(address, sizeof address, "%04x:%02x:%02x.%01x", unsigned(pci.domain), pci.bus, pci.dev, pci.func);
        std::snprintf(id, sizeof id, "PCI %04x:%04x", pci.vendor_id, pci.device_id);
        gpus.push_back({d->name ? d->name : id, address, double(pci.linkspeed)});
    }
}

void add_caches(hwloc_topology_t t, std::vector<TopologyCache>& caches) {
    const std::pair<hwloc_obj_type_t, const char*> kinds[] = {
        {HWLOC_OBJ_L1CACHE, "L1"}, {HWLOC_OBJ_L2CACHE, "L2"}, {HWLOC_OBJ_L3CACHE, "L3"}, {HWLOC_OBJ_L4CACHE, "L4"}};
    for (const auto& [type, name] : kinds)
        if (const int n = hwloc_get_nbobjs_by_type(t, type); n > 0)
            caches.push_back({name, n, int64_t(hwloc_get_obj_by_type(t, type, 0)->attr->cache.size)});
}

}  // namespace

Topology read_topology() {
    hwloc_topology_t t = nullptr;
    check_system(hwloc_topology_init(&t) == 0, "hwloc cannot start");
    hwloc_topology_set_io_types_filter(t, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (hwloc_topology_load(t) != 0) {
        hwloc_topology_destroy(t);
        throw Error("hwloc cannot read this machine's topology");
    }
    const auto count = [t](hwloc_obj_type_t type) { return std::max(0, hwloc_get_nbobjs_by_type(t, type)); };
    Topology all;
    all.sockets = count(HWLOC_OBJ_PACKAGE), all.numas = count(HWLOC_OBJ_NUMANODE);
    all.cores = count(HWLOC_OBJ_CORE), all.threads = count(HWLOC_OBJ_PU);
    const hwloc_obj_t root = hwloc_get_root_obj(t);
    all.memory_bytes = host_memory_bytes();  // hwloc's sum over NUMA nodes may lack what was plugged in since the start
    for (const hwloc_obj_t from : {hwloc_get_obj_by_type(t, HWLOC_OBJ_PACKAGE, 0), root})
        if (const char* model = from ? hwloc_obj_get_info_by_name(from, "CPUModel") : nullptr; model && all.cpu.empty())
            all.cpu = model;
    add_caches(t, all.caches);
    add_gpus(t, all.gpus);
    hwloc_topology_destroy(t);
    return all;
}

nlohmann::json to_json(const Topology& t) {
    auto caches = nlohmann::json::array(), gpus = nlohmann::json::array();
    for (const auto& c : t.caches) caches.push_back({{"name", c.name}, {"count", c.count}, {"bytes", c.bytes}});
    for (const auto& g : t.gpus)
        gpus.push_back({{"name", g.name}, {"address", g.address}, {"pci_gbytes_per_s", g.gbytes_per_s}});
    return {{"cpu", t.cpu},         {"sockets", t.sockets},           {"numa_nodes", t.numas}, {"cores", t.cores},
            {"threads", t.threads}, {"memory_bytes", t.memory_bytes}, {"caches", caches},      {"gpus", gpus}};
}

}  // namespace tessera
