#include "graphs/product.h"

#include <limits>

#include "core/error.h"
#include "core/pieces.h"

namespace tessera {
namespace {

std::string shape_text(const Matrix& m) { return "[" + std::to_string(m.rows) + " x " + std::to_string(m.cols) + "]"; }

void check_matrix(const Matrix& m, const std::string& name) {
    const auto refuse = [&](const std::string& what) {
        throw UsageError("gemm: " + name + " " + shape_text(m) + " " + what);
    };
    if (m.rows < 0 || m.cols < 0) refuse("has a negative extent");
    if (m.dtype != DType::f32 && m.dtype != DType::f64 && m.dtype != DType::bf16)
        refuse("has type " + std::string(name_of(m.dtype)) + "; there are f32, f64 and bf16");
    if (m.ld != 0 && m.ld < m.cols)
        refuse("has leading dimension " + std::to_string(m.ld) + ", less than its " + std::to_string(m.cols) +
               " columns");
    const int64_t ld = std::max<int64_t>({m.ld, m.cols, 1});
    if (m.rows > std::numeric_limits<int64_t>::max() / 8 / ld) refuse("has more bytes than there can be");
    if (ld > std::numeric_limits<int32_t>::max())  // BLAS takes int, StarPU uint32_t
        refuse("has leading dimension " + std::to_string(ld) + ", more than the " +
               std::to_string(std::numeric_limits<int32_t>::max()) + " there may be");
}

// As it is read or written, or null.
const Matrix* used(const Matrix& m, bool is_read) { return is_read && m.rows > 0 && m.cols > 0 ? &m : nullptr; }

// Is an element of one an element of the other? Parts of one large matrix may lie between each other's rows.
bool overlap(const Matrix& x, const Matrix& y) {
    const auto row = [](const Matrix& m, int64_t i) {
        const int64_t size = bytes_of(m.dtype), begin = i * (m.ld ? m.ld : m.cols) * size;
        const auto at = reinterpret_cast<uintptr_t>(m.data) + uintptr_t(begin);
        return std::pair{at, at + uintptr_t(m.cols * size)};
    };
    for (int64_t i = 0, j = 0; i < x.rows && j < y.rows;) {
        const auto [x_begin, x_end] = row(x, i);
        const auto [y_begin, y_end] = row(y, j);
        if (x_begin < y_end && y_begin < x_end) return true;
        if (x_end <= y_begin) ++i;
        else ++j;
    }
    return false;
}

// What a task would only find by a crash, or not at all. A and B may be one.
[[maybe_unused]] void check_memory(const Matrix& a, const Matrix& b, const Matrix& c, const GemmOptions& o) {
    const bool multiplies = o.alpha != 0 && a.rows > 0 && a.cols > 0;
    const Matrix *written = used(c, true), *read[] = {used(a, multiplies), used(b, multiplies)};
    const auto require = [](const Matrix* m, const std::string& name) {
        if (m && !m->data)
            throw UsageError("gemm: " + name + " " + shape_text(*m) + " has no memory: its pointer is null");
    };
    require(read[0], "A"), require(read[1], "B"), require(written, "C");
    for (int i : {0, 1})
        if (written && read[i] && overlap(*read[i], *written))
            throw UsageError("gemm: C " + shape_text(c) + " shares memory with " + (i == 0 ? "A " : "B ") +
                                 shape_text(*read[i]) + ", which is read while C is written",
                             "give C memory of its own");
}

Param param(const char* name, const Matrix& m, std::vector<int64_t> rows, std::vector<int64_t> cols) {
    Param p;
    p.name = name, p.shape = {m.rows, m.cols}, p.dtype = m.dtype, p.grid = {std::move(rows), std::move(cols)};
    p.memory = m.data, p.ld = m.ld;
    return p;
}

}  // namespace

void check_product(const Matrix& a, const Matrix& b, const Matrix& c, const GemmOptions& o) {
    check_matrix(a, "A"), check_matrix(b, "B"), check_matrix(c, "C");
    const int64_t m = o.ta ? a.cols : a.rows, k = o.ta ? a.rows : a.cols;
    const int64_t k2 = o.tb ? b.cols : b.rows, n = o.tb ? b.rows : b.cols;
    if (k != k2 || c.rows != m || c.cols != n)
        throw UsageError("gemm: extents do not match: A " + shape_text(a) + (o.ta ? " transposed" : "") + ", B " +
                         shape_text(b) + (o.tb ? " transposed" : "") + ", C " + shape_text(c));
    if (a.dtype != b.dtype || a.dtype != c.dtype)
        throw UsageError("gemm: A, B and C must have one type, got " + std::string(name_of(a.dtype)) + ", " +
                         std::string(name_of(b.dtype)) + ", " + std::string(name_of(c.dtype)));
}

ProductParams::ProductParams(const Matrix& a_, const Matrix& b_, const Matrix& c_, const GemmOptions& o, int64_t tile) {
    const auto rows = cut(c_.rows, tile), cols = cut(c_.cols, tile), inner = cut(o.ta ? a_.rows : a_.cols, tile);
    a = param("A", a_, o.ta ? inner : rows, o.ta ? rows : inner);
    b = param("B", b_, o.tb ? cols : inner, o.tb ? inner : cols);
    c = param("C", c_, rows, cols);
}

Plan product_plan(const Param& a, const Param& b, const Param& c, const GemmOptions& o,
                  const std::vector<BlockDevice>& devices) {
    Graph graph;
    gemm_into(graph.param(c), graph.param(a), graph.param(b), o);
    Plan plan(graph);
    block_products(plan, devices);
    return plan;
}

static std::vector<BlockDevice> all_devices(const Runtime& runtime) {
    std::vector<BlockDevice> devices;
    for (const WorkerInfo& w : runtime.workers())
        if (w.cuda) devices.push_back({int(w.node), 1, runtime.limit_bytes(w.node), 0, cut_from_pieces()});
    return devices;
}

Product::Product(const Runtime& runtime, const Matrix& a, const Matrix& b, const Matrix& c, const ProductOptions& o)
    : c_(c), options_(o.gemm) {
    check_product(a, b, c, o.gemm);
#ifndef STARPU_SIMGRID  // where null is no mistake
    check_memory(a, b, c, o.gemm);
#endif
    if (c.rows == 0 || c.cols == 0 || a.rows == 0 || a.cols == 0 || o.gemm.alpha == 0) return;
    if (o.tile <= 0) throw UsageError("gemm: the tile must be positive");
    params_ = std::make_unique<ProductParams>(a, b, c, o.gemm, o.tile);
    executor_ = std::make_unique<Executor>(runtime, o.executor);
    std::vector<BlockDevice> devices;
    if (o.blocked) devices = o.devices.empty() ? all_devices(runtime) : o.devices;
    executor_->load(product_plan(params_->a, params_->b, params_->c, o.gemm, devices));
}

Product::~Product() {
    if (executor_) executor_->drain();
}

void Product::submit() {
    if (!executor_) return scale_only();
    // Since the last time the caller may have changed them, of which StarPU's copies on devices know nothing.
    if (submitted_)
        for (const Param* p : {&params_->a, &params_->b, &params_->c}) executor_->changed_at_home(*p);
    submitted_ = true;
    executor_->submit(0, {});
}

void Product::wait() {
    if (!executor_) return;
    executor_->wait();
    executor_->bring_home(params_->c);
}

// C := beta C, without reading C if beta = 0.
void Product::scale_only() {
    const int64_t ld = c_.ld ? c_.ld : c_.cols;
    const auto scale = [&]<class T>() {
        for (int64_t i = 0; i < c_.rows; ++i)
            for (int64_t j = 0; j < c_.cols; ++j) {
                T& x = static_cast<T*>(c_.data)[i * ld + j];
                x = options_.beta == 0 ? T(0.f) : T(Compute<T>(options_.beta) * Compute<T>(x));
            }
    };
    if (c_.data && options_.beta != 1) dispatch<float, double, bf16>(c_.dtype, "gemm", scale);
}

void check_leading_dimension(const char* name, int64_t ld, int64_t cols) {
    if (ld >= cols) return;
    throw UsageError("gemm: " + std::string(name) + " has leading dimension " + std::to_string(ld) +
                     ", less than its " + std::to_string(cols) + " columns");
}

void gemm(const Runtime& runtime, const Matrix& a, const Matrix& b, const Matrix& c, const ProductOptions& options) {
    Product product(runtime, a, b, c, options);
    product.submit();
    product.wait();
}

}  // namespace tessera
