// pci_tree() of models/platform.h: a switch per two GPUs, one link of the host.
#include <algorithm>

#include "models/bus.h"

namespace tessera {
namespace {

class Tree {
 public:
    explicit Tree(const Bus& bus) : bus_(bus) {}

    Platform build(double host_mbytes_per_s) {
        add_hosts();
        if (bus_.cudas == 0) return p_;
        p_.links.push_back({"Host", host_mbytes_per_s > 0 ? host_mbytes_per_s * 1e6 : fastest_over_host(), 0});
        for (int g = 0; g < bus_.cudas; g += 2) add_switch(g);
        for (int g = 0; g < bus_.cudas; ++g) {
            p_.links.push_back({link(g) + " up", widest(g, true), 0});
            p_.links.push_back({link(g) + " down", widest(g, false), 0});
        }
        for (int g = 0; g < bus_.cudas; ++g) {
            add_route(ram, g, {link(g) + " down", hub(g) + " through", hub(g) + " down", "Host"});
            add_route(g, ram, {link(g) + " up", hub(g) + " through", hub(g) + " up", "Host"});
            for (int other = 0; other < bus_.cudas; ++other)
                if (other != g) add_route(g, other, peer_links(g, other));
        }
        return p_;
    }

 private:
    static constexpr int ram = -1;
    int node(int gpu) const { return gpu == ram ? 0 : bus_.gpu_node(gpu); }
    double speed(int from, int to) const { return bus_.mbytes_per_s[size_t(node(from))][size_t(node(to))] * 1e6; }
    static std::string name(int gpu) { return gpu == ram ? "RAM" : "CUDA" + std::to_string(gpu); }
    static std::string link(int gpu) { return "PCI:gpu" + std::to_string(gpu); }
    static std::string hub(int gpu) { return "PCI:switch" + std::to_string(gpu / 2); }

    // Peers much faster than the links to the host have wires of their own (NVLink).
    bool direct(int from, int to) const { return speed(from, to) > 1.5 * std::max(speed(from, ram), speed(ram, to)); }

    // What a GPU's own link carries: the fastest of all that was seen on it.
    double widest(int gpu, bool up) const {
        double most = up ? speed(gpu, ram) : speed(ram, gpu);
        for (int other = 0; other < bus_.cudas; ++other) {
            const int from = up ? gpu : other, to = up ? other : gpu;
            if (from != to && !direct(from, to)) most = std::max(most, speed(from, to));
        }
        return most;
    }
    double fastest_over_host() const {
        double most = 0;
        for (int g = 0; g < bus_.cudas; ++g) {
            most = std::max({most, speed(g, ram), speed(ram, g)});
            for (int other = 0; other < bus_.cudas; ++other)
                if (hub(other) != hub(g) && !direct(g, other)) most = std::max(most, speed(g, other));
        }
        return most;
    }
    void add_hosts() {
        p_.hosts.push_back({"MAIN", {}});
        for (int i = 0; i < bus_.cpus; ++i) p_.hosts.push_back({"CPU" + std::to_string(i), {}});
        for (int g = 0; g < bus_.cudas; ++g) {
            const BusDevice& d = bus_.devices[size_t(g)];
            p_.hosts.push_back({name(g),
                                {{"model", d.model},
                                 {"memsize", std::to_string(d.memory_bytes)},
                                 {"memcpy_peer", d.peer ? "1" : "0"}}});
        }
        p_.hosts.push_back({"RAM", {}});
    }
    void add_switch(int first) {
        double up = 0, down = 0, through = 0;
        for (int g = first; g < std::min(first + 2, bus_.cudas); ++g) {
            up = std::max(up, speed(g, ram)), down = std::max(down, speed(ram, g));
            through = std::max({through, widest(g, true), widest(g, false)});
        }
        // Uplink: whatever either GPU or a peer beyond the host was seen to use.
        for (int g = first; g < std::min(first + 2, bus_.cudas); ++g)
            for (int other = 0; other < bus_.cudas; ++other) {
                if (hub(other) == hub(g)) continue;
                if (!direct(g, other)) up = std::max(up, speed(g, other));
                if (!direct(other, g)) down = std::max(down, speed(other, g));
            }
        p_.links.push_back({hub(first) + " up", up, 0});
        p_.links.push_back({hub(first) + " down", down, 0});
        p_.links.push_back({hub(first) + " through", 2 * std::max({through, up, down}), 0});  // both directions at once
    }
    // StarPU takes the last "through" before the first "up" as the bridge that the pair shares: hence the order.
    std::vector<std::string> peer_links(int from, int to) const {
        if (direct(from, to)) return {};
        std::vector<std::string> links = {link(to) + " down", hub(to) + " through"};
        if (hub(from) != hub(to))
            links.insert(links.end(), {hub(to) + " down", "Host", hub(from) + " up", hub(from) + " through"});
        links.push_back(link(from) + " up");
        return links;
    }
    void add_route(int from, int to, std::vector<std::string> shared) {
        const std::string pair = name(from) + "-" + name(to);
        p_.links.push_back({pair, speed(from, to), bus_.latency_us[size_t(node(from))][size_t(node(to))] * 1e-6});
        shared.insert(shared.begin(), pair);
        p_.routes.push_back({name(from), name(to), std::move(shared)});
    }

    const Bus& bus_;
    Platform p_;
};

}  // namespace

Platform pci_tree(const Bus& bus, double host_mbytes_per_s) { return Tree(bus).build(host_mbytes_per_s); }

}  // namespace tessera
