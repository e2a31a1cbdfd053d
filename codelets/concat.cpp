// concat, split: maps side by side along their channels, and runs of channels of maps. Both are views of column tiles
// and no task; only where tiles end elsewhere, or rows are cut differently, is a part retiled first.
#include <algorithm>
#include <set>
#include <utility>

#include "codelets/elementwise.h"
#include "codelets/maps_grid.h"
#include "codelets/ops.h"

namespace tessera {
namespace {

// Where pieces of these extents end.
std::set<int64_t> ends_of(const std::vector<int64_t>& extents) {
    std::set<int64_t> ends;
    int64_t at = 0;
    for (int64_t e : extents) ends.insert(at += e);
    return ends;
}
std::vector<int64_t> extents_between(const std::set<int64_t>& ends) {
    std::vector<int64_t> extents;
    int64_t at = 0;
    for (int64_t end : ends) extents.push_back(end - std::exchange(at, end));
    return extents;
}

Tensor concat_columns(std::vector<Tensor> parts);

// Of x's columns, `widths` one after the other.
std::vector<Tensor> split_columns(Tensor x, const std::vector<int64_t>& widths) {
    if (widths.size() == 1) return {x};
    auto ends = ends_of(x.grid().col_extents);
    ends.merge(ends_of(widths));
    x = on_grid(x, {x.grid().row_extents, extents_between(ends)});
    Graph& g = *x.graph;
    Node node;
    node.op = "split", node.inputs = {x};
    int64_t first = 0;
    for (int64_t width : widths) {
        int64_t count = 0;
        for (int64_t covered = 0; covered < width; ++count) covered += x.grid().col_extents[size_t(first + count)];
        node.outputs.push_back(g.view("split", {{x, first, count}}));
        first += count;
    }
    node.vjp = [parts = node.outputs](std::vector<Tensor> d) {
        for (size_t k = 0; k < d.size(); ++k)
            if (!d[k]) d[k] = fill(*parts[k].graph, parts[k].shape(), parts[k].dtype(), parts[k].grid(), 0);
        return std::vector{concat_columns(std::move(d))};
    };
    g.add(std::move(node));
    return g.last().outputs;
}

Tensor concat_columns(std::vector<Tensor> parts) {
    if (parts.size() == 1) return parts[0];
    std::vector<ColumnTiles> tiles;
    std::vector<int64_t> widths;
    for (Tensor& p : parts) {
        p = on_grid(p, {parts[0].grid().row_extents, p.grid().col_extents});
        tiles.push_back({p, 0, p.grid().cols()});
        widths.push_back(p.shape().cols);
    }
    Graph& g = *parts[0].graph;
    Tensor y = g.view("concat", tiles);
    Node node;
    node.op = "concat", node.inputs = std::move(parts), node.outputs = {y};
    node.vjp = [y, widths](const std::vector<Tensor>& d) {
        const auto cuts = ends_of(d[0].grid().col_extents), needed = ends_of(widths);
        const bool fits = std::includes(cuts.begin(), cuts.end(), needed.begin(), needed.end());
        return split_columns(fits ? d[0] : retile(d[0], y.grid()), widths);
    };
    g.add(std::move(node));
    return y;
}

}  // namespace

Maps concat(const std::vector<Maps>& maps) {
    std::vector<Tensor> parts;
    for (const Maps& m : maps) parts.push_back(m.tensor);
    require(!parts.empty() && parts[0], "concat", "needs at least one part");
    for (const Maps& m : maps)
        require(m.tensor && m.tensor.graph == parts[0].graph && m.height == maps[0].height &&
                    m.width == maps[0].width && m.tensor.shape().rows == parts[0].shape().rows &&
                    m.tensor.dtype() == parts[0].dtype(),
                "concat",
                "the parts need one batch, size and type, not " + to_string(Extent2d(maps[0].height, maps[0].width)) +
                    " beside " + to_string(Extent2d(m.height, m.width)),
                parts);
    return {concat_columns(parts), maps[0].height, maps[0].width};
}

std::vector<Maps> split(Maps x, const std::vector<int64_t>& channels) {
    int64_t sum = 0;
    std::string text;
    bool positive = !channels.empty();
    for (int64_t c : channels) {
        sum += c, positive = positive && c > 0;
        text += (text.empty() ? "" : " + ") + std::to_string(c);
    }
    require(positive && sum == x.channels(), "split",
            "needs positive channel counts that sum up to " + std::to_string(x.channels()) + ", not " + text,
            {x.tensor});
    std::vector<Maps> parts;
    for (Tensor t : split_columns(x.tensor, channels)) parts.push_back({t, x.height, x.width});
    return parts;
}

}  // namespace tessera
