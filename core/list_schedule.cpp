#include "core/list_schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <set>

#include "core/error.h"
#include "core/random.h"

namespace tessera {

constexpr double never = std::numeric_limits<double>::infinity();
constexpr int warm_steps = 2;  // after which tiles lie where every further step leaves them

// What time it is where: of workers, of the two directions of every memory, of tiles in every memory.
struct ListScheduler::Clock {
    std::vector<double> worker, sending, receiving;
    std::vector<std::vector<double>> valid;         // [tile][memory]: when a copy is there
    std::vector<double> read_until, written_until;  // of tiles: what a writer, and any, waits for
    double end = 0;

    Clock(const Plan& plan, const Devices& d)
        : worker(size_t(d.workers())),
          sending(size_t(d.memories())),
          receiving(size_t(d.memories())),
          // Everywhere: where weights begin does not last, and what no step writes is fetched once.
          valid(plan.tiles.size(), std::vector<double>(size_t(d.memories()))),
          read_until(plan.tiles.size()),
          written_until(plan.tiles.size()) {}
};

int Placement::workers_used() const { return int(std::set<int>(worker.begin(), worker.end()).size()); }

ListScheduler::ListScheduler(const Plan& plan, std::vector<std::vector<double>> times_s, Devices devices, bool ordered)
    : plan_(plan), times_(std::move(times_s)), devices_(std::move(devices)), before_(dependencies(plan, ordered)) {
    after_.resize(before_.size());
    std::vector<double> fastest;
    for (size_t t = 0; t < before_.size(); ++t) {
        for (int b : before_[t]) after_[size_t(b)].push_back(int(t));
        double least = never;
        for (int w = 0; w < devices_.workers(); ++w)
            if (runs_on(w, int(t))) least = std::min(least, times_[size_t(devices_.kind[size_t(w)])][t]);
        if (least == never) throw Error(plan.tasks[t].codelet->name + " runs on none of these devices");
        fastest.push_back(least);
    }
    ranks_ = upward_ranks(plan, fastest, ordered);
}

bool ListScheduler::runs_on(int worker, int task) const {
    return std::isfinite(times_[size_t(devices_.kind[size_t(worker)])][size_t(task)]);
}

// Higher ranks first, none before what it waits for.
std::vector<int> ListScheduler::order_by(const std::vector<double>& rank) const {
    using Entry = std::pair<double, int>;
    std::priority_queue<Entry> free;
    std::vector<size_t> waits;
    for (size_t t = 0; t < before_.size(); ++t) {
        waits.push_back(before_[t].size());
        if (waits[t] == 0) free.push({rank[t], -int(t)});  // the earlier of equals
    }
    std::vector<int> order;
    while (!free.empty()) {
        const int t = -free.top().second;
        free.pop();
        order.push_back(t);
        for (int a : after_[size_t(t)])
            if (--waits[size_t(a)] == 0) free.push({rank[size_t(a)], -a});
    }
    return order;
}

double ListScheduler::ready(const Clock& c, int task) const {
    double at = 0;
    for (const TileUse& u : plan_.tasks[size_t(task)].tiles) {
        at = std::max(at, c.written_until[size_t(u.tile)]);
        if (u.access != Access::read) at = std::max(at, c.read_until[size_t(u.tile)]);
    }
    return at;
}

// Where the tile would come from: the memory that has it there first.
static int source_of(const std::vector<double>& valid, int to, const Devices& d, int64_t bytes) {
    int best = -1;
    double least = never;
    for (int from = 0; from < d.memories(); ++from) {
        if (from == to || valid[size_t(from)] == never) continue;
        const double at = valid[size_t(from)] + d.transfer_s(from, to, bytes);
        if (at < least) least = at, best = from;
    }
    return best;
}

double ListScheduler::finish(const Clock& c, int task, int worker, double reluctance) const {
    const int to = devices_.memory[size_t(worker)];
    const double from_here = ready(c, task);
    double data = from_here, receiving = c.receiving[size_t(to)], moved = 0;
    for (const TileUse& u : plan_.tasks[size_t(task)].tiles) {
        if (u.access == Access::write || c.valid[size_t(u.tile)][size_t(to)] != never) continue;
        const int64_t bytes = plan_.tiles[size_t(u.tile)].bytes;
        const int from = source_of(c.valid[size_t(u.tile)], to, devices_, bytes);
        const double takes = devices_.transfer_s(from, to, bytes);
        receiving = std::max({receiving, c.sending[size_t(from)], from_here}) + takes;
        moved += takes;
        data = std::max(data, receiving);
    }
    return std::max(c.worker[size_t(worker)], data) + times_[size_t(devices_.kind[size_t(worker)])][size_t(task)] +
           (reluctance - 1) * moved;
}

void ListScheduler::run(Clock& c, int task, int worker) const {
    const int to = devices_.memory[size_t(worker)];
    const double from_here = ready(c, task);
    double data = from_here;
    const auto& tiles = plan_.tasks[size_t(task)].tiles;
    for (const TileUse& u : tiles) {
        auto& valid = c.valid[size_t(u.tile)];
        if (u.access == Access::write) continue;
        if (valid[size_t(to)] == never) {
            const int64_t bytes = plan_.tiles[size_t(u.tile)].bytes;
            const int from = source_of(valid, to, devices_, bytes);
            const double start = std::max({c.receiving[size_t(to)], c.sending[size_t(from)], from_here});
            const double end = start + devices_.transfer_s(from, to, bytes);
            c.receiving[size_t(to)] = c.sending[size_t(from)] = valid[size_t(to)] = end;
        }
        data = std::max(data, valid[size_t(to)]);
    }
    double& free = c.worker[size_t(worker)];
    free = std::max(free, data) + times_[size_t(devices_.kind[size_t(worker)])][size_t(task)];
    c.end = std::max(c.end, free);
    for (const TileUse& u : tiles) {
        double& read = c.read_until[size_t(u.tile)];
        read = std::max(read, free);
        if (u.access == Access::read) continue;
        auto& valid = c.valid[size_t(u.tile)];
        std::fill(valid.begin(), valid.end(), never);
        valid[size_t(to)] = c.written_until[size_t(u.tile)] = free;
    }
}

double ListScheduler::step_seconds(const Placement& p) const {
    Clock clock(plan_, devices_);
    double before = 0;
    for (int step = 0; step <= warm_steps; ++step) {
        before = clock.end;
        for (int t : p.order) run(clock, t, p.worker[size_t(t)]);
    }
    return clock.end - before;
}

Placement ListScheduler::greedy(const Choice& choice) const {
    std::vector<double> rank = ranks_;
    for (size_t t = 0; t < rank.size() && choice.noise > 0; ++t)  // of a node, so that its tiles stay together
        rank[t] *= 1 + choice.noise * (double(random_uniform(choice.seed, 0, uint64_t(plan_.tasks[t].node))) - 0.5);
    Placement p{0, std::vector<int>(rank.size()), order_by(rank)};
    const auto may = [&](int w) { return choice.allowed.empty() || choice.allowed[size_t(w)]; };
    Clock clock(plan_, devices_);
    for (int step = 0; step < warm_steps; ++step)  // the second knows where weights are kept
        for (int t : p.order) {
            int best = -1;
            double least = never;
            for (const bool any : {false, true}) {
                for (int w = 0; w < devices_.workers(); ++w) {
                    if (!(any || may(w)) || !runs_on(w, t)) continue;
                    const double end = finish(clock, t, w, choice.reluctance);
                    if (end < least) least = end, best = w;
                }
                if (best >= 0) break;
            }
            run(clock, t, best);
            p.worker[size_t(t)] = best;
        }
    p.step_s = step_seconds(p);
    return p;
}

// All devices; the host's workers with each single other one; then with the first two, three, ... of the others.
std::vector<std::vector<bool>> ListScheduler::device_sets() const {
    std::vector<std::vector<bool>> sets;
    const auto with = [&](auto&& allowed) {
        std::vector<bool> set;
        for (int w = 0; w < devices_.workers(); ++w)
            set.push_back(devices_.memory[size_t(w)] == 0 || allowed(devices_.memory[size_t(w)]));
        if (std::find(sets.begin(), sets.end(), set) == sets.end()) sets.push_back(std::move(set));
    };
    with([](int) { return true; });
    for (int m = 1; m < devices_.memories(); ++m) with([&](int memory) { return memory == m; });
    for (int m = 2; m < devices_.memories(); ++m) with([&](int memory) { return memory <= m; });
    return sets;
}

Placement ListScheduler::search(int tries, uint64_t seed) const {
    Placement best{never, {}, {}};
    const auto keep = [&](Placement p) {
        if (p.step_s < best.step_s) best = std::move(p);
    };
    const auto sets = device_sets();
    int done = 0;
    for (const auto& set : sets) keep(greedy({.allowed = set})), ++done;
    constexpr double reluctances[] = {1, 1.5, 2, 4, 8}, noises[] = {0, 0.05, 0.2, 0.5};
    uint64_t draw = 0;
    const auto pick = [&](size_t count) { return size_t(random_bits(seed, 1, draw++) % count); };
    for (; done < tries / 2; ++done)
        keep(greedy({.noise = noises[pick(4)],
                     .reluctance = reluctances[pick(5)],
                     .seed = draw,
                     .allowed = sets[pick(sets.size())]}));
    // Moves: a node, or one with those behind it in the plan, to another worker.
    for (; done < tries; ++done) {
        Placement p = best;
        const int node = plan_.tasks[pick(plan_.tasks.size())].node, count = 1 << pick(4);
        const int to = int(pick(size_t(devices_.workers())));
        for (size_t t = 0; t < p.worker.size(); ++t) {
            const int n = plan_.tasks[t].node;
            if (n >= node && n < node + count && runs_on(to, int(t))) p.worker[t] = to;
        }
        p.step_s = step_seconds(p);
        keep(std::move(p));
    }
    return best;
}

}  // namespace tessera
