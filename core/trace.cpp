#include "core/trace.h"

#include <starpu.h>

#include <algorithm>

#include "core/plan.h"
#include "core/runtime.h"

namespace tessera {

// Written by one worker; read when it has stopped.
struct Trace::Ring {
    std::vector<TaskEvent> events;
    size_t capacity = 0, next = 0;
    WorkerTotals totals;
};

namespace {

std::string first_written(const Plan& plan, const TaskSpec& t) {
    for (const TileUse& u : t.tiles)
        if (u.access != Access::read) return plan.describe_tile(u.tile);
    return "";
}

}  // namespace

Trace::Trace(size_t events_per_worker)
    : peak_(starpu_memory_nodes_get_count()),
      link_capacity_(events_per_worker * size_t(std::max(1, starpu_bus_get_count()))) {
    for (unsigned w = 0; w < starpu_worker_get_count(); ++w) {
        rings_.push_back(std::make_unique<Ring>());
        rings_.back()->capacity = events_per_worker;
    }
    last_sample_us_ = starpu_timing_now();
}

Trace::~Trace() = default;

void Trace::task(const TaskEvent& e) {
    Ring& ring = *rings_[size_t(e.worker)];
    ++ring.totals.tasks;
    ring.totals.busy_us += e.end_us - e.start_us;
    ring.totals.fetch_us += e.start_us - e.fetch_us;
    auto& peak = peak_[starpu_worker_get_memory_node(unsigned(e.worker))];
    int64_t seen = peak.load(std::memory_order_relaxed);
    while (e.memory_bytes > seen && !peak.compare_exchange_weak(seen, e.memory_bytes)) {}
    if (ring.capacity == 0) return;
    if (ring.events.size() < ring.capacity) ring.events.push_back(e);
    else ring.events[ring.next % ring.capacity] = e;
    ++ring.next;
}

void Trace::link(const LinkEvent& e) {
    std::lock_guard lock(mutex_);
    add_link(e);
}

void Trace::add_link(const LinkEvent& e) {
    link_bytes_[{e.from, e.to}] += e.bytes;
    if (link_capacity_ == 0) return;
    if (links_.size() < link_capacity_) links_.push_back(e);
    else links_[next_link_ % link_capacity_] = e;
    ++next_link_;
}

// StarPU has no hook for a transfer, only counters per bus, which reading resets. They count when a transfer begins: a
// sum takes at least the time that the link needs for it, behind what went before it.
void Trace::sample_links(bool at_once) {
    constexpr double apart_us = 200;
    const double now = starpu_timing_now();
    if (!at_once && now - last_sample_us_ < apart_us) return;  // before the lock: most tasks end here
    std::lock_guard lock(mutex_);
    if (now <= last_sample_us_ || (!at_once && now - last_sample_us_ < apart_us)) return;
    for (int bus = 0; bus < starpu_bus_get_count(); ++bus) {
        starpu_profiling_bus_info info;
        if (starpu_bus_get_profiling_info(bus, &info) != 0 || info.transferred_bytes <= 0) continue;
        const int from = starpu_bus_get_src(bus), to = starpu_bus_get_dst(bus);
        const auto bytes = int64_t(info.transferred_bytes);
        const double bytes_per_us = starpu_transfer_bandwidth(unsigned(from), unsigned(to));  // it says MB/s
        double& busy_until = busy_until_us_[{from, to}];
        const double start = std::max(last_sample_us_.load(), busy_until);
        const double needs = bytes_per_us > 0 ? double(bytes) / bytes_per_us : 0;
        busy_until = std::max(now, start + needs);
        add_link({start, busy_until, from, to, bytes});
    }
    last_sample_us_ = now;
}

std::vector<WorkerTotals> Trace::totals() const {
    std::vector<WorkerTotals> all;
    for (const auto& r : rings_) all.push_back(r->totals);
    return all;
}

std::vector<int64_t> Trace::peak_memory_bytes() const {
    std::vector<int64_t> all;
    for (const auto& p : peak_) all.push_back(p.load());
    return all;
}

std::vector<std::array<int64_t, 3>> Trace::link_bytes() const {
    std::lock_guard lock(mutex_);
    std::vector<std::array<int64_t, 3>> all;
    for (const auto& [pair, bytes] : link_bytes_) all.push_back({pair.first, pair.second, bytes});
    return all;
}

TraceData Trace::data(const std::vector<const Plan*>& plans) const {
    TraceData d;
    for (unsigned w = 0; w < rings_.size(); ++w) {
        char name[64];
        starpu_worker_get_name(int(w), name, sizeof name);
        d.workers.push_back(
            {name, starpu_worker_get_type(int(w)) == STARPU_CUDA_WORKER, int(starpu_worker_get_memory_node(w))});
        const Ring& ring = *rings_[w];
        d.tasks.push_back(ring.events);
        std::sort(d.tasks.back().begin(), d.tasks.back().end(),
                  [](const TaskEvent& a, const TaskEvent& b) { return a.end_us < b.end_us; });
        d.dropped += int64_t(ring.next - ring.events.size());
    }
    std::lock_guard lock(mutex_);
    d.links = links_;
    std::sort(d.links.begin(), d.links.end(),
              [](const LinkEvent& a, const LinkEvent& b) { return a.start_us < b.start_us; });
    d.dropped += int64_t(next_link_ - links_.size());
    // Rings that are full begin at different times; before the latest of them the picture would lie about idle workers
    // and links.
    double first_us = next_link_ > links_.size() ? d.links.front().start_us : 0;
    for (size_t w = 0; w < rings_.size(); ++w)
        if (rings_[w]->next > rings_[w]->events.size() && !d.tasks[w].empty())
            first_us = std::max(first_us, d.tasks[w].front().fetch_us);
    for (auto& events : d.tasks)
        d.dropped += int64_t(std::erase_if(events, [&](const TaskEvent& e) { return e.fetch_us < first_us; }));
    d.dropped += int64_t(std::erase_if(d.links, [&](const LinkEvent& e) { return e.start_us < first_us; }));
    for (unsigned n = 0; n < peak_.size(); ++n) d.nodes.push_back(node_name(n));
    for (const Plan* plan : plans) {
        auto& tasks = d.plans.emplace_back();
        for (const TaskSpec& t : plan->tasks)
            tasks.push_back(
                {t.codelet->name, plan->nodes[size_t(t.node)].layer, first_written(*plan, t), t.cost.flops});
    }
    return d;
}

}  // namespace tessera
