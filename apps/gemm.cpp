// tessera gemm: C = alpha op(A) op(B) + beta C on whatever the machine has, in place in host memory.
#include "apps/gemm.h"

#include <starpu.h>
#include <CLI/CLI.hpp>

#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/simulated.h"
#include "apps/table.h"
#include "core/error.h"
#include "core/file.h"
#include "core/host_memory.h"
#include "core/random.h"
#include "data/freivalds.h"

namespace tessera {

void add_gemm_flags(CLI::App& app, GemmFlags& f) {
    const auto extent = [&](const char* flag, int64_t& value, const char* what) {
        app.add_option(flag, value, what)->check(whole_number(1))->group("Product");
    };
    extent("--n", f.n, "Columns of op(B) and C; alone: all three extents");
    extent("--m", f.m, "Rows of op(A) and C");
    extent("--k", f.k, "Columns of op(A), rows of op(B)");
    app.add_option("--dtype", f.dtype, "f32, f64 or bf16")->capture_default_str()->group("Product");
    app.add_option("--compute", f.compute, "f32, or tf32: tensor cores of a GPU with 10-bit mantissas")
        ->capture_default_str()
        ->group("Product");
    app.add_flag("--ta", f.ta, "A is stored transposed, k x m")->group("Product");
    app.add_flag("--tb", f.tb, "B is stored transposed, n x k")->group("Product");
    app.add_option("--alpha", f.alpha, "In C = alpha op(A) op(B) + beta C")->capture_default_str()->group("Product");
    app.add_option("--beta", f.beta, "0: C is not read")->capture_default_str()->group("Product");
    const auto file = [&](const char* flag, std::string& value, const char* what) {
        not_simulated(app.add_option(flag, value, what)->type_name("FILE.npy")->check(not_empty())->group("Product"),
                      no_values);
    };
    file("--a", f.a, "Read A (f32 or f64); else its elements are random in [-1, 1)");
    file("--b", f.b, "Read B");
    file("--out", f.out, "Write C; it appears when it is complete");
    not_simulated(app.add_flag("--verify", f.verify, "Check the product in double")->group("Product"), no_values);
    app.add_option("--tile", f.tile, "Largest extent of a tile, or auto")
        ->type_name("N|auto")
        ->capture_default_str()
        ->group("Execution");
    app.add_flag("--plain", f.plain, "One task after another in i, j, k order, placed by the policy alone")
        ->group("Execution");
    app.add_option("--repeat", f.repeat, "Products in a row; the median counts")
        ->capture_default_str()
        ->check(whole_number(1))
        ->group("Execution");
    f.common.add_to(app);
}

// What --a and --b hold says m, n and k; extents given besides must agree.
static void take_extents_of_files(GemmFlags& f) {
    const auto take = [](int64_t& extent, const char* flag, int64_t found, const std::string& file) {
        if (extent == 0) extent = found;
        else if (extent != found)
            throw UsageError(std::string(flag) + " " + std::to_string(extent) + " does not match '" + file +
                             "', which has " + std::to_string(found));
    };
    const auto look = [&](const std::string& file, bool t, int64_t& rows, const char* rows_flag, int64_t& cols,
                          const char* cols_flag) {
        if (file.empty()) return;
        const MatrixReader reader(file);
        if (reader.rows() == 0 || reader.cols() == 0)
            throw UsageError("'" + file + "' holds an empty matrix, of " + std::to_string(reader.rows()) + " x " +
                             std::to_string(reader.cols()));
        if (reader.dtype() != parse_dtype(f.dtype))
            throw UsageError("'" + file + "' holds " + std::string(name_of(reader.dtype())) + ", and --dtype is " +
                             f.dtype);
        take(rows, rows_flag, t ? reader.cols() : reader.rows(), file);
        take(cols, cols_flag, t ? reader.rows() : reader.cols(), file);
    };
    look(f.a, f.ta, f.m, "--m", f.k, "--k");
    look(f.b, f.tb, f.k, "--k", f.n, "--n");
}

// bf16 is computed in f32.
static void require_finite(double value, const char* flag, DType dtype) {
    const bool narrow = dtype != DType::f64;
    if (std::isfinite(narrow ? double(float(value)) : value)) return;
    std::ostringstream text;
    text << flag << " " << value << " is not a finite number in " << (narrow ? "f32" : "f64");
    throw UsageError(text.str(), dtype == DType::f32 && std::isfinite(value) ? "--dtype f64 has larger ones" : "");
}

void check_gemm_flags(GemmFlags& f) {
    take_extents_of_files(f);
    if (f.n == 0) throw UsageError("gemm needs extents", "--n 4096; --m, --n and --k; or --a and --b");
    if (f.m == 0) f.m = f.n;
    if (f.k == 0) f.k = f.n;
    if (f.compute != "f32" && f.compute != "tf32")
        throw UsageError("--compute is f32 or tf32, not '" + f.compute + "'");
    if (f.compute == "tf32" && f.dtype != "f32") throw UsageError("--compute tf32 needs --dtype f32");
    if (f.plain && !f.common.host_memory.empty())
        throw UsageError("--plain does not go with --host-memory, whose tiles are loaded in an order of their own");
    if (f.tile != "auto" && (f.tile.empty() || f.tile.size() > 9 ||
                             f.tile.find_first_not_of("0123456789") != std::string::npos || std::stoll(f.tile) < 1))
        throw UsageError("--tile is a positive number or auto, not '" + f.tile + "'");
    f.common.check_outputs({f.out}, {f.a, f.b}, true);
    const DType dtype = parse_dtype(f.dtype);
    require_finite(f.alpha, "--alpha", dtype), require_finite(f.beta, "--beta", dtype);
    if ((!f.a.empty() || !f.b.empty() || !f.out.empty()) && dtype == DType::bf16)
        throw UsageError(".npy files hold f32 or f64; there is no bf16 in them", "leave out --dtype bf16");
    if (!f.out.empty()) require_writable(f.out, "--out");
    check_product({nullptr, f.ta ? f.k : f.m, f.ta ? f.m : f.k, 0, dtype},
                  {nullptr, f.tb ? f.n : f.k, f.tb ? f.k : f.n, 0, dtype}, {nullptr, f.m, f.n, 0, dtype}, f.gemm());
#ifdef STARPU_SIMGRID
    if (!f.common.host_memory.empty())
        throw UsageError("--host-memory reads and writes files, and a simulation has none", "--gpu-memory limits GPUs");
#endif
}

double generated_element(const GemmFlags& f, uint64_t stream, int64_t i, int64_t j, int64_t cols) {
    const auto index = uint64_t(i * cols + j);
    if (f.dtype == "f64") return double(random_bits(f.common.seed, stream, index) >> 11) * 0x1p-52 - 1.0;
    return 2.0 * double(random_uniform(f.common.seed, stream, index)) - 1.0;
}

std::string verified(const CheckedProduct& p, const GemmFlags& f) {
    constexpr double exact_products = 1e9;
    constexpr int rounds = 10;
    const bool exact = double(f.m) * double(f.n) * double(f.k) <= exact_products;
    const ProductCheck check = exact ? exact_product(p) : freivalds(p, rounds, f.common.seed ^ 0x5eed);
    const std::string how =
        exact ? "every element, in double" : "Freivalds' check, " + std::to_string(rounds) + " vectors";
    const bool element = exact || check.col >= 0;
    const std::string where = element ? "an element" : "a row times random signs";  // what is compared
    if (!check.ok())
        throw Error("the product is wrong: " +
                    (element
                         ? "the element in row " + std::to_string(check.row) + ", column " + std::to_string(check.col)
                         : where + " in row " + std::to_string(check.row)) +
                    " is off by " + scientific(check.worst, 2) + ", allowed is " + scientific(check.tolerance, 2) +
                    " (" + how + ")");
    const double quotient = check.worst > 0 ? check.worst / check.tolerance : 0;
    return how + ": largest error / allowed = " + scientific(quotient, 1) + " (" + scientific(check.worst, 1) + " / " +
           scientific(check.tolerance, 1) + " in " + where + " of C)";
}

namespace {

double now_s() { return starpu_timing_now() * 1e-6; }

// Host memory of a matrix: pinned where a GPU will read it.
class HostMatrix {
 public:
    HostMatrix(const char* name, int64_t rows, int64_t cols, DType dtype) : matrix{nullptr, rows, cols, cols, dtype} {
        bytes_ = size_t(rows * cols * bytes_of(dtype));
#ifndef STARPU_SIMGRID  // there the executor folds what it allocates
        check_starpu(starpu_malloc_flags(&matrix.data, bytes_, STARPU_MALLOC_PINNED),
                     std::string("allocating ") + name + " (" + std::to_string(bytes_) + " bytes)",
                     "choose a smaller product, or --host-memory SIZE --swap DIR");
#else
        (void)name;
#endif
    }
    ~HostMatrix() {
        if (matrix.data) starpu_free_flags(matrix.data, bytes_, STARPU_MALLOC_PINNED);
    }
    HostMatrix(const HostMatrix&) = delete;
    void generate(const GemmFlags& f, uint64_t stream) {
        if (!matrix.data) return;
        dispatch<float, double, bf16>(matrix.dtype, "gemm", [&]<class T>() {
            T* to = static_cast<T*>(matrix.data);
            for (int64_t i = 0; i < matrix.rows; ++i)
                for (int64_t j = 0; j < matrix.cols; ++j)
                    *to++ = T(Compute<T>(generated_element(f, stream, i, j, matrix.cols)));
        });
    }
    void load(const GemmFlags& f, const std::string& file, uint64_t stream) {
        if (file.empty()) return generate(f, stream);
        MatrixReader(file).read(0, 0, matrix.rows, matrix.cols, matrix.data, matrix.cols);
    }
    RowMatrix rows() const {
        return {matrix.rows, matrix.cols, rows_of(matrix.data, matrix.cols, matrix.cols, matrix.dtype)};
    }
    Matrix matrix;

 private:
    size_t bytes_ = 0;
};

// Repetitions of one product, with what each moved.
void measure(const GemmFlags& f, Product& product, Trace& trace, GemmRun& r, const std::function<void()>& reset) {
    while (int64_t(r.seconds.size()) < f.repeat) {
        reset();
        const auto before = trace.link_bytes();
        const auto totals_before = trace.totals();
        const double begin = now_s();
        product.submit();
        product.wait();
        add_repetition(r, f, now_s() - begin);
        std::map<std::pair<int64_t, int64_t>, int64_t> bytes;
        for (const auto& [from, to, sum] : trace.link_bytes()) bytes[{from, to}] += sum;
        for (const auto& [from, to, sum] : before) bytes[{from, to}] -= sum;
        r.link_bytes.clear();
        for (const auto& [pair, sum] : bytes)
            if (sum > 0) r.link_bytes.push_back({pair.first, pair.second, sum});
        r.workers = trace.totals();
        for (size_t w = 0; w < totals_before.size(); ++w) {
            r.workers[w].tasks -= totals_before[w].tasks;
            r.workers[w].busy_us -= totals_before[w].busy_us, r.workers[w].fetch_us -= totals_before[w].fetch_us;
        }
    }
    r.peak_memory_bytes = trace.peak_memory_bytes();
}

// What a task took in this run: on cores the fastest one - others may have waited for memory or for code to be loaded -
// on GPUs what StarPU's model has by now.
[[maybe_unused]] TaskTime time_in_run(const Executor& executor, const TaskSpec& task) {
    const double core_s = fastest_core_s(executor, task.cost.flops);
    return [core_s, task](const WorkerInfo& w) {
        if (!w.cuda) return core_s;
        return 1e-6 * starpu_perfmodel_history_based_expected_perf(
                          task.codelet->starpu->model, starpu_worker_get_perf_archtype(w.id, 0), task.footprint);
    };
}

void run_in_memory(const GemmFlags& f, const Runtime& runtime) {
    const double start = now_s();
    const DType dtype = parse_dtype(f.dtype);
    const double elements = double(f.m) * double(f.k) + double(f.k) * double(f.n) + double(f.m) * double(f.n);
    require_host_memory(int64_t(std::min(elements * double(bytes_of(dtype)), 9e18)), "the matrices need",
                        "choose a smaller product, or --host-memory SIZE --swap DIR");
    HostMatrix a("A", f.ta ? f.k : f.m, f.ta ? f.m : f.k, dtype), b("B", f.tb ? f.n : f.k, f.tb ? f.k : f.n, dtype),
        c("C", f.m, f.n, dtype);
    a.load(f, f.a, 1), b.load(f, f.b, 2);
    std::unique_ptr<MatrixWriter> out;
    if (!f.out.empty()) out = std::make_unique<MatrixWriter>(f.out, dtype, f.m, f.n);  // takes its space now
    const auto machine = models_here(runtime);
    GemmRun r;
    r.tile =
        f.tile == "auto" ? choose_tile(f, runtime, machine.get(), a.matrix, b.matrix, c.matrix) : std::stoll(f.tile);
    r.tile_k = r.tile;
    Trace trace;
    ProductOptions options;
    options.gemm = f.gemm(), options.tile = r.tile, options.blocked = !f.plain;
    options.executor = f.common.executor(runtime.config(), &trace);
    const ProductParams params(a.matrix, b.matrix, c.matrix, options.gemm, r.tile);
    const Plan plain = product_plan(params.a, params.b, params.c, options.gemm, {});
    const TaskSpec inner = plain.largest_task();
#ifdef STARPU_SIMGRID
    const Completion models = complete_models(*machine, {&plain}, devices_of(runtime), calibrate_command());
#endif
    const TaskTime known = machine ? model_time(*machine, inner) : [](const WorkerInfo&) { return NAN; };
    ProductMachine m = product_machine(runtime, machine.get(), inner.cost.flops, known);
    options.devices = m.blocks;
    Product product(runtime, a.matrix, b.matrix, c.matrix, options);
    if (!product.empty()) f.common.write_dag(product.plan());
    r.setup_seconds = now_s() - start;
    r.empty = product.empty();
    measure(f, product, trace, r, [&] {
        if (f.beta != 0) c.generate(f, 3);
    });
#ifndef STARPU_SIMGRID
    if (!product.empty())
        m = product_machine(runtime, machine.get(), inner.cost.flops, time_in_run(product.executor(), inner));
#endif
    nlohmann::json j = gemm_result(f, runtime, m, r);
#ifdef STARPU_SIMGRID
    j["machine"] = machine->name();
    j["devices"] = worker_times(runtime, r.workers, r.seconds.back());
    add_models(j, models);
#endif
    GemmEnd end;
    end.write_out = [&] {
        if (!out) return;
        out->write(0, 0, f.m, f.n, c.matrix.data, f.n);
        out->finish();
    };
    end.verify = [&] {
        CheckedProduct p{f.alpha, a.rows(), f.ta, b.rows(), f.tb, f.beta, {}, c.rows(), dtype, f.compute == "tf32", 1};
        p.times_stored = (f.k + r.tile - 1) / r.tile;
        HostMatrix before("C", f.beta != 0 ? f.m : 0, f.beta != 0 ? f.n : 0, dtype);
        if (f.beta != 0) before.generate(f, 3), p.c0 = before.rows();
        return verified(p, f);
    };
    end.write_pictures = [&] {
        if (!product.empty()) f.common.write_trace(&trace, {&product.plan()});
    };
    end_gemm(f, std::move(j), end);
}

int run(GemmFlags& f) {
    check_gemm_flags(f);
    RuntimeOptions options = f.common.runtime();
    options.blocked = options.one_size = true;
    options.streamed = !f.common.host_memory.empty();
    const Runtime runtime(options);
    if (options.streamed) run_gemm_on_disk(f, runtime);
    else run_in_memory(f, runtime);
    return 0;
}

}  // namespace

Command add_gemm(CLI::App& app) {
    auto flags = std::make_shared<GemmFlags>();
    add_gemm_flags(app, *flags);
    return [flags] { return run(*flags); };
}

}  // namespace tessera
