#include "core/tile_handles.h"

#include <functional>

namespace tessera {
namespace {

#ifdef STARPU_SIMGRID
constexpr size_t most_passed_over = 20000;  // then it is as it comes: some 100 MB
#else
constexpr size_t most_passed_over = 0;
#endif

}  // namespace

TileHandles::~TileHandles() {
    for (auto h : passed_over_) starpu_data_unregister_no_coherency(h);
}

template <class F>
starpu_data_handle_t TileHandles::add(F&& make) {
    starpu_data_handle_t handle = make();
    while (std::less<>()(handle, last_) && passed_over_.size() < most_passed_over) {
        passed_over_.push_back(handle);
        handle = make();
    }
    return last_ = handle;
}

starpu_data_handle_t TileHandles::matrix(void* memory, const PlanTile& t, DType type) {
    return add([&] {
        starpu_data_handle_t handle;
        starpu_matrix_data_register_allocsize(&handle, memory ? STARPU_MAIN_RAM : -1,
                                              reinterpret_cast<uintptr_t>(memory), uint32_t(t.ld), uint32_t(t.cols),
                                              uint32_t(t.rows), size_t(bytes_of(type)),
                                              size_t(taken(t.rows * t.cols * bytes_of(type))));
        return handle;
    });
}

starpu_data_handle_t TileHandles::nothing() {
    return add([] {
        starpu_data_handle_t handle;
        starpu_void_data_register(&handle);
        return handle;
    });
}

}  // namespace tessera
