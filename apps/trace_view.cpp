#include "apps/trace_view.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace tessera {

std::vector<size_t> worker_order(const TraceData& data) {
    std::vector<size_t> order(std::max(data.workers.size(), data.tasks.size()));
    for (size_t w = 0; w < order.size(); ++w) order[w] = w;
    const auto on_cpu = [&](size_t w) { return w >= data.workers.size() || !data.workers[w].cuda; };
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return on_cpu(a) < on_cpu(b); });
    return order;
}

std::string worker_name(const TraceData& data, size_t worker) {
    if (worker < data.workers.size() && !data.workers[worker].name.empty()) return data.workers[worker].name;
    return "worker " + std::to_string(worker);
}

const std::vector<TaskEvent>& tasks_of(const TraceData& data, size_t worker) {
    static const std::vector<TaskEvent> none;
    return worker < data.tasks.size() ? data.tasks[worker] : none;
}

const TraceData::Task& task_of(const TraceData& data, const TaskEvent& e) {
    static const TraceData::Task unknown{"unknown", "", "", 0};
    if (e.plan < 0 || size_t(e.plan) >= data.plans.size()) return unknown;
    const auto& tasks = data.plans[size_t(e.plan)];
    return e.task < 0 || size_t(e.task) >= tasks.size() ? unknown : tasks[size_t(e.task)];
}

std::string node_name(const TraceData& data, int node) {
    if (node >= 0 && size_t(node) < data.nodes.size() && !data.nodes[size_t(node)].empty())
        return data.nodes[size_t(node)];
    return "node " + std::to_string(node);
}

std::string link_name(const TraceData& data, int from, int to) {
    return node_name(data, from) + " to " + node_name(data, to);
}

std::map<std::pair<int, int>, std::vector<const LinkEvent*>> links_by_pair(const TraceData& data) {
    std::map<std::pair<int, int>, std::vector<const LinkEvent*>> pairs;
    for (const LinkEvent& e : data.links)
        if (is_sound(e.start_us, e.end_us)) pairs[{e.from, e.to}].push_back(&e);
    for (auto& [pair, events] : pairs)
        std::stable_sort(events.begin(), events.end(),
                         [](const LinkEvent* a, const LinkEvent* b) { return a->start_us < b->start_us; });
    return pairs;
}

std::vector<std::pair<int64_t, double>> step_starts(const TraceData& data) {
    std::unordered_map<int64_t, double> first;
    for (const auto& events : data.tasks)
        for (const TaskEvent& e : events) {
            if (!is_sound(e.start_us, e.end_us)) continue;
            const auto [at, added] = first.emplace(e.step, e.start_us);
            if (!added) at->second = std::min(at->second, e.start_us);
        }
    std::vector<std::pair<int64_t, double>> starts(first.begin(), first.end());
    std::sort(starts.begin(), starts.end(),
              [](const auto& a, const auto& b) { return std::pair(a.second, a.first) < std::pair(b.second, b.first); });
    return starts;
}

bool is_sound(double start_us, double end_us) {
    return std::abs(start_us) < 1e15 && std::abs(end_us) < 1e15 && end_us >= start_us;
}

}  // namespace tessera
