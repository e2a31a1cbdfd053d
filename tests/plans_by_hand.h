// plans_by_hand.h - plans that no graph made.
#pragma once
#include "core/plan.h"

namespace tessera {

// A plan of tasks by hand, over `tiles` tiles of one element; its codelets are whatever there is.
inline Plan by_hand(int tiles, std::vector<std::vector<TileUse>> uses) {
    Graph g;
    g.value("t", {1, tiles}, DType::f32, {{1}, cut(tiles, 1)});
    Plan plan(g);
    plan.nodes.push_back({"op", "", ""});
    for (auto& u : uses) {
        TaskSpec task;
        task.codelet = all_codelets().front();
        task.tiles = std::move(u);
        plan.tasks.push_back(std::move(task));
    }
    return plan;
}

}  // namespace tessera
