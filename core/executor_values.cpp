// Where an executor's values lie: storage of parameters, and reading and writing values from outside.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "core/error.h"
#include "core/executor.h"
#include "core/trace.h"

namespace tessera {
namespace {

template <class T>
void fill(void* to, int64_t rows, int64_t cols, int64_t ld, const std::function<double(int64_t, int64_t)>& f) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j) static_cast<T*>(to)[i * ld + j] = T(typename TypeOf<T>::Compute(f(i, j)));
}

// Calls f.operator()<T>() for every storage type.
template <class F>
void with_type(DType t, F&& f) {
    dispatch<float, double, bf16, int32_t, uint8_t>(t, "executor", std::forward<F>(f));
}

// A handle's host copy, held while it lives.
class Acquired {
 public:
    Acquired(starpu_data_handle_t h, starpu_data_access_mode mode) : handle_(h) {
        check_starpu(starpu_data_acquire(h, mode), "starpu_data_acquire");
    }
    ~Acquired() { starpu_data_release(handle_); }
    std::byte* data() const { return reinterpret_cast<std::byte*>(starpu_matrix_get_local_ptr(handle_)); }
    int64_t ld() const { return starpu_matrix_get_local_ld(handle_); }

 private:
    starpu_data_handle_t handle_;
};

}  // namespace

void Executor::release(const Param& p) {
    auto it = params_.find(&p);
    if (it == params_.end()) return;
    starpu_task_wait_for_all();
    drop_storage(p, it->second);
    params_.erase(it);
}

constexpr int allocation = STARPU_MALLOC_PINNED | STARPU_MALLOC_SIMULATION_FOLDED;

void Executor::drop_storage(const Param& p, ParamStorage& s) {
    // The user's own memory is up to date when it is theirs again, wherever the tiles were written last.
    for (auto h : s.tiles) p.memory ? starpu_data_unregister(h) : starpu_data_unregister_no_coherency(h);
    if (s.ours) starpu_free_flags(s.memory, size_t(p.bytes()), allocation);
    if (s.pinned) starpu_memory_unpin(s.memory, size_t(p.extent_bytes()));
}

void Executor::bring_home(const Param& p) {
    for (auto h : storage(p).tiles) Acquired(h, STARPU_R);
    if (options_.trace) options_.trace->sample_links(true);
}

void Executor::changed_at_home(const Param& p) {
    if (starpu_memory_nodes_get_count() == 1) return;  // there is no other copy
    for (auto h : storage(p).tiles) Acquired(h, STARPU_RW);
}

// In place: one host allocation, tiles are views of it. Otherwise StarPU allocates each tile.
Executor::ParamStorage& Executor::storage(const Param& p) {
    {
        std::lock_guard lock(params_mutex_);
        if (auto it = params_.find(&p); it != params_.end()) return it->second;
    }
    ParamStorage s;
    const int64_t size = bytes_of(p.dtype);
    if (p.memory) {
        s.memory = p.memory;
        s.pinned = runtime_.cuda_workers() > 0 && starpu_memory_pin(p.memory, size_t(p.extent_bytes())) == 0;
    } else if (options_.in_place) {
        check_starpu(starpu_malloc_flags(&s.memory, size_t(p.bytes()), allocation),
                     "allocating parameter '" + p.name + "' (" + std::to_string(p.bytes()) + " bytes)",
                     "choose a smaller network");
        s.ours = true;
    }
    int64_t row = 0;
    for (int64_t rows : p.grid.row_extents) {
        int64_t col = 0;
        for (int64_t cols : p.grid.col_extents) {
            const int64_t ld = s.memory ? p.row_stride() : cols;
            auto* at = s.memory ? static_cast<std::byte*>(s.memory) + (row * ld + col) * size : nullptr;
            s.tiles.push_back(tile_handles_.matrix(at, {0, row, col, rows, cols, ld, 0}, p.dtype));
            col += cols;
        }
        row += rows;
    }
    const auto emplace = [&]() -> ParamStorage& {
        std::lock_guard lock(params_mutex_);
        return params_.emplace(&p, std::move(s)).first->second;
    };
    auto& stored = emplace();
#ifndef STARPU_SIMGRID
    if (p.memory) return stored;  // it has its values
    each_tile(p, STARPU_W, [&](std::byte* data, int64_t ld, int64_t row0, int64_t col0, int64_t rows, int64_t cols) {
        with_type(p.dtype, [&]<class T>() {
            fill<T>(data, rows, cols, ld,
                    [&](int64_t i, int64_t j) { return p.initial ? p.initial(row0 + i, col0 + j) : 0.0; });
        });
    });
#endif
    return stored;
}

template <class F>
void Executor::each_tile(const Param& p, starpu_data_access_mode mode, F&& f) {
    size_t next = 0;
    int64_t row = 0;
    const auto& tiles = storage(p).tiles;
    for (int64_t rows : p.grid.row_extents) {
        int64_t col = 0;
        for (int64_t cols : p.grid.col_extents) {
            Acquired a(tiles[next++], mode);
            f(a.data(), a.ld(), row, col, rows, cols);
            col += cols;
        }
        row += rows;
    }
}

static void copy_rows(std::byte* to, int64_t to_stride, const std::byte* from, int64_t from_stride, int64_t rows,
                      int64_t bytes) {
    for (int64_t i = 0; i < rows; ++i) std::memcpy(to + i * to_stride, from + i * from_stride, size_t(bytes));
}

void Executor::read(const Param& p, void* to) {
    const int64_t size = bytes_of(p.dtype), stride = p.shape.cols * size;
    each_tile(p, STARPU_R, [&](std::byte* data, int64_t ld, int64_t row, int64_t col, int64_t rows, int64_t cols) {
        copy_rows(static_cast<std::byte*>(to) + row * stride + col * size, stride, data, ld * size, rows, cols * size);
    });
}

void Executor::write(const Param& p, const void* from) {
    const int64_t size = bytes_of(p.dtype), stride = p.shape.cols * size;
    each_tile(p, STARPU_W, [&](std::byte* data, int64_t ld, int64_t row, int64_t col, int64_t rows, int64_t cols) {
        copy_rows(data, ld * size, static_cast<const std::byte*>(from) + row * stride + col * size, stride, rows,
                  cols * size);
    });
}

std::vector<double> Executor::read(const Param& p) {
    std::vector<double> all(size_t(p.shape.size()));
    each_tile(p, STARPU_R, [&](std::byte* data, int64_t ld, int64_t row, int64_t col, int64_t rows, int64_t cols) {
        with_type(p.dtype, [&]<class T>() {
            for (int64_t i = 0; i < rows; ++i)
                for (int64_t j = 0; j < cols; ++j)
                    all[size_t((row + i) * p.shape.cols + col + j)] = double(reinterpret_cast<T*>(data)[i * ld + j]);
        });
    });
    return all;
}

// Only tiles that tasks use have handles.
static void require_used(const Plan& plan, const PlanValue& v, int value,
                         const std::vector<starpu_data_handle_t>& handles) {
    plan.each_tile(value, [&](int k, int64_t, int64_t) {
        if (!handles[size_t(k)])
            throw std::invalid_argument("'" + v.name +
                                        "' is computed by no task of this plan: keep() what is to be read");
    });
}

std::vector<double> Executor::read(int number, Tensor t) {
    Loaded& l = *loaded_[size_t(number)];
    const PlanValue& v = l.plan.values[size_t(t.id)];
    l.plan.each_tile(t.id, [&](int k, int64_t, int64_t) {
        if (l.gone[size_t(k)])
            throw std::invalid_argument("'" + v.name + "' is gone at the end of a step: keep() what is to be read");
    });
    const auto& handles = l.tile_handles[size_t(std::max<int64_t>(0, l.steps - 1)) % l.tile_handles.size()];
    require_used(l.plan, v, t.id, handles);
    std::vector<double> all(size_t(v.shape.size()));
    l.plan.each_tile(t.id, [&](int k, int64_t row, int64_t col) {
        const PlanTile& tile = l.plan.tiles[size_t(k)];
        Acquired a(handles[size_t(k)], STARPU_R);
        with_type(v.dtype, [&]<class T>() {
            for (int64_t i = 0; i < tile.rows; ++i)
                for (int64_t j = 0; j < tile.cols; ++j)
                    all[size_t((row + i) * v.shape.cols + col + j)] =
                        double(reinterpret_cast<T*>(a.data())[i * a.ld() + j]);
        });
    });
    return all;
}

void Executor::write(int number, Tensor t, const std::vector<double>& from) {
    Loaded& l = *loaded_[size_t(number)];
    const PlanValue& v = l.plan.values[size_t(t.id)];
    if (v.is_view()) throw std::invalid_argument("'" + v.name + "' is a view of other values: these are to be written");
    if (int64_t(from.size()) != v.shape.size())
        throw std::invalid_argument("'" + v.name + "' has " + std::to_string(v.shape.size()) + " values, not " +
                                    std::to_string(from.size()));
    require_used(l.plan, v, t.id, l.tile_handles[0]);
    for (const auto& handles : l.tile_handles)
        l.plan.each_tile(t.id, [&](int k, int64_t row, int64_t col) {
            const PlanTile& tile = l.plan.tiles[size_t(k)];
            Acquired a(handles[size_t(k)], STARPU_W);
            with_type(v.dtype, [&]<class T>() {
                fill<T>(a.data(), tile.rows, tile.cols, a.ld(),
                        [&](int64_t i, int64_t j) { return from[size_t((row + i) * v.shape.cols + col + j)]; });
            });
        });
}

std::vector<int64_t> Executor::live_bytes() const {
    std::vector<int64_t> per_node(starpu_memory_nodes_get_count());
    const auto count = [&](starpu_data_handle_t h, int64_t bytes) {
        for (unsigned node = 0; node < per_node.size(); ++node) {
            int allocated = 0, valid = 0, requested = 0;
            starpu_data_query_status(h, int(node), &allocated, &valid, &requested);
            if (allocated) per_node[node] += bytes;
        }
    };
    for (auto& l : loaded_)
        for (auto h : l->owned) count(h, int64_t(starpu_data_get_size(h)));
    for (auto& [kind, pool] : shared_)
        for (auto h : pool) count(h, int64_t(starpu_data_get_size(h)));
    for (auto& [param, s] : params_)
        for (auto h : s.tiles) count(h, int64_t(starpu_data_get_size(h)));
    return per_node;
}

}  // namespace tessera
