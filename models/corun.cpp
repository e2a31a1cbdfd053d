#include "models/corun.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <queue>
#include <set>

#include "core/statistics.h"
#include "models/calibration.h"

namespace tessera {
namespace {

// A plan's classes with their times alone on one device, by implementation; NaN: not measured.
struct Alone {
    std::vector<TaskClass> classes;
    std::vector<size_t> class_of_task;
    std::vector<std::vector<double>> us;
    std::vector<double> times_s;  // of every task, by the fastest

    Alone(const Plan& plan, const Machine& machine, const ModelDevice& device)
        : classes(classes_of({&plan})), times_s(estimated_times(plan)) {
        std::map<std::pair<const CodeletInfo*, uint32_t>, size_t> index;
        std::map<std::string, ModelFile> models;
        for (size_t c = 0; c < classes.size(); ++c) {
            const TaskSpec& t = *classes[c].task;
            index[{t.codelet, t.footprint}] = c;
            const auto [model, fresh] = models.try_emplace(t.codelet->name);
            if (fresh) model->second = machine.model(t.codelet->name);
            us.emplace_back();
            for (int i = 0; i < implementations(*t.codelet, device.type == 1); ++i) {
                const ModelEntry* e = model->second.find(device, i, t.footprint);
                us.back().push_back(e && e->samples > 0 ? e->mean_us : NAN);
            }
        }
        for (size_t i = 0; i < plan.tasks.size(); ++i) {
            class_of_task.push_back(index.at({plan.tasks[i].codelet, plan.tasks[i].footprint}));
            const int best = fastest(class_of_task[i]);
            if (best >= 0) times_s[i] = 1e-6 * us[class_of_task[i]][size_t(best)];
        }
    }
    int fastest(size_t c) const {  // -1: none was measured
        int best = -1;
        for (size_t i = 0; i < us[c].size(); ++i)
            if (!std::isnan(us[c][i]) && (best < 0 || us[c][i] < us[c][size_t(best)])) best = int(i);
        return best;
    }
    std::vector<int> near_fastest(size_t c) const {
        std::vector<int> all;
        for (size_t i = 0; i < us[c].size(); ++i)
            if (us[c][i] <= 3 * us[c][size_t(fastest(c))]) all.push_back(int(i));
        return all;
    }
    CoRunTask task(size_t c, int implementation) const {
        return {classes[c].task->codelet->name, classes[c].task->footprint, implementation};
    }
};

// Times of what ran while `other` ran, too.
std::vector<double> times_beside(const std::vector<TaskEvent>& own, const std::vector<TaskEvent>& other) {
    std::vector<double> times;
    for (size_t k = 1; k < own.size() && !other.empty(); ++k)
        if (own[k].start_us >= other.front().start_us && own[k].end_us <= other.back().end_us)
            times.push_back(own[k].end_us - own[k].start_us);
    return times;
}

// Median times of two tasks, each while the other ran, too; NaN if that was too seldom.
std::array<double, 2> together_us(const Runtime& runtime, const Step& step, const Alone& alone, const ClassPair& p,
                                  int i, int j, const std::vector<int>& workers) {
    std::array<double, 2> us{alone.us[p.first][size_t(i)], alone.us[p.second][size_t(j)]};
    constexpr int rounds = 8;  // where others use the machine, two tasks may hardly run at the same time
    for (int round = 0; round < rounds; ++round) {
        const double span_us = std::clamp(2.0 * double(least_samples << round) * std::max(us[0], us[1]), 2e3, 1e6);
        const auto runs = [&](double each) {
            return std::clamp<int64_t>(int64_t(span_us / each), least_samples, 4000);
        };
        TaskBench bench;
        bench.add(alone.classes[p.first], workers[0], i, runs(us[0]), 2);
        bench.add(alone.classes[p.second], workers[1], j, runs(us[1]), 2);
        const auto events = bench.run(runtime, step);
        const auto &first = events[size_t(workers[0])], &second = events[size_t(workers[1])];
        const auto a = times_beside(first, second), b = times_beside(second, first);
        if (!a.empty()) us[0] = median(a);
        if (!b.empty()) us[1] = median(b);
        if (int64_t(std::min(a.size(), b.size())) >= least_samples / 2) return us;
    }
    return {NAN, NAN};
}

}  // namespace

std::vector<ClassPair> pairs_side_by_side(const Plan& plan, const std::vector<size_t>& class_of_task,
                                          const std::vector<double>& times_s, int workers) {
    const auto before = dependencies(plan, false);
    const auto ranks = upward_ranks(plan, times_s, false);
    std::vector<std::vector<int>> after(before.size());
    std::vector<size_t> missing(before.size());
    std::priority_queue<std::pair<double, int>> ready;
    for (size_t i = 0; i < before.size(); ++i) {
        missing[i] = before[i].size();
        for (int d : before[i]) after[size_t(d)].push_back(int(i));
        if (missing[i] == 0) ready.emplace(ranks[i], -int(i));
    }
    std::map<std::pair<size_t, size_t>, double> seconds;
    std::multimap<double, int> running;  // by end
    for (double now = 0; !ready.empty() || !running.empty();) {
        for (; !ready.empty() && int(running.size()) < workers; ready.pop())
            running.emplace(now + times_s[size_t(-ready.top().second)], -ready.top().second);
        const auto [end, task] = *running.begin();
        for (auto a = running.begin(); end > now && a != running.end(); ++a)
            for (auto b = std::next(a); b != running.end(); ++b)
                seconds[std::minmax(class_of_task[size_t(a->second)], class_of_task[size_t(b->second)])] += end - now;
        now = end;
        running.erase(running.begin());
        for (int next : after[size_t(task)])
            if (--missing[size_t(next)] == 0) ready.emplace(ranks[size_t(next)], -next);
    }
    std::vector<ClassPair> pairs;
    for (const auto& [classes, s] : seconds) pairs.push_back({classes.first, classes.second, s});
    std::stable_sort(pairs.begin(), pairs.end(),
                     [](const ClassPair& a, const ClassPair& b) { return a.seconds > b.seconds; });
    return pairs;
}

int64_t measure_together(const Runtime& runtime, Machine& machine, const Plan& plan, const Step& step,
                         const CoRunOptions& o) {
    struct Wanted {
        ClassPair pair;
        int first, second;
    };
    int64_t measured = 0;
    for (const auto& [device, workers] : workers_by_device(runtime, false)) {
        if (workers.size() < 2) continue;
        const Alone alone(plan, machine, device);
        std::vector<Wanted> todo;
        int64_t pairs = 0;
        for (const ClassPair& p : pairs_side_by_side(plan, alone.class_of_task, alone.times_s, int(workers.size()))) {
            if (pairs == o.pairs) break;
            const auto some = alone.near_fastest(p.first), others = alone.near_fastest(p.second);
            if (some.size() * others.size() < 2) continue;
            ++pairs;
            for (int i : some)
                for (int j : others)
                    if (const CoRunPair key{device, alone.task(p.first, i), alone.task(p.second, j)};
                        o.reset || !machine.facts.together_us.contains(key))
                        todo.push_back({p, i, j});
        }
        for (size_t i = 0; i < todo.size(); ++i) {
            const Wanted& w = todo[i];
            const CoRunTask a = alone.task(w.pair.first, w.first), b = alone.task(w.pair.second, w.second);
            if (o.progress) o.progress(int64_t(i), int64_t(todo.size()), a.codelet + " beside " + b.codelet);
            const auto [a_us, b_us] = together_us(runtime, step, alone, w.pair, w.first, w.second, workers);
            change_facts(machine.folder(), [&, a_us = a_us, b_us = b_us](MachineFacts& facts) {
                if (!std::isnan(a_us)) facts.together_us[{device, a, b}] = a_us;
                if (!std::isnan(b_us)) facts.together_us[{device, b, a}] = b_us;
                machine.facts = facts;
            });
            measured += !std::isnan(a_us);  // both or none
        }
    }
    return measured;
}

JointChoice choose_together(Plan& plan, const Machine& machine, const ModelDevice& device, int workers) {
    JointChoice result;
    const auto& times = machine.facts.together_us;
    if (workers < 2 || times.empty()) return result;
    const Alone alone(plan, machine, device);
    const size_t classes = alone.classes.size();
    std::vector<double> busy(classes);
    for (size_t i = 0; i < plan.tasks.size(); ++i) busy[alone.class_of_task[i]] += alone.times_s[i];
    // Of a class's time, the part beside another class; an own task beside an own one counts for both.
    struct Company {
        size_t with;
        double share;
    };
    std::vector<std::vector<Company>> company(classes);
    std::vector<int> choice;
    std::vector<std::set<int>> known(classes);  // implementations that were measured in company
    for (size_t c = 0; c < classes; ++c) choice.push_back(alone.fastest(c));
    for (const ClassPair& p : pairs_side_by_side(plan, alone.class_of_task, alone.times_s, workers)) {
        bool measured = false;
        for (size_t i = 0; i < alone.us[p.first].size(); ++i)
            for (size_t j = 0; j < alone.us[p.second].size(); ++j)
                if (times.contains({device, alone.task(p.first, int(i)), alone.task(p.second, int(j))}))
                    measured = true, known[p.first].insert(int(i)), known[p.second].insert(int(j));
        if (!measured) continue;
        company[p.first].push_back({p.second, p.seconds / busy[p.first]});
        company[p.second].push_back({p.first, p.seconds / busy[p.second]});
    }
    const auto class_s = [&](size_t c) {  // all its tasks with what is chosen now
        if (choice[c] < 0) return busy[c];
        const double own = alone.us[c][size_t(choice[c])], best = alone.us[c][size_t(alone.fastest(c))];
        double covered = 0, sum = 0;
        for (const Company& k : company[c]) covered += k.share;
        for (const Company& k : company[c]) {
            const auto it = times.find({device, alone.task(c, choice[c]), alone.task(k.with, choice[k.with])});
            sum += k.share / std::max(1.0, covered) * (it == times.end() ? own : it->second);
        }
        sum += std::max(0.0, 1 - covered) * own;
        return busy[c] * sum / best;
    };
    const auto near_s = [&](size_t c) {  // of what its choice touches
        std::set<size_t> all{c};
        for (const Company& k : company[c]) all.insert(k.with);
        double sum = 0;
        for (size_t x : all) sum += class_s(x);
        return sum;
    };
    const auto all_s = [&] {
        double sum = 0;
        for (size_t c = 0; c < classes; ++c) sum += class_s(c);
        return sum;
    };
    result.alone_s = all_s();
    constexpr int most_rounds = 20;  // it ends by itself, as the sum falls each time
    bool changed = true;
    for (int round = 0; changed && round < most_rounds; ++round) {
        changed = false;
        for (size_t c = 0; c < classes; ++c) {
            const int before = choice[c];
            int best = before;
            double least = near_s(c) - 0.01 * class_s(c);
            for (int i : known[c]) {
                choice[c] = i;
                if (std::isnan(alone.us[c][size_t(i)])) continue;
                if (const double s = near_s(c); s < least) least = s, best = i;
            }
            choice[c] = best;
            changed = changed || best != before;
        }
    }
    result.together_s = all_s();
    for (size_t c = 0; c < classes; ++c)
        if (choice[c] >= 0 && choice[c] != alone.fastest(c)) {
            const TaskSpec& t = *alone.classes[c].task;
            const EntryFacts* facts = machine.facts.entry(t.codelet->name, t.footprint);
            result.changes.push_back({t.codelet->name, facts ? facts->arguments : "", alone.fastest(c), choice[c]});
        }
    for (size_t i = 0; i < plan.tasks.size(); ++i) {
        const size_t c = alone.class_of_task[i];
        if (choice[c] >= 0 && choice[c] != alone.fastest(c)) plan.tasks[i].chosen[size_t(device.type)] = choice[c];
    }
    return result;
}

double gain_of_company(const Machine& machine, const ModelDevice& device) {
    std::map<std::string, ModelFile> models;
    double sum = 0;
    int64_t count = 0;
    for (const auto& [pair, us] : machine.facts.together_us) {
        if (pair.device != device || !(us > 0)) continue;
        const auto [model, fresh] = models.try_emplace(pair.task.codelet);
        if (fresh) model->second = machine.model(pair.task.codelet);
        const ModelEntry* e = model->second.find(device, pair.task.implementation, pair.task.footprint);
        if (e && e->samples > 0) sum += 2 * e->mean_us / us, ++count;
    }
    return count ? sum / double(count) : 1;
}

}  // namespace tessera
