#include "graphs/networks/random_wiring.h"

#include "core/graph.h"
#include "core/random.h"

namespace tessera {

std::vector<std::vector<int>> watts_strogatz(int nodes, int neighbours, double rewired, uint64_t seed,
                                             uint64_t stream) {
    require(neighbours > 0 && neighbours % 2 == 0 && neighbours < nodes - 1, "watts_strogatz",
            std::to_string(neighbours) + " neighbours of " + std::to_string(nodes) + " nodes");
    const size_t n = size_t(nodes);
    std::vector<std::vector<bool>> joined(n, std::vector<bool>(n));
    const auto join = [&](int a, int b, bool value) {
        joined[size_t(a)][size_t(b)] = value;
        joined[size_t(b)][size_t(a)] = value;
    };
    for (int v = 0; v < nodes; ++v)
        for (int i = 1; i <= neighbours / 2; ++i) join(v, (v + i) % nodes, true);
    uint64_t draws = 0;
    for (int i = 1; i <= neighbours / 2; ++i)
        for (int v = 0; v < nodes; ++v) {
            if (double(random_uniform(seed, stream, draws++)) >= rewired) continue;
            int64_t degree = 0;
            for (const bool edge : joined[size_t(v)]) degree += edge;
            if (degree == nodes - 1) continue;  // joined to all others
            int to = v;
            while (to == v || joined[size_t(v)][size_t(to)])
                to = int(random_bits(seed, stream, draws++) % uint64_t(nodes));
            join(v, (v + i) % nodes, false);
            join(v, to, true);
        }
    std::vector<std::vector<int>> before(n);
    for (int v = 0; v < nodes; ++v)
        for (int u = 0; u < v; ++u)
            if (joined[size_t(u)][size_t(v)]) before[size_t(v)].push_back(u);
    return before;
}

}  // namespace tessera
