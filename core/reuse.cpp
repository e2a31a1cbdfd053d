#include "core/reuse.h"

#include <algorithm>
#include <map>
#include <queue>
#include <set>
#include <tuple>

namespace tessera {
namespace {

struct Life {
    int first = -1, last = -1;  // tasks
    double begin = 0, end = 0;  // of the first; of the one that ends last
    bool lent = false;          // may give and take
};

std::vector<Life> lives_of(const Plan& plan, const std::vector<double>& times, bool ordered) {
    const auto edges = dependencies(plan, ordered);
    std::vector<double> begin(edges.size());
    std::vector<Life> lives(plan.tiles.size());
    for (size_t i = 0; i < edges.size(); ++i) {
        for (int d : edges[i]) begin[i] = std::max(begin[i], begin[size_t(d)] + times[size_t(d)]);
        for (const TileUse& u : plan.tasks[i].tiles) {
            Life& l = lives[size_t(u.tile)];
            if (l.first < 0) {
                const PlanValue& v = plan.values[size_t(plan.tiles[size_t(u.tile)].value)];
                l.first = int(i), l.begin = begin[i];
                l.lent = u.access == Access::write && !v.param && !v.buffered && !v.kept;
            }
            l.last = int(i), l.end = std::max(l.end, begin[i] + times[i]);
        }
    }
    return lives;
}

}  // namespace

int64_t reuse_memory(Plan& plan, const std::vector<double>& times, bool ordered) {
    const auto lives = lives_of(plan, times, ordered);
    std::vector<int> by_first;
    for (size_t k = 0; k < lives.size(); ++k)
        if (lives[k].lent) by_first.push_back(int(k));
    std::stable_sort(by_first.begin(), by_first.end(),
                     [&](int a, int b) { return lives[size_t(a)].first < lives[size_t(b)].first; });
    // Of every extent and type: places that the plan's order has left, by the time at which they are free.
    using Kind = std::tuple<int64_t, int64_t, DType>;
    std::map<Kind, std::set<std::pair<double, int>>> left;
    using Ending = std::pair<int, int>;  // last task, tile
    std::priority_queue<Ending, std::vector<Ending>, std::greater<>> in_use;
    int64_t saved = 0;
    for (int k : by_first) {
        const Life& life = lives[size_t(k)];
        PlanTile& tile = plan.tiles[size_t(k)];
        const auto kind_of = [&](const PlanTile& t) {
            return Kind{t.rows, t.cols, plan.values[size_t(t.value)].dtype};
        };
        for (; !in_use.empty() && in_use.top().first < life.first; in_use.pop()) {
            const int other = in_use.top().second;
            left[kind_of(plan.tiles[size_t(other)])].emplace(lives[size_t(other)].end, other);
        }
        auto& places = left[kind_of(tile)];
        auto it = places.upper_bound({life.begin, int(lives.size())});
        if (it != places.begin()) {
            const int other = std::prev(it)->second;
            places.erase(std::prev(it));
            tile.reuses = plan.place(other);
            saved += tile.bytes;
        }
        in_use.emplace(life.last, k);
    }
    return saved;
}

void forget_reuse(Plan& plan) {
    for (PlanTile& t : plan.tiles) t.reuses = -1;
}

int64_t memory_bytes(const Plan& plan) {
    std::vector<bool> used(plan.tiles.size());
    for (const TaskSpec& t : plan.tasks)
        for (const TileUse& u : t.tiles) used[size_t(u.tile)] = true;
    int64_t sum = 0;
    for (size_t k = 0; k < used.size(); ++k)
        if (used[k] && plan.tiles[k].reuses < 0) sum += plan.tiles[k].bytes;
    return sum;
}

}  // namespace tessera
