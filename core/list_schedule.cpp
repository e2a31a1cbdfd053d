#include "core/list_schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <set>

#include "core/error.h"
#include "core/random.h"
#include "core/schedule_search.h"
#include "core/task_families.h"
#include "core/threads.h"

namespace tessera {

int Placement::workers_used() const { return int(std::set<int>(worker.begin(), worker.end()).size()); }

ListScheduler::ListScheduler(const Plan& plan, std::vector<std::vector<double>> times_s, Devices devices, bool ordered)
    : plan_(plan), times_(std::move(times_s)), devices_(std::move(devices)), before_(dependencies(plan, ordered)) {
    after_.resize(before_.size());
    std::vector<double> fastest;
    for (size_t t = 0; t < before_.size(); ++t) {
        for (int b : before_[t]) after_[size_t(b)].push_back(int(t));
        double least = never;
        for (int w = 0; w < devices_.workers(); ++w)
            if (runs_on(w, int(t))) least = std::min(least, seconds(int(t), w));
        if (least == never) throw Error(plan.tasks[t].codelet->name + " runs on none of these devices");
        fastest.push_back(least);
    }
    ranks_ = upward_ranks(plan, fastest, ordered);
    first_use_.push_back(0);
    for (const TaskSpec& task : plan.tasks) {
        for (const TileUse& u : task.tiles)
            uses_.push_back({plan.place(u.tile), u.access != Access::write, u.access != Access::read,
                             plan.tiles[size_t(u.tile)].bytes});
        first_use_.push_back(uses_.size());
    }
}

bool ListScheduler::runs_on(int worker, int task) const { return std::isfinite(seconds(task, worker)); }

// Higher ranks first, the earlier of equals, none before what it waits for.
std::vector<int> ListScheduler::order_by(const std::vector<double>& rank) const {
    using Entry = std::pair<double, int>;
    std::vector<int> order;
    std::vector<size_t> waits;
    std::priority_queue<Entry> free;
    for (size_t t = 0; t < rank.size(); ++t) {
        waits.push_back(before_[t].size());
        if (waits[t] == 0) free.emplace(rank[t], -int(t));
    }
    while (!free.empty()) {
        const int t = -free.top().second;
        free.pop();
        order.push_back(t);
        for (int a : after_[size_t(t)])
            if (--waits[size_t(a)] == 0) free.emplace(rank[size_t(a)], -a);
    }
    return order;
}

double ListScheduler::ready(const Clock& c, int task) const {
    double at = 0;
    for (const Use& u : uses(task)) {
        at = std::max(at, c.written_until(u.tile));
        if (u.writes) at = std::max(at, c.read_until(u.tile));
    }
    return at;
}

// Where the tile would come from: the memory that has it there first.
int ListScheduler::source_of(const Clock& c, const Use& use, int to) const {
    const double* valid = c.valid(use.tile);
    int best = -1;
    double least = never;
    for (int from = 0; from < devices_.memories(); ++from) {
        if (from == to || valid[from] == never) continue;
        const double at = valid[from] + devices_.transfer_s(from, to, use.bytes);
        if (at < least) least = at, best = from;
    }
    return best;
}

// When all that it takes is free at once.
double ListScheduler::start_of(const Clock& c, const Use& use, int from, int to, double earliest) const {
    const double takes = devices_.transfer_s(from, to, use.bytes);
    const std::vector<int>* links = devices_.links.empty() ? nullptr : &devices_.links[size_t(from)][size_t(to)];
    for (double start = earliest;;) {
        const double tried = start;
        start = c.receiving[size_t(to)].fits(start, takes);
        start = c.sending[size_t(from)].fits(start, takes);
        if (links)
            for (int l : *links)
                start = c.link[size_t(l)].fits(start, double(use.bytes) / devices_.link_bytes_per_s[size_t(l)]);
        if (start == tried || !devices_.insertion) return start;
    }
}

void ListScheduler::send(Clock& c, const Use& use, int from, int to, double earliest) const {
    const double start = start_of(c, use, from, to, earliest), takes = devices_.transfer_s(from, to, use.bytes);
    const auto book = [&](Timeline& t, double seconds) {
        devices_.insertion ? t.take(start, seconds) : t.end_with(start + seconds);
    };
    book(c.receiving[size_t(to)], takes), book(c.sending[size_t(from)], takes);
    if (!devices_.links.empty())  // others may use what this transfer leaves of a link
        for (int l : devices_.links[size_t(from)][size_t(to)])
            book(c.link[size_t(l)], double(use.bytes) / devices_.link_bytes_per_s[size_t(l)]);
    c.valid(use.tile)[to] = start + takes;
}

double ListScheduler::finish(const Clock& c, int task, int worker, double reluctance) const {
    const int to = devices_.memory[size_t(worker)];
    const double from_here = ready(c, task), each = devices_.fetching(to);
    double data = from_here, moved = 0, arrived = 0, fetching = 0;  // its tiles come one after the other
    for (const Use& u : uses(task)) {
        if (!u.reads || c.valid(u.tile)[to] != never) continue;
        const int from = source_of(c, u, to);
        const double takes = devices_.transfer_s(from, to, u.bytes);
        const double earliest = devices_.sent_on ? c.valid(u.tile)[from] : from_here;
        arrived = start_of(c, u, from, to, std::max(arrived, earliest)) + takes;
        data = std::max(data, arrived);
        moved += takes, fetching += each;
    }
    const double takes = fetching + seconds(task, worker);
    return c.worker[size_t(worker)].fits(data - fetching, takes) + takes + (reluctance - 1) * moved;
}

double ListScheduler::run(Clock& c, int task, int worker) const {
    const int to = devices_.memory[size_t(worker)];
    const double from_here = ready(c, task);
    double data = from_here, fetching = 0;
    for (const Use& u : uses(task)) {
        if (!u.reads) continue;
        const double& here = c.valid(u.tile)[to];
        if (here == never) {
            const int from = source_of(c, u, to);
            send(c, u, from, to, devices_.sent_on ? c.valid(u.tile)[from] : from_here);
            fetching += devices_.fetching(to);
        }
        data = std::max(data, here);
    }
    Timeline& its = c.worker[size_t(worker)];
    const double takes = fetching + seconds(task, worker), begin = its.fits(data - fetching, takes);
    const double end = begin + takes;
    devices_.insertion ? its.take(begin, takes) : its.end_with(end);
    c.end = std::max(c.end, end);
    for (const Use& u : uses(task)) {
        double& read = c.read_until(u.tile);
        read = std::max(read, end);
        if (!u.writes) continue;
        double* valid = c.valid(u.tile);
        std::fill(valid, valid + c.memories(), never);
        valid[to] = c.written_until(u.tile) = end;
    }
    return begin + fetching;
}

double ListScheduler::step_seconds(const Placement& p) const {
    Clock clock(plan_, devices_);
    for (int step = 0; step <= warm_steps; ++step) {
        clock.begin_step();
        for (int t : p.order) run(clock, t, p.worker[size_t(t)]);
    }
    return clock.step_s();
}

std::vector<Placement::Time> ListScheduler::times(const Placement& p) const {
    std::vector<Placement::Time> all(p.order.size());
    Clock clock(plan_, devices_);
    for (int step = 0; step <= warm_steps; ++step) {
        clock.begin_step();
        for (int t : p.order) {
            const int worker = p.worker[size_t(t)];
            all[size_t(t)] = {run(clock, t, worker) - clock.begin, seconds(t, worker)};
        }
    }
    return all;
}

// Of tasks that start at once, the one that takes no time may be what the other waits for.
Placement ListScheduler::by_start(Placement p) const {
    std::vector<double> rank;
    for (const Placement::Time& t : times(p)) rank.push_back(-t.start_s);
    p.order = order_by(rank);
    return p;
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

// The host's, and those of the memories from `first` to `last`.
std::vector<bool> ListScheduler::workers_in(int first, int last) const {
    std::vector<bool> workers;
    for (const int memory : devices_.memory) workers.push_back(memory == 0 || (first <= memory && memory <= last));
    return workers;
}

// All devices; the host's workers with each single other one; then with the first two, three, ... of the others.
std::vector<std::vector<bool>> ListScheduler::device_sets() const {
    const int last = devices_.memories() - 1;
    std::vector<std::vector<bool>> sets = {workers_in(1, last)};
    for (int m = 1; m <= last && last > 1; ++m) sets.push_back(workers_in(m, m));
    for (int m = 2; m < last; ++m) sets.push_back(workers_in(1, m));
    return sets;
}

std::vector<Placement> ListScheduler::search(int tries, std::vector<Placement> starts, uint64_t seed) const {
    const auto sets = device_sets();
    std::vector<Placement> best(sets.size(), {never, {}, {}});
    const auto keep = [&](size_t set, Choice choice) {
        choice.allowed = sets[set];
        if (Placement p = greedy(choice); p.step_s < best[set].step_s) best[set] = std::move(p);
    };
    int done = 0;
    for (size_t set = 0; set < sets.size(); ++set) keep(set, {}), ++done;
    constexpr double reluctances[] = {1, 1.5, 2, 4, 8}, noises[] = {0, 0.05, 0.2, 0.5};
    uint64_t draw = 0;
    const auto pick = [&](size_t count) { return size_t(random_bits(seed, 1, draw++) % count); };
    for (; done < tries / 32; ++done) {
        const double noise = noises[pick(4)], reluctance = reluctances[pick(5)];
        keep(pick(sets.size()), {.noise = noise, .reluctance = reluctance, .seed = draw});
    }
    // From the best, among all devices, and from the best of half, a quarter ... of the devices, among those: few
    // changes of a schedule that uses all lead to one that leaves some alone.
    struct Chain {
        Placement best;
        std::vector<bool> among;
    };
    const auto faster = [](const Placement& a, const Placement& b) { return a.step_s < b.step_s; };
    std::vector<Chain> chains = {{*std::min_element(best.begin(), best.end(), faster), sets[0]}};
    for (int count = (devices_.memories() - 1) / 2; count >= 2; count /= 2) {
        const auto among = workers_in(1, count);
        chains.push_back({best[size_t(std::find(sets.begin(), sets.end(), among) - sets.begin())], among});
    }
    constexpr size_t least_chains = 4;
    const size_t once = chains.size(), copies = std::max<size_t>(2, (least_chains + once - 1) / once);
    for (size_t c = 0; c < once * (copies - 1); ++c) chains.push_back(Chain(chains[c]));
    for (Placement& p : starts) p.step_s = step_seconds(p);
    std::stable_sort(starts.begin(), starts.end(), faster);
    for (size_t c = 0, next = 0; c < chains.size() && !starts.empty(); ++c) {
        const Placement& start = starts[next % starts.size()];
        const auto stays = [&](int worker) { return chains[c].among[size_t(worker)]; };
        if (!std::all_of(start.worker.begin(), start.worker.end(), stays)) continue;
        if (faster(start, chains[c].best)) chains[c].best = start;
        ++next;
    }
    // In the first half, the worse half goes on from where the better half is; then each goes its own way.
    const auto families = task_families(plan_);
    constexpr int rounds = 8;
    for (int round = 0; round < rounds; ++round) {
        const size_t half = chains.size() / 2;
        for (size_t c = half; c < 2 * half && 0 < round && round <= rounds / 2; ++c) chains[c] = chains[c - half];
        in_threads(int64_t(chains.size()), [&](int64_t c) {
            auto& [placement, among] = chains[size_t(c)];
            const uint64_t own = mix64(seed + mix64(uint64_t(c) + chains.size() * uint64_t(round)));
            placement = ScheduleSearch(*this, std::move(placement), among, families, own)
                            .run((tries - done) / rounds, 1 - double(round) / rounds, 1 - double(round + 1) / rounds);
        });
        std::stable_sort(chains.begin(), chains.end(),
                         [&](const Chain& a, const Chain& b) { return faster(a.best, b.best); });
    }
    std::vector<Placement> found;
    for (Chain& c : chains) found.push_back(std::move(c.best));
    return found;
}

}  // namespace tessera
