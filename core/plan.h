// core/plan.h - one step of a program as flat records that touch no StarPU. Because it is data, calibration,
// statistics, priorities, bounds, serial execution, simulation and memory plans all work on it.
#pragma once
#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "core/codelet.h"
#include "core/graph.h"
#include "core/task_schedule.h"

namespace tessera {

struct TileUse {
    int tile;
    Access access;
};

// One task of the step.
struct TaskSpec {
    const CodeletInfo* codelet = nullptr;
    std::vector<std::byte> args;
    std::vector<TileUse> tiles;
    Cost cost;
    uint32_t footprint = 0;                // of shapes, leading dimensions and key(): the row of the performance model
    int node = 0;                          // index into Plan::nodes
    int worker = -1;                       // the only one that may run it, or -1
    int implementation = -1;               // the only one that may be used, or -1
    std::array<int, 2> chosen = {-1, -1};  // the same on CPU cores, on GPUs, by a planner (models/corun.h)
    int owner = -1;                        // memory node whose workers should run it, or -1 (core/blocks.h)
    bool completes = false;                // the last task of an owned product that writes its tile: it may go home
    int block = 0;  // of those that its owner computes one after the other: what it reads stays for all of one
};

struct PlanTile {
    int value;
    int64_t row, col;  // of its first element
    int64_t rows, cols, ld;
    int64_t bytes;
    int reuses = -1;  // the tile in whose memory it lies, after all tasks on that one; -1: it has its own
};
struct PlanNode {
    std::string op, layer, attributes;
    std::string name() const { return layer.empty() ? op : layer + "." + op; }
};
struct PlanValue : Value {
    int first_tile = 0;  // -1: a view
    bool kept = false;   // to be read when the step is done
};

class Plan {
 public:
    Plan() = default;
    // Drops nodes that nothing needs. Throws Error before it takes memory for more than 10^7 tiles or tasks.
    explicit Plan(const Graph&);

    std::vector<PlanNode> nodes;
    std::vector<PlanValue> values;
    std::vector<PlanTile> tiles;
    std::vector<TaskSpec> tasks;
    std::vector<TaskSchedule> schedules;  // by a planner, or none: an executor tries them and keeps the fastest

    int tile(int value, int64_t i, int64_t j) const;  // number of tile (i, j) of a value; of a view, the tile there
    // Calls f(tile, row, col) for every tile of a value, with the place of the tile's first element in that value.
    template <class F>
    void each_tile(int value, F&& f) const {
        const Grid& grid = values[size_t(value)].grid;
        int64_t row = 0;
        for (int64_t i = 0; i < grid.rows(); row += grid.row_extents[size_t(i++)]) {
            int64_t col = 0;
            for (int64_t j = 0; j < grid.cols(); col += grid.col_extents[size_t(j++)]) f(tile(value, i, j), row, col);
        }
    }
    int place(int tile) const {  // the tile that has its memory
        const int other = tiles[size_t(tile)].reuses;
        return other < 0 ? tile : other;
    }
    DType dtype(int tile) const { return values[size_t(tiles[size_t(tile)].value)].dtype; }
    TileShape shape(int tile) const;
    std::string describe_tile(int tile) const;  // "fc1.y(0,1)"
    double flops() const;
    int64_t largest_task_bytes() const;
    const TaskSpec& largest_task() const;
};

// What a node's `lower` is given. Tile numbers come from `tile`; a task's tiles follow its codelet's parameters.
class Lowering {
 public:
    Lowering(Plan& plan, int node) : plan_(plan), node_(node) {}
    // Counts tasks and makes none.
    Lowering(Plan& plan, const Node& counted, int64_t& tasks) : plan_(plan), node_(-1), of_(&counted), count_(&tasks) {}
    struct Ref {
        int tile;
        bool first = false, alone = false;
    };
    Ref tile(Tensor t, int64_t i, int64_t j) const { return {plan_.tile(t.id, i, j)}; }
    // The first contribution to an accumulated tile: written, not read.
    static Ref first(Ref r) { return {r.tile, true}; }
    // A contribution that must come between those before and those after it: read and written, not accumulated.
    static Ref alone(Ref r) { return {r.tile, false, true}; }

    // One task. `refs` are Refs, or a std::vector<Ref> for an InList parameter.
    template <class Op, class... R>
    void task(const typename Codelet<Op>::Args& args, const R&... refs) {
        static_assert(sizeof...(R) == Codelet<Op>::S::count, "wrong number of tiles for this codelet");
        std::vector<Ref> flat;
        (append(flat, refs), ...);
        add(Codelet<Op>::info(), &args, flat, std::array<int, sizeof...(R)>{count(refs)...}.data());
    }

 private:
    static int count(const Ref&) { return 1; }
    static int count(const std::vector<Ref>& r) { return int(r.size()); }
    static void append(std::vector<Ref>& to, const Ref& r) { to.push_back(r); }
    static void append(std::vector<Ref>& to, const std::vector<Ref>& r) { to.insert(to.end(), r.begin(), r.end()); }
    void add(const CodeletInfo&, const void* args, const std::vector<Ref>&, const int* counts);
    void count();

    Plan& plan_;
    int node_;
    const Node* of_ = nullptr;
    int64_t* count_ = nullptr;
};

// Throws std::invalid_argument naming the op and its types unless `t` is one of Ts.
template <class... Ts>
void require_type(DType t, const std::string& op) {
    std::string known;
    (known.append(" ").append(name_of(dtype_of<Ts>)), ...);
    require(((dtype_of<Ts> == t) || ...), op,
            "has no " + std::string(name_of(t)) + " implementation (there are:" + known + ")");
}

// Calls f.operator()<T>() for the element type `t`, one of Ts.
template <class... Ts, class F>
void dispatch(DType t, const std::string& op, F&& f) {
    require_type<Ts...>(t, op);
    ((dtype_of<Ts> == t ? f.template operator()<Ts>() : void()), ...);
}

// --- what can be asked of a plan ---------------------------------------------------------------------------------

// For every task the earlier tasks that it must wait for, under StarPU's sequential consistency (accumulations into one
// tile commute unless `ordered`). With `memory` a tile that lies where another one did waits for that one's, too.
std::vector<std::vector<int>> dependencies(const Plan&, bool ordered, bool memory = true);

struct DagStats {
    double t1 = 0, t_inf = 0;  // sum of the times, longest path
    int width = 0;             // most tasks on one level
    int64_t tasks = 0, edges = 0;
    double parallelism() const { return t_inf > 0 ? t1 / t_inf : 0; }
};
DagStats dag_stats(const Plan&, const std::vector<double>& times, bool ordered);  // of the data alone

// Longest time from the start of each task to the end of the following step, so that work the next step waits for goes
// first. `times` in any unit, one per task.
std::vector<double> upward_ranks(const Plan&, const std::vector<double>& times, bool ordered);

// A rough time per task, seconds: flops at 50 GFLOP/s or bytes at 10 GB/s, and 2 us of overhead. Only ratios matter.
std::vector<double> estimated_times(const Plan&);

// The plan as Graphviz dot: a box per task, an edge per dependency.
std::string to_dot(const Plan&, bool ordered);

}  // namespace tessera
