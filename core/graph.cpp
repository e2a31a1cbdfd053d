#include "core/graph.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace tessera {

std::string to_string(Shape s) { return "[" + std::to_string(s.rows) + " x " + std::to_string(s.cols) + "]"; }

static std::string extents_text(const std::vector<int64_t>& e) {
    std::string text;
    for (size_t i = 0; i < e.size() && i < 4; ++i) text += (i ? "+" : "") + std::to_string(e[i]);
    return e.size() > 4 ? text + "+... (" + std::to_string(e.size()) + ")" : text;
}
std::string to_string(const Grid& g) { return extents_text(g.row_extents) + " x " + extents_text(g.col_extents); }

std::vector<int64_t> cut(int64_t extent, int64_t tile) {
    const int64_t pieces = tile <= 0 || extent <= 0 ? 1 : (extent + tile - 1) / tile;
    std::vector<int64_t> all;
    for (int64_t i = 0; i < pieces; ++i) all.push_back(extent / pieces + (i < extent % pieces));
    return all;
}

Param& Params::add(Param p) {
    if (find(p.name)) throw std::invalid_argument("parameter '" + p.name + "' exists already");
    if (p.shape.rows <= 0 || p.shape.cols <= 0)
        throw std::invalid_argument("parameter '" + p.name + "' has the empty shape " + to_string(p.shape));
    if (p.grid.row_extents.empty()) p.grid = Grid::whole(p.shape);
    all_.push_back(std::make_unique<Param>(std::move(p)));
    return *all_.back();
}
Param* Params::find(const std::string& name) {
    for (auto& p : all_)
        if (p->name == name) return p.get();
    return nullptr;
}
int64_t Params::elements(bool trainable_only) const {
    int64_t n = 0;
    for (auto& p : all_)
        if (p->trainable || !trainable_only) n += p->shape.size();
    return n;
}
int64_t Params::bytes() const {
    int64_t n = 0;
    for (auto& p : all_) n += p->bytes();
    return n;
}

Shape Tensor::shape() const { return graph->values()[size_t(id)].shape; }
DType Tensor::dtype() const { return graph->values()[size_t(id)].dtype; }
const Grid& Tensor::grid() const { return graph->values()[size_t(id)].grid; }
const std::string& Tensor::name() const { return graph->values()[size_t(id)].name; }

Grid Graph::default_grid(Shape s) const { return {cut(s.rows, tile_rows_), cut(s.cols, tile_cols_)}; }
Tensor Graph::value(const std::string& name, Shape s, DType t) { return value(name, s, t, default_grid(s)); }

Tensor Graph::value(const std::string& name, Shape s, DType t, Grid grid) {
    constexpr int64_t limit = std::numeric_limits<uint32_t>::max();  // StarPU's extents are 32-bit
    const auto sum = [](const std::vector<int64_t>& e) { return std::accumulate(e.begin(), e.end(), int64_t(0)); };
    const auto fits = [&](const std::vector<int64_t>& e) {
        return std::all_of(e.begin(), e.end(), [&](int64_t x) { return x > 0 && x <= limit; });
    };
    if (s.rows <= 0 || s.cols <= 0)
        throw std::invalid_argument("tensor '" + name + "' has the empty shape " + to_string(s));
    if (s.cols > limit || s.rows > std::numeric_limits<int64_t>::max() / 8 / s.cols)
        throw std::invalid_argument("tensor '" + name + "' is too large: " + to_string(s));
    if (!fits(grid.row_extents) || !fits(grid.col_extents) || sum(grid.row_extents) != s.rows ||
        sum(grid.col_extents) != s.cols)
        throw std::invalid_argument("tensor '" + name + "' " + to_string(s) + " cannot be cut into tiles " +
                                    to_string(grid));
    values_.push_back({name, s, t, std::move(grid)});
    return {this, int(values_.size()) - 1};
}

Tensor Graph::buffered(const std::string& name, Shape s, DType t, Grid grid) {
    Tensor v = value(name, s, t, std::move(grid));
    values_.back().buffered = true;
    return v;
}

Tensor Graph::param(const Param& p) {
    for (size_t i = 0; i < values_.size(); ++i)
        if (values_[i].param == &p) return {this, int(i)};
    Tensor v = value(p.name, p.shape, p.dtype, p.grid);
    values_.back().param = &p;
    return v;
}

Tensor Graph::view(const std::string& name, const std::vector<ColumnTiles>& parts) {
    std::vector<Tensor> of;
    for (const ColumnTiles& p : parts) of.push_back(p.of);
    require(!of.empty() && of[0].graph == this, name, "a view needs parts of its graph");
    const int64_t rows = of[0].shape().rows;
    Grid grid{of[0].grid().row_extents, {}};
    std::vector<Value::Column> columns;
    for (const ColumnTiles& p : parts) {
        require(p.of.graph == this && p.of.dtype() == of[0].dtype() && p.of.grid().row_extents == grid.row_extents,
                name, "the parts of a view need one graph, one type and equally cut rows", of);
        require(p.first >= 0 && p.count > 0 && p.first + p.count <= p.of.grid().cols(), name,
                "a view needs column tiles that there are", {p.of});
        const Value& base = values_[size_t(p.of.id)];
        for (int64_t j = p.first; j < p.first + p.count; ++j) {
            columns.push_back(base.is_view() ? base.columns[size_t(j)] : Value::Column{p.of.id, j});
            grid.col_extents.push_back(base.grid.col_extents[size_t(j)]);
        }
    }
    const int64_t cols = std::accumulate(grid.col_extents.begin(), grid.col_extents.end(), int64_t(0));
    Tensor v = value(name, {rows, cols}, of[0].dtype(), std::move(grid));
    values_.back().columns = std::move(columns);
    return v;
}

void Graph::add(Node n) {
    for (Tensor t : n.outputs) {
        const bool is_view = values_[size_t(t.id)].is_view();
        require(!n.lower || !is_view, n.op, "cannot write to a view of other values", {t});
        require(n.lower || is_view, n.op, "only views need no task", {t});
    }
    for (Tensor t : n.updates)
        require(!values_[size_t(t.id)].is_view(), n.op, "cannot update a view of other values", {t});
    n.layer = layer_;
    nodes_.push_back(std::move(n));
}

std::vector<Tensor> Graph::backward(Tensor of, Tensor seed, const std::vector<Tensor>& wrt,
                                    const std::function<Tensor(Tensor, Tensor)>& sum) {
    require(of.shape() == seed.shape(), "backward", "the seed needs the shape of the value", {of, seed});
    std::vector<Tensor> gradient(values_.size());
    gradient[size_t(of.id)] = seed;
    const size_t forward_nodes = nodes_.size();
    for (size_t i = forward_nodes; i-- > 0;) {
        const Node node = nodes_[i];  // a copy: the vjp grows nodes_
        std::vector<Tensor> dy;
        bool any = false;
        for (Tensor out : node.outputs) any |= bool(dy.emplace_back(gradient[size_t(out.id)]));
        if (!any || !node.vjp) continue;
        const std::string outer = std::exchange(layer_, node.layer);
        const auto dx = node.vjp(dy);
        for (size_t k = 0; k < dx.size(); ++k) {
            if (!dx[k]) continue;
            require(dx[k].shape() == node.inputs[k].shape(), node.op, "its gradient has another shape than its input",
                    {dx[k], node.inputs[k]});
            Tensor& g = gradient[size_t(node.inputs[k].id)];
            g = g ? sum(g, dx[k]) : dx[k];
        }
        layer_ = outer;
    }
    std::vector<Tensor> result;
    for (Tensor t : wrt) result.push_back(size_t(t.id) < gradient.size() ? gradient[size_t(t.id)] : Tensor{});
    return result;
}

std::vector<bool> Graph::needed_nodes() const {
    std::vector<bool> value_needed(values_.size()), node_needed(nodes_.size());
    for (int id : kept_) value_needed[size_t(id)] = true;
    for (size_t i = nodes_.size(); i-- > 0;) {
        const Node& n = nodes_[i];
        bool need = n.effect || !n.updates.empty();
        for (Tensor t : n.outputs) need = need || value_needed[size_t(t.id)];
        node_needed[i] = need;
        if (need)
            for (Tensor t : n.inputs) value_needed[size_t(t.id)] = true;
    }
    return node_needed;
}

static std::string describe(Tensor t) {
    return t.name() + " " + to_string(t.shape()) + " " + std::string(name_of(t.dtype()));
}

std::string Graph::print() const {
    std::string text;
    const auto list = [](const std::vector<Tensor>& all) {
        std::string s;
        for (Tensor t : all) s += (s.empty() ? "" : ", ") + describe(t);
        return s;
    };
    for (const Node& n : nodes_)
        text += (n.layer.empty() ? "" : n.layer + ": ") + n.op + "(" + list(n.inputs) + ")" +
                (n.attributes.empty() ? "" : " {" + n.attributes + "}") + " -> " + list(n.outputs) +
                (n.updates.empty() ? "" : " updates " + list(n.updates)) + "\n";
    return text;
}

Graph::Layer::Layer(Graph& graph, const std::string& name) : graph_(graph), outer_(graph.layer_) {
    graph_.layer_ = outer_.empty() ? name : outer_ + "." + name;
}

void require(bool ok, const std::string& op, const std::string& what, const std::vector<Tensor>& tensors) {
    if (ok) return;
    std::string text = op + ": " + what;
    const auto valid = std::find_if(tensors.begin(), tensors.end(), [](Tensor t) { return bool(t); });
    if (valid != tensors.end() && !valid->graph->layer().empty()) text = valid->graph->layer() + "." + text;
    for (size_t i = 0; i < tensors.size(); ++i)
        if (tensors[i]) text += (i ? ", " : "; got ") + describe(tensors[i]);
    throw std::invalid_argument(text);
}

}  // namespace tessera
