// tessera bench product: one large product on all cores against bare BLAS on as many threads.
#include <cblas.h>
#include <starpu.h>

#include <nlohmann/json.hpp>

#include "apps/bench.h"
#include "apps/gemm.h"
#include "codelets/blas.h"
#include "core/error.h"
#include "core/threads.h"

namespace tessera {
namespace {

struct Operands {
    explicit Operands(int64_t n) : n(n), a(size_t(n * n)), b(a.size()), c(a.size()) {
        for (size_t i = 0; i < a.size(); ++i) a[i] = float(i % 251) / 251 - 0.5f, b[i] = float(i % 241) / 241 - 0.5f;
    }
    int64_t n;
    std::vector<float> a, b, c;
};

// OpenBLAS with as many threads as there are workers.
void openblas_on_all(Operands& x, const Cores& cores, int workers) {
    in_threads(1, [&](int64_t) {
        cores.use(0, size_t(workers));
        openblas_set_num_threads(workers);
        const int n = int(x.n);  // blas::openblas would use one thread
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, x.a.data(), n, x.b.data(), n, 0, x.c.data(),
                    n);
        openblas_set_num_threads(1);
    });
}

// oneDNN: each thread computes a band of rows of C.
void onednn_on_all(Operands& x, const Cores& cores, int workers) {
    in_threads(workers, [&](int64_t w) {
        cores.use(size_t(w), 1);
        const int64_t first = x.n * w / workers, rows = x.n * (w + 1) / workers - first;
        blas::onednn(blas::Product<float>{false, false, rows, x.n, x.n, 1, x.a.data() + first * x.n, x.n, x.b.data(),
                                          x.n, 0, x.c.data() + first * x.n, x.n});
    });
}

}  // namespace

nlohmann::json bench_product(const CommonOptions& common, const ProductBench& options) {
    const Cores cores;
    const Runtime runtime(common.runtime());
    const int workers = runtime.cpu_workers();
    if (workers == 0 || runtime.cuda_workers() > 0)
        throw Error("bench product compares CPU products", "set STARPU_NCUDA=0");
    Operands ours(options.n), theirs(options.n);
    const auto view = [&](std::vector<float>& x) {
        return Matrix{x.data(), options.n, options.n, options.n, DType::f32};
    };
    ProductOptions product_options;
    GemmFlags flags;
    product_options.tile = options.tile > 0 ? options.tile
                                            : choose_tile(flags, runtime, models_here(runtime).get(), view(ours.a),
                                                          view(ours.b), view(ours.c));
    product_options.executor = common.executor(runtime.config());
    Product product(runtime, view(ours.a), view(ours.b), view(ours.c), product_options);
    std::vector<double> seconds[3], ratio[3];
    constexpr int warm_up = 3;
    for (int r = -warm_up; r < options.rounds; ++r) {
        say_round(common, r, options.rounds, warm_up);
        double time[3];
        for (int k = 0; k < 3; ++k) {
            const int which = (k + r + warm_up) % 3;
            if (which > 0) starpu_pause();  // idle workers poll, and would take half of each core
            time[which] = time_s([&] {
                if (which == 0) product.submit(), product.wait();
                else if (which == 1) openblas_on_all(theirs, cores, workers);
                else onednn_on_all(theirs, cores, workers);
            });
            if (which > 0) starpu_resume();
        }
        if (r < 0) continue;
        for (int k = 0; k < 3; ++k) seconds[k].push_back(time[k]);
        for (int k : {1, 2}) ratio[k].push_back(time[k] / time[0]);
    }
    const double gflop = 2e-9 * double(options.n) * double(options.n) * double(options.n);
    return {{"bench", "product"},
            {"n", options.n},
            {"tile", product_options.tile},
            {"workers", workers},
            {"policy", runtime.policy()},
            {"tessera_gflops", gflop / median(seconds[0])},
            {"openblas_gflops", gflop / median(seconds[1])},
            {"onednn_gflops", gflop / median(seconds[2])},
            {"ratio_openblas", median(ratio[1])},
            {"ratio_onednn", median(ratio[2])},
            // Of the library that is faster over all rounds: the faster of two in each round would be luck's choice.
            {"ratio_to_better", std::min(median(ratio[1]), median(ratio[2]))}};
}

}  // namespace tessera
