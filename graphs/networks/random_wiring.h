// graphs/networks/random_wiring.h - directed graphs that are drawn at random from a seed.
#pragma once
#include <cstdint>
#include <vector>

namespace tessera {

// For each node the nodes before it that it has an edge from, ascending. Watts, Strogatz 1998, Nature 393, as in Xie et
// al. 2019: `nodes` on a ring, each joined to `neighbours`/2 on both sides; for i = 1 ... neighbours/2, round the ring,
// the edge from a node to the i-th after it goes with probability `rewired` to a random node instead, never to itself
// nor twice to one. Edges lead from the smaller number to the larger. `neighbours` is even and less than `nodes` - 1.
std::vector<std::vector<int>> watts_strogatz(int nodes, int neighbours, double rewired, uint64_t seed, uint64_t stream);

}  // namespace tessera
