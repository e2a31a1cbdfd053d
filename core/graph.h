// core/graph.h - a network as data: values (2-D tensors cut into tiles) and nodes (operations on them).
// Nothing here runs or touches StarPU. Gradients are nodes like any other; lowering (core/plan.h) makes tasks of nodes.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/types.h"

namespace tessera {

struct Shape {
    int64_t rows = 0, cols = 0;
    bool operator==(const Shape&) const = default;
    int64_t size() const { return rows * cols; }
};
std::string to_string(Shape);

// Where a tensor is cut: extents of its tile rows and tile columns; they may be unequal and sum up to the shape.
struct Grid {
    std::vector<int64_t> row_extents, col_extents;
    bool operator==(const Grid&) const = default;
    int64_t rows() const { return int64_t(row_extents.size()); }
    int64_t cols() const { return int64_t(col_extents.size()); }
    static Grid whole(Shape s) { return {{s.rows}, {s.cols}}; }
};
// Cuts `extent` into the fewest pieces of at most `tile` elements, as equal as possible; tile <= 0 means one piece.
std::vector<int64_t> cut(int64_t extent, int64_t tile);
std::string to_string(const Grid&);

// A named tensor that outlives graphs: weights, optimizer state, running statistics. Storage is made by the executor;
// `initial(i, j)` gives the first value of element (i, j).
struct Param {
    std::string name;
    Shape shape;
    DType dtype = DType::f32;
    Grid grid;
    std::function<double(int64_t, int64_t)> initial;
    bool trainable = true;
    void* memory = nullptr;  // the user's own row-major matrix, used where it lies; null: the executor allocates
    int64_t ld = 0;          // elements from row to row there; 0: cols
    int64_t row_stride() const { return ld > 0 ? ld : shape.cols; }
    int64_t bytes() const { return shape.size() * bytes_of(dtype); }
    int64_t extent_bytes() const {  // from the first element to the last
        return shape.size() == 0 ? 0 : ((shape.rows - 1) * row_stride() + shape.cols) * bytes_of(dtype);
    }
};

// Named and ordered; addresses stay valid. Names are unique: a second one throws std::invalid_argument.
class Params {
 public:
    Param& add(Param);
    Param* find(const std::string& name);
    auto begin() const { return all_.begin(); }
    auto end() const { return all_.end(); }
    size_t size() const { return all_.size(); }
    int64_t elements(bool trainable_only = true) const;
    int64_t bytes() const;

 private:
    std::vector<std::unique_ptr<Param>> all_;
};

class Graph;

// A value of a graph; copy freely. Invalid when default-constructed ("no gradient").
struct Tensor {
    Graph* graph = nullptr;
    int id = -1;
    explicit operator bool() const { return graph; }
    Shape shape() const;
    DType dtype() const;
    const Grid& grid() const;
    const std::string& name() const;
    bool operator==(const Tensor&) const = default;
};

// Neighbouring column tiles of a value, over all its rows.
struct ColumnTiles {
    Tensor of;
    int64_t first = 0, count = 0;
};

struct Value {
    std::string name;
    Shape shape;
    DType dtype;
    Grid grid;
    const Param* param = nullptr;  // imported, not owned by the graph
    bool buffered = false;         // one copy per step in flight, so that the next step can be loaded early
    struct Column {
        int value;
        int64_t tile;
    };
    // Of a view: its tile columns are these tile columns of other values, none of them a view. It has no tiles itself.
    std::vector<Column> columns = {};
    bool is_view() const { return !columns.empty(); }
};

class Lowering;

struct Node {
    std::string op;
    std::vector<Tensor> inputs, outputs;
    std::vector<Tensor> updates;  // params written in place; like `effect`, keeps the node alive
    std::string attributes;       // printable, "alpha=1 ta"
    bool effect = false;          // does something beyond its outputs (reports a value)
    // Gradients of the inputs for the gradients of the outputs (some may be invalid); only appends nodes.
    std::function<std::vector<Tensor>(const std::vector<Tensor>& dy)> vjp;
    std::function<void(Lowering&)> lower;  // none: no task, as where the outputs are views
    std::string layer;                     // set by the graph
};

class Graph {
 public:
    // Default tile extents for values made in this graph: rows (batch) and columns (features); 0 = one tile.
    explicit Graph(int64_t tile_rows = 0, int64_t tile_cols = 0) : tile_rows_(tile_rows), tile_cols_(tile_cols) {}
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    Tensor value(const std::string& name, Shape, DType);  // cut by the graph's default
    Tensor value(const std::string& name, Shape, DType, Grid);
    Tensor buffered(const std::string& name, Shape, DType, Grid);
    Tensor param(const Param&);  // the same tensor for the same Param
    // The parts side by side, without a copy. They need one type and equally cut rows. A view is read like any value
    // and written by nobody: `add` refuses a node that would.
    Tensor view(const std::string& name, const std::vector<ColumnTiles>& parts);
    Grid default_grid(Shape) const;

    void add(Node);
    Node& last() { return nodes_.back(); }
    void keep(Tensor t) { kept_.push_back(t.id); }  // computed even if no node needs it

    // Gradients of `of` (with gradient `seed`) for each of `wrt`; invalid where there is none. `sum` adds equal shapes.
    // Appends nodes; what is not needed for a kept value or an update is dropped when lowered.
    std::vector<Tensor> backward(Tensor of, Tensor seed, const std::vector<Tensor>& wrt,
                                 const std::function<Tensor(Tensor, Tensor)>& sum);

    const std::deque<Value>& values() const { return values_; }
    const std::vector<Node>& nodes() const { return nodes_; }
    const std::vector<int>& kept() const { return kept_; }
    const std::string& layer() const { return layer_; }  // that nodes are added to now
    std::vector<bool> needed_nodes() const;  // true for nodes that lead to a kept value, an update or an effect
    std::string print() const;

    // Nodes added while it lives belong to this layer (names in traces, errors, plans). Nests as "outer.inner".
    class Layer {
     public:
        Layer(Graph& graph, const std::string& name);
        ~Layer() { graph_.layer_ = outer_; }
        Layer(const Layer&) = delete;

     private:
        Graph& graph_;
        std::string outer_;
    };

 private:
    std::deque<Value> values_;  // addresses stay valid: Tensor gives references to them
    std::vector<Node> nodes_;
    std::vector<int> kept_;
    std::string layer_;
    int64_t tile_rows_, tile_cols_;
};

// Throws std::invalid_argument "<layer>.<op>: <what>; got a [2 x 3] f32, b [4 x 5] f32" unless `ok`. The layer is that
// which the tensors' graph is in, if any.
void require(bool ok, const std::string& op, const std::string& what, const std::vector<Tensor>& tensors = {});

}  // namespace tessera
