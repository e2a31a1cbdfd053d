#include "core/schedule_search.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"

namespace tessera {

ScheduleSearch::ScheduleSearch(const ListScheduler& s, Placement start, const std::vector<bool>& allowed,
                               const std::vector<std::vector<int>>& families, uint64_t seed)
    : s_(s),
      families_(families),
      tasks_(start.worker.size()),
      stride_(tasks_ / snapshots + 1),
      seed_(seed),
      carries_(tasks_),
      path_(tasks_),
      waits_(tasks_),
      clock_(s.plan_, s.devices_),
      after_first_(clock_) {
    for (size_t w = 0; w < allowed.size(); ++w)
        if (allowed[w]) workers_.push_back(int(w));
    std::vector<char> read_first(s.plan_.tiles.size()), seen(s.plan_.tiles.size());
    for (size_t t = 0; t < tasks_; ++t)
        for (const auto& u : s.uses(int(t))) {
            if (!seen[size_t(u.tile)]) read_first[size_t(u.tile)] = u.reads;
            seen[size_t(u.tile)] = true;
        }
    for (size_t t = 0; t < tasks_; ++t)
        for (const auto& u : s.uses(int(t)))
            if (u.writes && read_first[size_t(u.tile)]) carries_[t] = true;
    for (size_t t = tasks_; t-- > 0;) {  // a task comes behind those that it waits for in the plan, too
        double least = never, behind = 0;
        for (int w = 0; w < s.devices_.workers(); ++w)
            if (s.runs_on(w, int(t))) least = std::min(least, s.seconds(int(t), w));
        for (const int a : s.after_[t]) behind = std::max(behind, path_[size_t(a)]);
        path_[t] = least + behind;
    }
    now_.placement = std::move(start);
    now_.rank.resize(tasks_), now_.position.resize(tasks_);
    for (size_t i = 0; i < tasks_; ++i) now_.rank[size_t(now_.placement.order[i])] = double(tasks_ - i);
}

size_t ScheduleSearch::pick(size_t count) { return size_t(random_bits(seed_, 2, draw_++) % count); }
double ScheduleSearch::uniform() { return double(random_uniform(seed_, 3, draw_++)); }

// Makes next_ of now_; the first position in the order that it changes, or the number of tasks.
size_t ScheduleSearch::move() {
    constexpr size_t widest = 9, widest_families = 4;  // moves take up to 2^8 tasks, 2^3 families
    next_.placement = now_.placement, next_.rank = now_.rank, carrying_.clear();
    const size_t kind = pick(20);
    if (kind >= 11) {
        const size_t first = pick(families_.size());
        return move_families(first, std::min(families_.size(), first + (size_t(1) << pick(widest_families))));
    }
    // Neighbours in the plan are often one branch of the network.
    const size_t first = pick(tasks_), end = std::min(tasks_, first + (size_t(1) << pick(widest)));
    return kind < 5 ? move_order(first, end) : move_tasks(first, end);
}

size_t ScheduleSearch::move_order(size_t first, size_t end) {
    const double by = (uniform() - 0.5) * double(tasks_) / 4;
    size_t same = tasks_;  // of the order: these tasks come as before at least until they could come earlier
    for (size_t t = first; t < end; ++t) {
        next_.rank[t] += by;
        size_t place = by < 0 ? now_.position[t] : 0;
        if (by > 0)
            for (int b : s_.before_[t]) place = std::max(place, now_.position[size_t(b)] + 1);
        same = std::min(same, place);
    }
    return reorder(same, first, end);
}

// next_'s order by its ranks, from a place on before which it is now_'s, and now_'s again as soon as the tasks whose
// ranks differ (`first` to `end`) have come and as many others have gone before as before. The first position that
// differs, or the number of tasks.
size_t ScheduleSearch::reorder(size_t from, size_t first, size_t end) {
    const auto& was = now_.placement.order;
    const auto& position = now_.position;
    auto& order = next_.placement.order;
    const auto waits_for = [&](int t) {
        const auto& all = s_.before_[size_t(t)];
        return int(std::count_if(all.begin(), all.end(), [&](int b) { return position[size_t(b)] >= from; }));
    };
    free_.clear();
    for (size_t i = from; i < tasks_; ++i) {
        int& waits = waits_[size_t(was[i])];
        waits = waits_for(was[i]);
        if (waits == 0) free_.emplace_back(next_.rank[size_t(was[i])], -was[i]);
    }
    std::make_heap(free_.begin(), free_.end());
    size_t to_come = 0, ahead = 0;  // of those whose ranks differ; of those that come earlier than they did
    for (size_t t = first; t < end; ++t) to_come += position[t] >= from;
    size_t changed = tasks_;
    for (size_t i = from; i < tasks_ && (to_come > 0 || ahead > 0); ++i) {
        std::pop_heap(free_.begin(), free_.end());
        const int t = -free_.back().second;
        free_.pop_back();
        order[i] = t;
        waits_[size_t(t)] = -1;  // has come
        to_come -= first <= size_t(t) && size_t(t) < end;
        if (t != was[i]) {
            changed = std::min(changed, i);
            ahead += position[size_t(t)] > i;
            ahead -= waits_[size_t(was[i])] < 0;
        }
        for (const int a : s_.after_[size_t(t)])
            if (--waits_[size_t(a)] == 0) {
                free_.emplace_back(next_.rank[size_t(a)], -a);
                std::push_heap(free_.begin(), free_.end());
            }
    }
    return changed;
}

size_t ScheduleSearch::move_tasks(size_t first, size_t end) {
    const int to = place_near(pick(2) ? s_.before_[first] : s_.after_[end - 1]);
    size_t changed = tasks_;
    for (size_t t = first; t < end; ++t) changed = std::min(changed, give(int(t), to));
    return changed;
}

size_t ScheduleSearch::move_families(size_t first, size_t end) {
    const auto& all = families_;
    const int to =
        place_near(pick(2) ? s_.before_[size_t(all[first].front())] : s_.after_[size_t(all[end - 1].front())]);
    size_t changed = tasks_;
    for (size_t f = first; f < end; ++f)
        for (const int t : all[f]) changed = std::min(changed, give(t, to));
    return changed;
}

// Any worker or, as often, that of a neighbour.
int ScheduleSearch::place_near(const std::vector<int>& neighbours) {
    return neighbours.empty() || pick(2) ? workers_[pick(workers_.size())]
                                         : now_.placement.worker[size_t(neighbours[pick(neighbours.size())])];
}

// In next_; the position in the order that it changes, or the number of tasks.
size_t ScheduleSearch::give(int task, int worker) {
    const size_t t = size_t(task);
    if (now_.placement.worker[t] == worker || !s_.runs_on(worker, task)) return tasks_;
    next_.placement.worker[t] = worker;
    if (carries_[t]) carrying_.push_back(task);
    return now_.position[t];
}

void ScheduleSearch::run_step() {
    const Placement& p = next_.placement;
    for (int t : p.order) s_.run(clock_, t, p.worker[size_t(t)]);
}

// A step of next_ from where the clock is, with what a later change of it starts from.
void ScheduleSearch::time_step() {
    const Placement& p = next_.placement;
    clock_.begin_step();
    next_.before.resize((tasks_ + stride_ - 1) / stride_, clock_);
    next_.position.resize(tasks_);
    for (size_t i = 0; i < tasks_; ++i) {
        if (i % stride_ == 0) next_.before[i / stride_] = clock_;
        const int t = p.order[i];
        next_.position[size_t(t)] = i;
        s_.run(clock_, t, p.worker[size_t(t)]);
    }
    next_.placement.step_s = clock_.step_s();
}

// Of next_: as ListScheduler::step_seconds.
void ScheduleSearch::time_in_full() {
    clock_ = ListScheduler::Clock(s_.plan_, s_.devices_);
    for (int step = 0; step < warm_steps; ++step) run_step();
    time_step();
}

// Whether a step of next_, as if it followed one of now_, from which it differs at `first`, takes no longer.
bool ScheduleSearch::ends_within(double limit, size_t first) {
    const size_t from = first / stride_;
    clock_ = now_.before[from];
    return rest_within(limit, from * stride_);
}

// The same of the second step after the change, behind the first of which clock_ is left: tiles lie elsewhere then.
// Most that take longer are found by one step, as if tiles had been there before.
bool ScheduleSearch::second_ends_within(double limit, size_t first) {
    clock_ = now_.before[0];
    for (const int t : carrying_)
        for (const auto& u : s_.uses(t))
            if (u.writes) clock_.move(u.tile, s_.devices_.memory[size_t(next_.placement.worker[size_t(t)])]);
    if (!rest_within(limit, 0)) return false;
    if (!ends_within(never, first)) return false;
    after_first_ = clock_;
    clock_.begin_step();
    if (!rest_within(limit, 0)) return false;
    std::swap(clock_, after_first_);
    return true;
}

// Runs a step of next_ from a position in its order to its end, unless it takes longer. Each task has the longest path
// behind it, and each worker all of its tasks to come; where these may be inserted before, it has them to do in a step.
bool ScheduleSearch::rest_within(double limit, size_t from) {
    constexpr double rounding = 1 + 1e-9;
    const Placement& p = next_.placement;
    const bool insertion = s_.devices_.insertion;
    const double surely = clock_.begin + limit * rounding;
    to_come_.assign(clock_.worker.size(), 0);
    for (size_t i = from; i < tasks_; ++i) {
        const int t = p.order[i], w = p.worker[size_t(t)];
        to_come_[size_t(w)] += s_.seconds(t, w);
    }
    for (size_t w = 0; w < to_come_.size() && insertion; ++w)
        if (clock_.worker[w].busy_since_mark() + to_come_[w] > limit * rounding) return false;
    for (size_t i = from; i < tasks_; ++i) {
        const int t = p.order[i], w = p.worker[size_t(t)];
        const double start = s_.run(clock_, t, w);
        double& to_come = to_come_[size_t(w)];
        if (start + std::max(insertion ? 0 : to_come, path_[size_t(t)]) > surely) return false;
        to_come -= s_.seconds(t, w);
    }
    return clock_.step_s() <= limit;
}

Placement ScheduleSearch::run(int tries, double warmest, double coldest) {
    // At first, of a step: schedules longer by so much are still taken now and then.
    constexpr double warmth = 0.0005;
    if (tasks_ == 0) return now_.placement;
    next_ = now_;
    time_in_full();
    now_ = next_;
    Placement best = now_.placement;
    for (int i = 0; i < tries; ++i) {
        size_t first = tasks_;
        for (int draws = 0; first == tasks_ && draws < 16; ++draws) first = move();
        if (first == tasks_) continue;
        const double still = warmth * now_.placement.step_s * (warmest - (warmest - coldest) * double(i) / tries);
        const double limit = now_.placement.step_s - still * std::log(1 - uniform());
        if (!carrying_.empty() ? !second_ends_within(limit, first) : !ends_within(limit, first)) continue;
        time_step();  // near enough, one step after the change; what may be the best is timed in full
        if (next_.placement.step_s < best.step_s) time_in_full();
        if (next_.placement.step_s >= limit) continue;
        std::swap(now_, next_);
        if (now_.placement.step_s < best.step_s) best = now_.placement;
    }
    return best;
}

}  // namespace tessera
