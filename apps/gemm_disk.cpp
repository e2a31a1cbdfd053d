// tessera gemm --host-memory SIZE --swap DIR: matrices on disk, a fixed number of tiles in memory (codelets/tile_io.h).
#include <starpu.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/gemm.h"
#include "apps/table.h"
#include "core/error.h"
#include "core/random.h"
#include "data/freivalds.h"
#include "graphs/tile_stores.h"

namespace tessera {
namespace {

constexpr int io_threads = 2;

// Tile and block: the tiles fill the limit; of the tiles tried, the one whose block loads least and that leaves every
// worker something to do. Tiles of A and B may be thinner than those of C: two steps of them take less room, and C
// more.
StreamedGemm choose_stream(const GemmFlags& f, const Runtime& runtime, int64_t limit_bytes) {
    StreamedGemm s;
    s.dtype = parse_dtype(f.dtype), s.gemm = f.gemm();
    const auto pieces = [](int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; };
    const auto with_tile = [&](int64_t tile, int64_t depth) {
        s.m = pieces(f.m, tile), s.n = pieces(f.n, tile), s.k = pieces(f.k, depth);
        s.tile_m = pieces(f.m, s.m), s.tile_n = pieces(f.n, s.n), s.tile_k = pieces(f.k, s.k);
    };
    const auto loads = [&] {  // bytes of A and B
        const double a = double(s.m * s.tile_m) * double(pieces(s.n, s.block_n)),
                     b = double(s.n * s.tile_n) * double(pieces(s.m, s.block_m));
        return (a + b) * double(s.k * s.tile_k * bytes_of(s.dtype));
    };
    const auto best_block = [&] {
        std::pair<int64_t, int64_t> best{0, 0};
        double least = INFINITY;
        for (s.block_m = 1; s.block_m <= s.m; ++s.block_m)
            for (s.block_n = 1; s.block_n <= s.n && s.bytes() <= limit_bytes; ++s.block_n)
                if (loads() < least) least = loads(), best = {s.block_m, s.block_n};
        std::tie(s.block_m, s.block_n) = best;
        return least;
    };
    if (f.tile != "auto") {
        with_tile(std::stoll(f.tile), std::stoll(f.tile));
        if (std::isfinite(best_block())) return s;
    } else {
        StreamedGemm best;
        double least = INFINITY;
        for (int64_t tile : {2048, 1536, 1024, 768, 512, 384, 256})
            for (int64_t depth = tile; depth >= std::max<int64_t>(256, tile / 4); depth /= 2) {
                with_tile(tile, depth);
                const double bytes = best_block();
                const bool shared = s.block_m * s.block_n >= 2 * runtime.cpu_workers();
                const double small = tile < 512 ? 1.1 : 1;  // products of small tiles are slower
                if (s.block_m > 0 && (shared || tile == 256) && bytes * small < 0.95 * least)
                    least = bytes * small, best = s;
            }
        if (std::isfinite(least)) return best;
        with_tile(256, 256);
    }
    s.block_m = s.block_n = 1;
    throw Error("--host-memory " + f.common.host_memory + " is too small for tiles of " + std::to_string(s.tile_m) +
                    " x " + std::to_string(s.tile_k),
                "the least that works is " + whole_mebibytes(s.bytes()) +
                    (f.tile == "auto" ? "" : "; or choose a smaller --tile"));
}

// Matrices of this run on disk. C of a run with --out is the file's, else in the swap folder.
struct Stores {
    std::unique_ptr<SwapStore> swap_a, swap_b, swap_c;
    std::unique_ptr<NpySource> npy_a, npy_b;
    std::unique_ptr<NpySink> out;
    std::unique_ptr<MatrixWriter> copy;  // of a C that is read, too, and so is kept in the swap folder
    double write_s = 0;
    int64_t written_bytes = 0;

    Stores(const GemmFlags& f, const StreamedGemm& s) {
        const auto generated = [&](uint64_t stream, TiledShape shape) {
            auto store = std::make_unique<SwapStore>(f.common.swap, shape);
            write_s += store->fill(
                [&, stream](int64_t i, int64_t j) { return generated_element(f, stream, i, j, shape.cols); });
            written_bytes += shape.tiles_down() * shape.tiles_across() * shape.tile_bytes();
            return store;
        };
        const auto a = TiledShape{f.ta ? f.k : f.m, f.ta ? f.m : f.k, f.ta ? s.tile_k : s.tile_m,
                                  f.ta ? s.tile_m : s.tile_k, s.dtype};
        const auto b = TiledShape{f.tb ? f.n : f.k, f.tb ? f.k : f.n, f.tb ? s.tile_n : s.tile_k,
                                  f.tb ? s.tile_k : s.tile_n, s.dtype};
        const auto c = TiledShape{f.m, f.n, s.tile_m, s.tile_n, s.dtype};
        if (f.a.empty()) swap_a = generated(1, a);
        else npy_a = std::make_unique<NpySource>(f.a, a.tile_rows, a.tile_cols);
        if (f.b.empty()) swap_b = generated(2, b);
        else npy_b = std::make_unique<NpySource>(f.b, b.tile_rows, b.tile_cols);
        if (!f.out.empty() && f.beta != 0) copy = std::make_unique<MatrixWriter>(f.out, s.dtype, f.m, f.n);
        if (!f.out.empty() && f.beta == 0) out = std::make_unique<NpySink>(f.out, c);
        else if (f.beta != 0) swap_c = generated(3, c);
        else swap_c = std::make_unique<SwapStore>(f.common.swap, c);
    }
    void generate_c(const GemmFlags& f) {
        swap_c->fill([&](int64_t i, int64_t j) { return generated_element(f, 3, i, j, f.n); });
    }
    // --out appears when it is complete.
    void finish() {
        if (out) out->finish();
        if (!copy) return;
        const TiledShape& shape = swap_c->shape();
        std::vector<double> rows(size_t(shape.tile_rows * shape.cols));
        std::vector<float> narrow(rows.size());
        for (int64_t row = 0; row < shape.rows; row += shape.tile_rows) {
            const int64_t count = std::min(shape.tile_rows, shape.rows - row);
            swap_c->read_rows(row, count, rows.data());
            std::copy(rows.begin(), rows.end(), narrow.begin());
            const void* from = shape.dtype == DType::f32 ? static_cast<const void*>(narrow.data()) : rows.data();
            copy->write(row, 0, count, shape.cols, from, shape.cols);
        }
        copy->finish();
    }
    CountedStore& a() { return npy_a ? static_cast<CountedStore&>(*npy_a) : *swap_a; }
    CountedStore& b() { return npy_b ? static_cast<CountedStore&>(*npy_b) : *swap_b; }
    CountedStore& c() { return out ? static_cast<CountedStore&>(*out) : *swap_c; }
    int64_t read_bytes() { return a().read_bytes + b().read_bytes + c().read_bytes; }
    int64_t stored_bytes() { return c().written_bytes; }
};

// Reading A's tiles one after the other, as long as a quarter of a second.
double read_rate(CountedStore& store, int64_t down, int64_t across, int64_t tile_bytes) {
    void* buffer = nullptr;
    if (posix_memalign(&buffer, SwapFile::alignment, size_t(tile_bytes)) != 0) throw Error("out of memory for a tile");
    const std::unique_ptr<void, void (*)(void*)> owner(buffer, std::free);
    const double start = starpu_timing_now();
    double bytes = 0, spent = 0;
    for (int64_t t = 0; t < down * across && spent < 0.25e6; ++t) {
        store.read(t / across, t % across, buffer);
        bytes += double(tile_bytes), spent = starpu_timing_now() - start;
    }
    return spent > 0 ? bytes / spent * 1e6 : 0;
}

std::string verify(const GemmFlags& f, const StreamedGemm& s, Stores& stores, std::unique_ptr<MatrixReader>& written) {
    const auto source = [&](SwapStore* swap, const MatrixReader* npy) -> RowSource {
        if (npy) return rows_of(*npy);
        return [swap](int64_t row, int64_t rows, double* to) { swap->read_rows(row, rows, to); };
    };
    CheckedProduct p;
    p.alpha = f.alpha, p.ta = f.ta, p.tb = f.tb, p.beta = f.beta, p.dtype = s.dtype, p.times_stored = s.k;
    p.tf32 = s.gemm.tf32;
    p.a = {f.ta ? f.k : f.m, f.ta ? f.m : f.k,
           source(stores.swap_a.get(), stores.npy_a ? &stores.npy_a->reader() : nullptr)};
    p.b = {f.tb ? f.n : f.k, f.tb ? f.k : f.n,
           source(stores.swap_b.get(), stores.npy_b ? &stores.npy_b->reader() : nullptr)};
    if (stores.out) written = std::make_unique<MatrixReader>(f.out);
    p.c = {f.m, f.n, source(stores.swap_c.get(), written.get())};
    if (f.beta != 0)
        p.c0 = {f.m, f.n, [&f, &s](int64_t row, int64_t rows, double* to) {
                    dispatch<float, double, bf16>(s.dtype, "gemm", [&]<class T>() {  // as it was stored
                        for (int64_t i = row; i < row + rows; ++i)
                            for (int64_t j = 0; j < f.n; ++j)
                                *to++ = double(Compute<T>(T(Compute<T>(generated_element(f, 3, i, j, f.n)))));
                    });
                }};
    return verified(p, f);
}

}  // namespace

void run_gemm_on_disk(const GemmFlags& f, const Runtime& runtime) {
    const double start = starpu_timing_now();
    const int64_t limit = parse_size(f.common.host_memory, "--host-memory");
    StreamedGemm s = choose_stream(f, runtime, limit);
    Stores stores(f, s);
    IoThreads io(io_threads);
    s.a = &stores.a(), s.b = &stores.b(), s.c = &stores.c(), s.io = &io;
    double rate = read_rate(stores.a(), f.ta ? s.k : s.m, f.ta ? s.m : s.k, bytes_of(s.dtype) * s.tile_m * s.tile_k);
    stores.a().read_bytes = 0;
    Trace trace;
    Executor executor(runtime, f.common.executor(runtime.config(), &trace));
    Graph graph;
    gemm_streamed(graph, s);
    executor.load(Plan(graph));
    GemmRun r;
    r.tile = s.tile_m, r.tile_k = s.tile_k, r.empty = f.alpha == 0;
    f.common.write_dag(executor.plan(0));
    r.setup_seconds = (starpu_timing_now() - start) * 1e-6;
    for (int64_t i = 0; i < f.repeat; ++i) {
        if (i > 0 && f.beta != 0) stores.generate_c(f);
        const double begin = starpu_timing_now();
        executor.submit(0, {});
        executor.wait();
        add_repetition(r, f, (starpu_timing_now() - begin) * 1e-6);
    }
    r.workers = trace.totals();
    r.peak_memory_bytes = {s.bytes()};
    // The product may have found the disk faster than that look at it: some of it was in a cache by then.
    const double moved = double(stores.read_bytes() + stores.stored_bytes()) / double(f.repeat);
    rate = std::max(rate, moved / *std::min_element(r.seconds.begin(), r.seconds.end()));
    r.disk = DiskRun{stores.read_bytes() / f.repeat, stores.stored_bytes() / f.repeat, limit, rate,
                     stores.written_bytes / std::max(1e-9, stores.write_s)};
    const auto times = executor.class_times(0);
    const auto busiest = std::max_element(times.begin(), times.end(), [](const ClassTime& a, const ClassTime& b) {
        return a.cost.flops * double(a.tasks_per_step) < b.cost.flops * double(b.tasks_per_step);
    });
    const double task_s = fastest_core_s(executor, busiest->cost.flops);
    const ProductMachine m = product_machine(runtime, nullptr, busiest->cost.flops,
                                             [&](const WorkerInfo& w) { return w.cuda ? NAN : task_s; });
    GemmEnd end;
    end.write_out = [&] { stores.finish(); };
    end.verify = [&] {
        std::unique_ptr<MatrixReader> written;
        return verify(f, s, stores, written);
    };
    end.write_pictures = [&] { f.common.write_trace(&trace, {&executor.plan(0)}); };
    end_gemm(f, gemm_result(f, runtime, m, r), end);
}

}  // namespace tessera
