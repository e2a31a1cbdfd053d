#include "interpreter.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>

namespace tessera::test {
namespace {

constexpr std::byte guard{0xff};        // NaN in every float type, -1 in i32: what is read of it shows
constexpr int64_t guard_elements = 13;  // odd, so that tiles begin at addresses aligned to their element only

template <class F>
void with_type(DType t, F&& f) {
    dispatch<float, double, bf16, int32_t, uint8_t>(t, "interpreter", std::forward<F>(f));
}
template <class T>
T stored(double value) {
    return T(Compute<T>(value));
}
template <class T>
T element(const std::byte* p) {
    T x;
    std::memcpy(&x, p, sizeof x);
    return x;
}

}  // namespace

Bodies& interpreted() {
    static Bodies chosen = Bodies::cpu;
    return chosen;
}
static bool runs_cuda(const CodeletInfo& codelet) {
    return interpreted() == Bodies::cuda && codelet.starpu->cuda_funcs[0];
}
size_t implementations(const CodeletInfo& codelet) {
    return runs_cuda(codelet) ? codelet.cuda.size() : codelet.cpu.size();
}

double rounded(double value, DType type) {
    double result = 0;
    with_type(type, [&]<class T>() { result = double(stored<T>(value)); });
    return result;
}

Interpreter::Interpreter(const Graph& graph, InterpreterOptions options) : plan_(graph), options_(options) {
    for (size_t k = 0; k < plan_.tiles.size(); ++k) {
        const PlanTile& t = plan_.tiles[k];
        const int64_t size = bytes_of(plan_.dtype(int(k))), ld = t.cols + options.padding;
        const int64_t elements = t.rows * ld + 2 * guard_elements;
        buffers_.push_back({std::vector<std::byte>(size_t(elements * size), guard), guard_elements * size, ld});
    }
    state_.plan = &plan_;
    state_.run = &run_;
    state_.class_of_task.resize(plan_.tasks.size());
}

std::byte* Interpreter::row(int tile, int64_t i) {
    Buffer& b = buffers_[size_t(tile)];
    return b.bytes.data() + b.start + i * b.ld * bytes_of(plan_.dtype(tile));
}
int64_t Interpreter::row_bytes(int tile) const { return plan_.tiles[size_t(tile)].cols * bytes_of(plan_.dtype(tile)); }

void Interpreter::write(Tensor t, const Matrix& m) {
    const PlanValue& v = plan_.values[size_t(t.id)];
    if (v.shape != m.shape())
        throw std::logic_error("a value for " + v.name + " has the shape " + to_string(m.shape()));
    if (v.is_view()) throw std::logic_error(v.name + " is a view of other values");
    with_type(v.dtype, [&]<class T>() {
        plan_.each_tile(t.id, [&](int k, int64_t row0, int64_t col0) {
            const PlanTile& tile = plan_.tiles[size_t(k)];
            for (int64_t i = 0; i < tile.rows; ++i)
                for (int64_t j = 0; j < tile.cols; ++j) {
                    const T x = stored<T>(m(row0 + i, col0 + j));
                    std::memcpy(row(k, i) + size_t(j) * sizeof x, &x, sizeof x);
                }
            buffers_[size_t(k)].written = true;
        });
    });
}

Matrix Interpreter::read(Tensor t) const {
    const PlanValue& v = plan_.values[size_t(t.id)];
    Matrix m(v.shape.rows, v.shape.cols);
    with_type(v.dtype, [&]<class T>() {
        plan_.each_tile(t.id, [&](int k, int64_t row0, int64_t col0) {
            const PlanTile& tile = plan_.tiles[size_t(k)];
            if (!buffers_[size_t(k)].written) throw std::runtime_error("no task wrote " + plan_.describe_tile(k));
            for (int64_t i = 0; i < tile.rows; ++i)
                for (int64_t j = 0; j < tile.cols; ++j)
                    m(row0 + i, col0 + j) = double(element<T>(row(k, i) + size_t(j) * sizeof(T)));
        });
    });
    return m;
}

void Interpreter::poison(int tile) {
    for (int64_t i = 0; i < plan_.tiles[size_t(tile)].rows; ++i) std::fill_n(row(tile, i), row_bytes(tile), guard);
}

void Interpreter::check_guards(int tile) const {
    const Buffer& b = buffers_[size_t(tile)];
    const std::byte *next = b.bytes.data(), *end = next + b.bytes.size();
    const auto untouched = [](const std::byte* from, const std::byte* to) {
        return std::all_of(from, to, [](std::byte x) { return x == guard; });
    };
    bool ok = true;
    for (int64_t i = 0; i < plan_.tiles[size_t(tile)].rows; ++i) {
        ok = ok && untouched(next, row(tile, i));
        next = row(tile, i) + row_bytes(tile);
    }
    if (!ok || !untouched(next, end)) throw std::runtime_error("wrote outside of tile " + plan_.describe_tile(tile));
}

std::vector<int> Interpreter::order() const {
    std::vector<int> all(plan_.tasks.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = int(i);
    if (!options_.shuffle) return all;
    const auto waits = dependencies(plan_, false);
    std::vector<int> missing(all.size());
    std::vector<std::vector<int>> then(all.size());
    std::vector<int> ready, result;
    for (size_t i = 0; i < all.size(); ++i) {
        missing[i] = int(waits[i].size());
        for (int d : waits[i]) then[size_t(d)].push_back(int(i));
        if (waits[i].empty()) ready.push_back(int(i));
    }
    while (!ready.empty()) {
        std::swap(ready[(*options_.shuffle)() % ready.size()], ready.back());
        result.push_back(ready.back());
        ready.pop_back();
        for (int t : then[size_t(result.back())])
            if (--missing[size_t(t)] == 0) ready.push_back(t);
    }
    return result;
}

void Interpreter::run(const Step& step) {
    seconds_.assign(plan_.tasks.size(), 0);
    for (int task : order()) run_task(task, step);
}

void Interpreter::fail(int task, const std::string& what) const {
    const TaskSpec& t = plan_.tasks[size_t(task)];
    throw std::runtime_error(t.codelet->name + " (task " + std::to_string(task) + " of " +
                             plan_.nodes[size_t(t.node)].name() + "): " + what);
}

void Interpreter::run_task(int task, const Step& step) {
    const auto& tiles = plan_.tasks[size_t(task)].tiles;
    if (!options_.checks) {
        call(task, step);
        for (const TileUse& u : tiles) buffers_[size_t(u.tile)].written = true;
        return;
    }
    std::vector<std::vector<std::byte>> before(tiles.size());
    for (size_t i = 0; i < tiles.size(); ++i) {
        const TileUse& u = tiles[i];
        for (size_t j = 0; j < i; ++j)
            if (tiles[j].tile == u.tile && (u.access != Access::read || tiles[j].access != Access::read))
                fail(task, "names the tile " + plan_.describe_tile(u.tile) + " twice and writes it");
        if (u.access == Access::write) poison(u.tile);
        else if (!buffers_[size_t(u.tile)].written)
            fail(task, "reads " + plan_.describe_tile(u.tile) + ", which nothing has written");
        if (u.access == Access::read) before[i] = buffers_[size_t(u.tile)].bytes;
    }
    call(task, step);
    for (size_t i = 0; i < tiles.size(); ++i) {
        try {
            check_guards(tiles[i].tile);
        } catch (const std::exception& e) { fail(task, e.what()); }
        if (tiles[i].access == Access::read && before[i] != buffers_[size_t(tiles[i].tile)].bytes)
            fail(task, "changed its input " + plan_.describe_tile(tiles[i].tile));
        buffers_[size_t(tiles[i].tile)].written = true;
    }
}

void Interpreter::call(int task, const Step& step) {
    const TaskSpec& t = plan_.tasks[size_t(task)];
    std::vector<std::byte> memory(args_offset + t.args.size() + alignof(std::max_align_t));
    auto* argument = memory.data();  // operator new aligns for every argument type
    new (argument) TaskRun{&state_, task, t.footprint};
    std::copy(t.args.begin(), t.args.end(), argument + args_offset);
    if (t.codelet->at_step) t.codelet->at_step(argument + args_offset, step);
    std::vector<starpu_matrix_interface> interfaces(t.tiles.size());
    std::vector<void*> pointers;
    for (size_t i = 0; i < t.tiles.size(); ++i) {
        const PlanTile& tile = plan_.tiles[size_t(t.tiles[i].tile)];
        starpu_matrix_interface& m = interfaces[i];
        m.id = STARPU_MATRIX_INTERFACE_ID;
        m.ptr = m.dev_handle = reinterpret_cast<uintptr_t>(row(t.tiles[i].tile, 0));
        m.nx = uint32_t(tile.cols), m.ny = uint32_t(tile.rows);
        m.ld = uint32_t(buffers_[size_t(t.tiles[i].tile)].ld);
        m.elemsize = size_t(bytes_of(plan_.dtype(t.tiles[i].tile)));
        m.allocsize = size_t(m.ld) * m.ny * m.elemsize;
        pointers.push_back(&m);
    }
    const int i = options_.implementation < int(implementations(*t.codelet)) ? options_.implementation : 0;
    const starpu_codelet& codelet = *t.codelet->starpu;
    const auto body = runs_cuda(*t.codelet) ? codelet.cuda_funcs[i] : codelet.cpu_funcs[i];
    const auto start = std::chrono::steady_clock::now();
    body(pointers.data(), argument);
    seconds_[size_t(task)] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (run_.error.failed()) throw std::runtime_error(run_.error.take().value_or("a task failed"));
}

}  // namespace tessera::test
