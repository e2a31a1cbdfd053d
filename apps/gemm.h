// apps/gemm.h - what `tessera gemm` is asked for, the product that comes of it, and what it says afterwards.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "apps/options.h"
#include "apps/product_machine.h"
#include "data/freivalds.h"
#include "graphs/product.h"
#include "models/estimate.h"

namespace tessera {

struct GemmFlags {
    int64_t m = 0, n = 0, k = 0, repeat = 1;
    std::string dtype = "f32", compute = "f32", tile = "auto", a, b, out;
    double alpha = 1, beta = 0;
    bool ta = false, tb = false, plain = false, verify = false;
    CommonOptions common;

    GemmOptions gemm() const { return {alpha, beta, ta, tb, compute == "tf32"}; }
};
void add_gemm_flags(CLI::App&, GemmFlags&);
void check_gemm_flags(GemmFlags&);  // fills in extents that follow from others

// Largest extent of a tile: of those whose times are known or can be estimated the one with the least time for the
// whole product, from speeds, traffic (core/blocks.h) and the last task of the slowest device.
int64_t choose_tile(const GemmFlags&, const Runtime&, Machine*, const Matrix& a, const Matrix& b, const Matrix& c);

// What went to and from disk, and how fast that is at least.
struct DiskRun {
    int64_t read_bytes = 0, written_bytes = 0, limit_bytes = 0;
    double read_bytes_per_s = 0;   // the faster of: measured before the product; what the product itself moved
    double write_bytes_per_s = 0;  // measured before the product
};
struct GemmRun {
    std::vector<double> seconds;  // of each repetition
    double setup_seconds = 0;
    std::vector<std::array<int64_t, 3>> link_bytes;  // of the last repetition: from, to, bytes
    std::vector<int64_t> peak_memory_bytes;
    std::vector<WorkerTotals> workers;  // of the same repetition
    int64_t tile = 0, tile_k = 0;       // largest extents of a tile of C, and of one of A and B along k
    bool empty = false;                 // no products: alpha is 0
    std::optional<DiskRun> disk;
};
void add_repetition(GemmRun&, const GemmFlags&, double seconds);  // and says so
nlohmann::json gemm_result(const GemmFlags&, const Runtime&, const ProductMachine&, const GemmRun&);

// Seconds in which a core would do so many flops at the rate of the fastest task of this run; NaN if cores ran none.
double fastest_core_s(const Executor&, double flops);

// Element (i, j) of a generated matrix, in [-1, 1): a pure function of --seed, f64 with all of its mantissa, else exact
// in f32. Streams: 1 for A, 2 for B, 3 for C.
double generated_element(const GemmFlags&, uint64_t stream, int64_t i, int64_t j, int64_t cols);

// Checks a product in double (data/freivalds.h): every element where that takes about a second, else by Freivalds'
// check; says how. Throws Error if it is wrong.
std::string verified(const CheckedProduct&, const GemmFlags&);

// What comes after the product is measured, each of which may fail.
struct GemmEnd {
    std::function<void()> write_out;
    std::function<std::string()> verify;
    std::function<void()> write_pictures;
};
// Writes C, verifies it and prints the results, whatever fails; then writes pictures. Throws the first failure.
void end_gemm(const GemmFlags&, nlohmann::json results, const GemmEnd&);

// With --host-memory and --swap.
void run_gemm_on_disk(const GemmFlags&, const Runtime&);

}  // namespace tessera
