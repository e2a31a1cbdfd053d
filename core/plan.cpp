#include "core/plan.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "core/error.h"

namespace tessera {

// Of tiles, and of tasks: some GB in StarPU, and hours.
static constexpr int64_t most = 10'000'000;

[[noreturn]] static void too_many(const std::string& what, const std::string& where) {
    throw Error(
        "one step would be more than " + std::to_string(most) + " " + what + ", the most there may be, with " + where,
        "choose a larger --tile");
}

static int64_t count_tiles(const Graph& graph) {
    int64_t tiles = 0;
    for (const Value& v : graph.values()) {
        if (v.is_view()) continue;
        tiles += v.grid.rows() * v.grid.cols();
        if (tiles > most) too_many("tiles", "those of " + v.name);
    }
    return tiles;
}

void Lowering::count() {
    if (++*count_ > most) too_many("tasks", "those of " + (of_->layer.empty() ? "" : of_->layer + ".") + of_->op);
}

Plan::Plan(const Graph& graph) {
    const bool many = count_tiles(graph) > most / 100;  // products of fewer tiles cannot be too many
    for (const Value& v : graph.values()) {
        values.push_back({v, v.is_view() ? -1 : int(tiles.size()), false});
        if (v.is_view()) continue;
        int64_t row = 0;
        for (int64_t rows : v.grid.row_extents) {
            int64_t col = 0;
            for (int64_t cols : v.grid.col_extents) {
                const int64_t ld = v.param ? v.param->row_stride() : cols;  // params are registered in place
                tiles.push_back({int(values.size()) - 1, row, col, rows, cols, ld, rows * cols * bytes_of(v.dtype)});
                col += cols;
            }
            row += rows;
        }
    }
    const auto keep = [&](int value) { values[size_t(value)].kept = true; };
    for (int id : graph.kept()) {
        keep(id);
        for (const Value::Column& c : values[size_t(id)].columns) keep(c.value);
    }
    const auto needed = graph.needed_nodes();
    int64_t count = 0;
    for (size_t i = 0; many && i < graph.nodes().size(); ++i) {
        const Node& n = graph.nodes()[i];
        if (!needed[i] || !n.lower) continue;
        Lowering counting(*this, n, count);
        n.lower(counting);
    }
    for (size_t i = 0; i < graph.nodes().size(); ++i) {
        const Node& n = graph.nodes()[i];
        if (!needed[i] || !n.lower) continue;
        nodes.push_back({n.op, n.layer, n.attributes});
        Lowering lowering(*this, int(nodes.size()) - 1);
        n.lower(lowering);
    }
}

int Plan::tile(int value, int64_t i, int64_t j) const {
    const PlanValue& v = values[size_t(value)];
    if (v.is_view()) return tile(v.columns[size_t(j)].value, i, v.columns[size_t(j)].tile);
    return v.first_tile + int(i * v.grid.cols() + j);
}

TileShape Plan::shape(int tile) const {
    const PlanTile& t = tiles[size_t(tile)];
    return {t.rows, t.cols, t.ld, dtype(tile)};
}

std::string Plan::describe_tile(int tile) const {
    const PlanValue& v = values[size_t(tiles[size_t(tile)].value)];
    const int64_t index = tile - v.first_tile;
    return v.name + "(" + std::to_string(index / v.grid.cols()) + "," + std::to_string(index % v.grid.cols()) + ")";
}

double Plan::flops() const {
    double sum = 0;
    for (const TaskSpec& t : tasks) sum += t.cost.flops;
    return sum;
}

static int64_t task_bytes(const Plan& plan, const TaskSpec& t) {
    int64_t sum = 0;
    for (const TileUse& u : t.tiles) sum += plan.tiles[size_t(u.tile)].bytes;
    return sum;
}
const TaskSpec& Plan::largest_task() const {
    return *std::max_element(tasks.begin(), tasks.end(), [&](const TaskSpec& a, const TaskSpec& b) {
        return task_bytes(*this, a) < task_bytes(*this, b);
    });
}
int64_t Plan::largest_task_bytes() const { return tasks.empty() ? 0 : task_bytes(*this, largest_task()); }

void Lowering::add(const CodeletInfo& codelet, const void* args, const std::vector<Ref>& refs, const int* counts) {
    if (count_) return count();
    if (int64_t(plan_.tasks.size()) == most) too_many("tasks", "those of " + plan_.nodes[size_t(node_)].name());
    TaskSpec task;
    task.codelet = &codelet;
    task.node = node_;
    task.args.resize(codelet.args_bytes);
    std::memcpy(task.args.data(), args, codelet.args_bytes);
    uint64_t hash = codelet.key ? codelet.key(args) : 0;
    const auto mix = [&](int64_t x) { hash = (hash ^ uint64_t(x)) * 0x100000001b3u, hash ^= hash >> 29; };
    std::vector<TileShape> shapes;
    size_t next = 0;
    for (size_t parameter = 0; parameter < codelet.access.size(); ++parameter)
        for (int i = 0; i < counts[parameter]; ++i, ++next) {
            const Ref& r = refs[next];
            task.tiles.push_back({r.tile, r.first   ? Access::write
                                          : r.alone ? Access::read_write
                                                    : codelet.access[parameter]});
            const TileShape s = shapes.emplace_back(plan_.shape(r.tile));
            mix(s.rows), mix(s.cols), mix(s.ld);
        }
    task.footprint = uint32_t(hash ^ hash >> 32);
    task.cost = codelet.cost(args, shapes.data(), int(shapes.size()));
    plan_.tasks.push_back(std::move(task));
}

std::vector<std::vector<int>> dependencies(const Plan& plan, bool ordered, bool memory) {
    // Per tile: the writers that a new access waits for, and the accesses since then that a new writer waits for.
    struct State {
        std::vector<int> before, current;
        bool accumulating = false;
    };
    std::vector<State> state(plan.tiles.size());
    std::vector<std::vector<int>> edges(plan.tasks.size());
    enum Kind { reading, accumulating, writing };
    std::vector<Kind> kind(plan.tiles.size(), writing);
    for (size_t i = 0; i < plan.tasks.size(); ++i) {
        auto& waits = edges[i];
        for (const TileUse& u : plan.tasks[i].tiles) {
            const size_t place = size_t(memory ? plan.place(u.tile) : u.tile);
            State& s = state[place];
            Kind& k = kind[place];
            const Kind now = u.access == Access::read                     ? reading
                             : u.access == Access::accumulate && !ordered ? accumulating
                                                                          : writing;
            if (now == writing || now != k) {  // a new group: waits for the whole group before
                s.before = std::move(s.current);
                s.current.clear();
                k = now;
            }
            waits.insert(waits.end(), s.before.begin(), s.before.end());
            s.current.push_back(int(i));
        }
        std::sort(waits.begin(), waits.end());
        waits.erase(std::unique(waits.begin(), waits.end()), waits.end());
        std::erase(waits, int(i));  // one task may name a tile twice
    }
    return edges;
}

DagStats dag_stats(const Plan& plan, const std::vector<double>& times, bool ordered) {
    DagStats stats;
    stats.tasks = int64_t(plan.tasks.size());
    const auto edges = dependencies(plan, ordered, false);
    std::vector<double> finish(edges.size());
    std::vector<int> level(edges.size()), on_level;
    for (size_t i = 0; i < edges.size(); ++i) {
        for (int d : edges[i]) {
            finish[i] = std::max(finish[i], finish[size_t(d)]);
            level[i] = std::max(level[i], level[size_t(d)] + 1);
        }
        finish[i] += times[i];
        stats.edges += int64_t(edges[i].size());
        stats.t1 += times[i];
        stats.t_inf = std::max(stats.t_inf, finish[i]);
        if (size_t(level[i]) >= on_level.size()) on_level.resize(size_t(level[i]) + 1);
        stats.width = std::max(stats.width, ++on_level[size_t(level[i])]);
    }
    return stats;
}

std::vector<double> upward_ranks(const Plan& plan, const std::vector<double>& times, bool ordered) {
    Plan twice = plan;  // this step and the next: its edges carry what the next step waits for
    twice.tasks.insert(twice.tasks.end(), plan.tasks.begin(), plan.tasks.end());
    const auto edges = dependencies(twice, ordered);
    const size_t n = plan.tasks.size();
    std::vector<double> rank(2 * n);
    for (size_t i = 2 * n; i-- > 0;) {
        rank[i] += times[i % n];
        for (int d : edges[i]) rank[size_t(d)] = std::max(rank[size_t(d)], rank[i]);
    }
    rank.resize(n);
    return rank;
}

std::vector<double> estimated_times(const Plan& plan) {
    std::vector<double> times;
    for (const TaskSpec& t : plan.tasks) times.push_back(2e-6 + std::max(t.cost.flops / 50e9, t.cost.bytes / 10e9));
    return times;
}

std::string to_dot(const Plan& plan, bool ordered) {
    std::string text = "digraph plan {\n  node [shape=box, fontname=\"sans-serif\"];\n";
    for (size_t i = 0; i < plan.tasks.size(); ++i) {
        const TaskSpec& t = plan.tasks[i];
        text += "  t" + std::to_string(i) + " [label=\"" + plan.nodes[size_t(t.node)].name() + "\\n" + t.codelet->name;
        for (const TileUse& u : t.tiles)
            if (u.access != Access::read) text += "\\n" + plan.describe_tile(u.tile);
        text += "\"];\n";
    }
    const auto edges = dependencies(plan, ordered);
    for (size_t i = 0; i < edges.size(); ++i)
        for (int d : edges[i]) text += "  t" + std::to_string(d) + " -> t" + std::to_string(i) + ";\n";
    return text + "}\n";
}

}  // namespace tessera
