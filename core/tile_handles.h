// core/tile_handles.h - tiles as StarPU's data handles.
#pragma once
#include <starpu.h>

#include <vector>

#include "core/plan.h"
#include "core/tile_sizes.h"

namespace tessera {

// StarPU locks and fetches what a task uses in the order of the handles' addresses. Simulated times must not depend on
// where malloc has room: there, each handle has a higher address than the one before.
class TileHandles {
 public:
    TileHandles() = default;
    TileHandles(const TileHandles&) = delete;
    TileHandles& operator=(const TileHandles&) = delete;
    ~TileHandles();

    // Of tiles that are made from now on: what those of this plan take where StarPU allocates them (core/tile_sizes.h).
    void even_out(const Plan& plan) { sizes_.add(plan); }
    int64_t taken(int64_t bytes) const { return sizes_.taken(bytes); }

    // A tile as a matrix; null memory: StarPU allocates it where it is first written. Who asks unregisters it.
    starpu_data_handle_t matrix(void* memory, const PlanTile&, DType);
    // Without data, for tasks to wait for.
    starpu_data_handle_t nothing();

 private:
    template <class F>
    starpu_data_handle_t add(F&& make);

    TileSizes sizes_;
    starpu_data_handle_t last_ = nullptr;
    std::vector<starpu_data_handle_t> passed_over_;  // below the last when they were made; they keep their places
};

}  // namespace tessera
