// load_tile, store_tile: a tile from and to a TileStore. f32, f64, bf16. The body hands the work to an IoThread and
// returns; the task ends when that is done.
#include "codelets/tile_io.h"

#include "codelets/elementwise.h"
#include "codelets/gemm.h"
#include "core/body.h"

namespace tessera {
namespace {

struct TileArgs {
    TileStore* store;
    IoThreads* io;
    int64_t i, j;
};

template <class F>
void in_io_thread(const TileArgs& a, F&& transfer) {
    a.io->run([end = end_later(), transfer] {
        try {
            transfer();
            end("");
        } catch (const std::exception& e) { end(e.what()); }
    });
}

template <class T>
struct LoadTile {
    static constexpr auto name = "load_tile", formula = "y = a tile from disk";
    static constexpr bool host_only = true;
    static constexpr DType dtype = dtype_of<T>;
    using Args = TileArgs;
    static Cost cost(Args, Out<T> y) { return {0, bytes_of_views(y)}; }
    static void cpu(Args a, Out<T> y) {
        in_io_thread(a, [a, to = y.data] { a.store->read(a.i, a.j, to); });
    }
};
template <class T>
struct StoreTile {
    static constexpr auto name = "store_tile", formula = "a tile to disk";
    static constexpr bool host_only = true;
    static constexpr DType dtype = dtype_of<T>;
    using Args = TileArgs;
    static Cost cost(Args, In<T> x) { return {0, bytes_of_views(x)}; }
    static void cpu(Args a, In<T> x) {
        in_io_thread(a, [a, from = x.data] { a.store->write(a.i, a.j, from); });
    }
};
const Register<LoadTile<float>, LoadTile<double>, LoadTile<bf16>, StoreTile<float>, StoreTile<double>, StoreTile<bf16>>
    codelets;

}  // namespace

IoThreads::IoThreads(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}
IoThreads::~IoThreads() {
    {
        std::lock_guard lock(mutex_);
        ending_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
}
void IoThreads::run(std::function<void()> work) {
    {
        std::lock_guard lock(mutex_);
        queue_.push_back(std::move(work));
    }
    wake_.notify_one();
}
void IoThreads::work() {
    for (;;) {
        std::function<void()> next;
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return ending_ || !queue_.empty(); });
            if (queue_.empty()) return;
            next = std::move(queue_.front());
            queue_.pop_front();
        }
        next();
    }
}

int64_t StreamedGemm::bytes() const {
    return bytes_of(dtype) *
           (block_m * block_n * tile_m * tile_n + depth * (block_m * tile_m * tile_k + block_n * tile_k * tile_n));
}

namespace {

// Three values whose tiles are used again and again: places for C's block, and for `depth` columns of A and rows of B.
struct Places {
    Tensor a, b, c;
};
Places places(Graph& g, const StreamedGemm& s) {
    const auto value = [&](const char* name, int64_t rows, int64_t cols, int64_t tile_rows, int64_t tile_cols) {
        return g.value(name, {rows * tile_rows, cols * tile_cols}, s.dtype,
                       {std::vector<int64_t>(size_t(rows), tile_rows), std::vector<int64_t>(size_t(cols), tile_cols)});
    };
    return {value("A", s.depth, s.block_m, s.gemm.ta ? s.tile_k : s.tile_m, s.gemm.ta ? s.tile_m : s.tile_k),
            value("B", s.depth, s.block_n, s.gemm.tb ? s.tile_n : s.tile_k, s.gemm.tb ? s.tile_k : s.tile_n),
            value("C", s.block_m, s.block_n, s.tile_m, s.tile_n)};
}

template <class T>
void lower_block(Lowering& to, const StreamedGemm& s, const Places& p, int64_t row, int64_t col, int64_t& step) {
    const int64_t rows = std::min(s.block_m, s.m - row), cols = std::min(s.block_n, s.n - col);
    const auto load = [&](TileStore* store, Lowering::Ref r, bool t, int64_t i, int64_t j) {
        to.task<LoadTile<T>>({store, s.io, t ? j : i, t ? i : j}, r);
    };
    for (int64_t l = 0; l < s.k; ++l, ++step) {
        const int64_t place = step % s.depth;
        for (int64_t i = 0; i < rows; ++i) load(s.a, to.tile(p.a, place, i), s.gemm.ta, row + i, l);
        for (int64_t j = 0; j < cols; ++j) load(s.b, to.tile(p.b, place, j), s.gemm.tb, l, col + j);
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < cols; ++j) {
                const auto c = to.tile(p.c, i, j);
                const double beta = l > 0 ? 1 : s.gemm.beta;
                if (l == 0 && beta != 0) load(s.c, c, false, row + i, col + j);
                gemm_task(to, s.dtype, {s.gemm.alpha, beta, s.gemm.ta, s.gemm.tb, s.gemm.tf32}, to.tile(p.a, place, i),
                          to.tile(p.b, place, j), beta == 0 ? Lowering::first(c) : Lowering::alone(c));
                if (l + 1 == s.k) to.task<StoreTile<T>>({s.c, s.io, row + i, col + j}, c);
            }
    }
}

}  // namespace

void gemm_streamed(Graph& g, const StreamedGemm& s) {
    const Places p = places(g, s);
    Node node;
    node.op = "gemm_streamed", node.effect = true;
    node.attributes = "blocks of " + std::to_string(s.block_m) + " x " + std::to_string(s.block_n) + " tiles";
    node.lower = [=](Lowering& to) {
        dispatch<float, double, bf16>(s.dtype, "gemm_streamed", [&]<class T>() {
            int64_t step = 0, band = 0;
            for (int64_t row = 0; row < s.m; row += s.block_m, ++band) {
                const int64_t blocks = (s.n + s.block_n - 1) / s.block_n;
                for (int64_t b = 0; b < blocks; ++b)  // neighbours next: every other band backwards
                    lower_block<T>(to, s, p, row, (band % 2 == 0 ? b : blocks - 1 - b) * s.block_n, step);
            }
        });
    };
    require_type<float, double, bf16>(s.dtype, "gemm_streamed");
    g.add(std::move(node));
}

}  // namespace tessera
