#include "core/task_families.h"

#include <map>
#include <numeric>

namespace tessera {
namespace {

// Sets of tasks, each named by one of them (union-find, Tarjan 1975).
class Sets {
 public:
    explicit Sets(size_t tasks) : parent_(tasks) { std::iota(parent_.begin(), parent_.end(), 0); }
    int of(int t) {
        while (parent_[size_t(t)] != t) t = parent_[size_t(t)] = parent_[size_t(parent_[size_t(t)])];
        return t;
    }
    void join(int a, int b) { parent_[size_t(of(a))] = of(b); }

 private:
    std::vector<int> parent_;
};

struct Tile {
    std::vector<int> users;
    bool kept = false;  // a step reads what the one before has written
};

std::vector<Tile> tiles_of(const Plan& plan) {
    std::vector<Tile> tiles(plan.tiles.size());
    std::vector<char> read_first(plan.tiles.size());
    for (size_t t = 0; t < plan.tasks.size(); ++t)
        for (const TileUse& u : plan.tasks[t].tiles) {
            Tile& tile = tiles[size_t(u.tile)];
            if (tile.users.empty()) read_first[size_t(u.tile)] = u.access != Access::write;
            if (u.access != Access::read && read_first[size_t(u.tile)]) tile.kept = true;
            tile.users.push_back(int(t));
        }
    return tiles;
}

}  // namespace

std::vector<std::vector<int>> task_families(const Plan& plan) {
    const size_t tasks = plan.tasks.size();
    const std::vector<Tile> tiles = tiles_of(plan);
    Sets sets(tasks);
    std::vector<bool> placed(tasks);
    for (const Tile& tile : tiles)
        for (const int t : tile.users)
            if (tile.kept) sets.join(t, tile.users.front()), placed[size_t(t)] = true;
    // The family with which the task shares most, or -1.
    const auto nearest = [&](size_t task) {
        std::map<int, int64_t> shared;
        for (const TileUse& u : plan.tasks[task].tiles)
            for (const int other : tiles[size_t(u.tile)].users)
                if (placed[size_t(other)]) shared[sets.of(other)] += plan.tiles[size_t(u.tile)].bytes;
        int family = -1;
        int64_t most = 0;
        for (const auto& [of, bytes] : shared)
            if (bytes > most) most = bytes, family = of;
        return family;
    };
    for (bool found = true; found;) {  // each time those next to what was placed before
        std::vector<std::pair<size_t, int>> next;
        for (size_t t = 0; t < tasks; ++t)
            if (!placed[t])
                if (const int family = nearest(t); family >= 0) next.emplace_back(t, family);
        for (const auto& [t, family] : next) sets.join(int(t), family), placed[t] = true;
        found = !next.empty();
    }
    std::vector<std::vector<int>> families;
    std::map<int, size_t> number;
    for (size_t t = 0; t < tasks; ++t) {
        const auto [at, is_new] = number.emplace(sets.of(int(t)), families.size());
        if (is_new) families.emplace_back();
        families[at->second].push_back(int(t));
    }
    return families;
}

}  // namespace tessera
