#include "op_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>
#include <sstream>

namespace tessera::test {
namespace {

std::vector<OpCase>& cases() {
    static std::vector<OpCase> all;
    return all;
}

// Errors allowed, in units of an epsilon: of the type in which results, and sums between tiles, are stored, and of the
// type in which they are computed. A gradient is a chain of operations, each rounded to its type.
constexpr double stored_error = 1, computed_error = 4, gradient_chain = 4;
// Central differences in double with this step lose half of the digits.
constexpr double difference_step = 1e-5, difference_error = 1e-8;

constexpr Extents plain_extents[] = {{1, 1, 1},    {7, 1, 5},   {1, 7, 13},  {13, 7, 1},
                                     {17, 19, 11}, {5, 257, 3}, {37, 65, 33}};

// Up to four pieces of any sizes.
std::vector<int64_t> random_cut(int64_t extent, std::mt19937_64& random) {
    std::vector<int64_t> pieces;
    while (extent > 0 && pieces.size() < 3) {
        pieces.push_back(1 + int64_t(random() % uint64_t(extent)));
        extent -= pieces.back();
    }
    if (extent > 0) pieces.push_back(extent);
    return pieces;
}

struct Tiled {
    Extents extents;
    int64_t tile;  // 0: pieces of random sizes
};
constexpr Tiled tilings[] = {{{3, 5, 4}, 1}, {{5, 9, 5}, 4}, {{9, 17, 10}, 8}, {{17, 13, 19}, 0}, {{7, 33, 23}, 0}};

Tiling tiling_of(const OpCase& c, int64_t tile, std::mt19937_64& random) {
    return [tile, rows = tile * c.taller_tiles, &random](Shape s) {
        return tile ? Grid{cut(s.rows, rows), cut(s.cols, tile)}
                    : Grid{random_cut(s.rows, random), random_cut(s.cols, random)};
    };
}

double largest(const Matrix& m) {
    double most = 0;
    for (double x : m.v) most = std::max(most, std::abs(x));
    return most;
}

std::string text(Extents e) {
    return "m=" + std::to_string(e.m) + " n=" + std::to_string(e.n) + " k=" + std::to_string(e.k);
}

Matrices interpret(const OpCase& c, const Setup& s, InterpreterOptions options) {
    Interpreter run(*s.graph, options);
    for (size_t i = 0; i < s.x.size(); ++i) run.write(s.x[i], s.values[i]);
    for (int64_t step = 0; step < c.steps; ++step) run.run(c.step(step));
    Matrices y;
    for (Tensor t : s.y) y.push_back(run.read(t));
    return y;
}

// d (sum over y of dy * y_k) / dx_i by central differences of the reference.
Matrix numeric_gradient(const OpCase& c, const Matrices& values, size_t k, size_t i, const Matrix& dy) {
    Matrices x = values;
    Matrix gradient(x[i].rows, x[i].cols);
    for (size_t j = 0; j < gradient.v.size(); ++j) {
        x[i].v[j] = values[i].v[j] + difference_step;
        const Matrix above = c.reference(x)[k];
        x[i].v[j] = values[i].v[j] - difference_step;
        const Matrix below = c.reference(x)[k];
        for (size_t l = 0; l < dy.v.size(); ++l)
            gradient.v[j] += dy.v[l] * (above.v[l] - below.v[l]) / (2 * difference_step);
        x[i].v[j] = values[i].v[j];
    }
    return gradient;
}

void compare(const OpCase& c, DType type, Extents e, const Setup& s, const Matrices& actual, const Matrices& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t k = 0; k < actual.size(); ++k) {
        const double allowed = tolerance(c, type, s.y[k].dtype(), e, expected[k], false);
        const std::string wrong = difference(actual[k], expected[k], allowed);
        if (!wrong.empty()) ADD_FAILURE() << "output " << k << " for " << text(e) << ": " << wrong;
    }
}

// Gradients that `read` gives, if it does, against central differences.
void compare_gradients(const OpCase& c, DType type, Extents e, const Setup& s, const Gradients& g,
                       const std::function<std::optional<Matrix>(Tensor)>& read) {
    for (size_t k = 0; k < s.y.size(); ++k)
        for (size_t i = 0; i < s.x.size(); ++i) {
            const Tensor dx = g.dx[k][i];
            if (!dx) continue;
            const std::optional<Matrix> actual = read(dx);
            if (!actual) continue;
            const Matrix expected = numeric_gradient(c, s.values, k, i, g.seed_values[k]);
            const std::string wrong = difference(*actual, expected, tolerance(c, type, dx.dtype(), e, expected, true));
            if (!wrong.empty())
                ADD_FAILURE() << "gradient of output " << k << " for input " << i << " for " << text(e) << ": "
                              << wrong;
        }
}

size_t most_implementations(const Graph& graph) {
    size_t most = 1;
    for (const TaskSpec& t : Plan(graph).tasks) most = std::max(most, implementations(*t.codelet));
    return most;
}

void check_values(const OpCase& c, DType type, std::mt19937_64& random) {
    for (Extents e : plain_extents) {
        const Setup s = set_up(c, type, e, 0, Grid::whole, draw(c, type, e, random));
        const Matrices expected = c.reference(s.values);
        for (size_t i = 0; i < most_implementations(*s.graph); ++i)
            for (int64_t padding : {0, 5}) {
                SCOPED_TRACE("implementation " + std::to_string(i) + ", row padding " + std::to_string(padding));
                compare(c, type, e, s, interpret(c, s, {.implementation = int(i), .padding = padding}), expected);
            }
    }
}

void check_tilings(const OpCase& c, DType type, std::mt19937_64& random) {
    for (const auto& [e, tile] : tilings) {
        SCOPED_TRACE("tile " + std::to_string(tile));
        const Matrices values = draw(c, type, e, random);
        const Matrices expected = c.reference(values);
        const Matrices untiled = interpret(c, set_up(c, type, e, 0, Grid::whole, values), {});
        const Setup s = set_up(c, type, e, tile, tiling_of(c, tile, random), values);
        for (size_t i = 0; i < most_implementations(*s.graph); ++i) {
            SCOPED_TRACE("implementation " + std::to_string(i));
            const Matrices tiled = interpret(c, s, {.implementation = int(i)});
            compare(c, type, e, s, tiled, expected);
            compare(c, type, e, s, tiled, untiled);
        }
    }
}

void check_orders(const OpCase& c, DType type, std::mt19937_64& random) {
    const Extents e{7, 9, 8};
    const Setup s = set_up(c, type, e, 3, tiling_of(c, 3, random), draw(c, type, e, random));
    const Matrices expected = c.reference(s.values);
    for (int i = 0; i < 3; ++i) compare(c, type, e, s, interpret(c, s, {.shuffle = &random}), expected);
}

Matrices draw_suitable(const OpCase& c, DType type, Extents e, std::mt19937_64& random) {
    for (int tries = 0; tries < 100000; ++tries) {
        Matrices values = draw(c, type, e, random);
        if (c.suitable(values)) return values;
    }
    throw std::logic_error(c.name + ": no suitable inputs for " + text(e));
}

void check_gradient(const OpCase& c, DType type, Extents e, int64_t tile, std::mt19937_64& random) {
    SCOPED_TRACE(text(e) + ", tile " + std::to_string(tile));
    Setup s = set_up(c, type, e, tile, tiling_of(c, tile, random), draw_suitable(c, type, e, random));
    const Gradients g = add_gradients(c, s, random);
    for (size_t implementation = 0; implementation < most_implementations(*s.graph); ++implementation) {
        Interpreter run(*s.graph, {.implementation = int(implementation), .shuffle = &random});
        for (size_t i = 0; i < s.x.size(); ++i) run.write(s.x[i], s.values[i]);
        for (size_t k = 0; k < s.y.size(); ++k) run.write(g.seeds[k], g.seed_values[k]);
        run.run(c.step(0));
        SCOPED_TRACE("implementation " + std::to_string(implementation));
        compare_gradients(c, type, e, s, g, [&](Tensor t) { return run.read(t); });
    }
}

void check_gradients(const OpCase& c, DType type, std::mt19937_64& random) {
    check_gradient(c, type, {1, 1, 1}, 0, random);
    check_gradient(c, type, {3, 5, 2}, 0, random);
    check_gradient(c, type, {1, 7, 3}, 0, random);
    check_gradient(c, type, {5, 1, 4}, 2, random);
    check_gradient(c, type, {3, 4, 5}, 2, random);
    check_gradient(c, type, {4, 3, 5}, 0, random);
    check_gradient(c, type, {3, 5, 3}, 1, random);
}

// Tasks of `implementation`, or of the last one that a codelet has.
Plan cuda_plan(const Graph& graph, int implementation) {
    Plan plan(graph);
    for (TaskSpec& t : plan.tasks) t.implementation = std::min(implementation, int(t.codelet->cuda.size()) - 1);
    return plan;
}

int cuda_implementations(const Graph& graph) {
    int most = 1;
    for (const TaskSpec& t : Plan(graph).tasks) most = std::max(most, int(t.codelet->cuda.size()));
    return most;
}

// One plan on real workers. What none of its tasks touches, as an output that is an input, has no place there.
class OnDevice {
 public:
    OnDevice(const Runtime& runtime, const Graph& graph, int implementation)
        : executor_(runtime, {}), plan_(cuda_plan(graph, implementation)), loaded_(executor_.load(plan_)) {
        for (const TaskSpec& t : plan_.tasks)
            for (const TileUse& u : t.tiles) touched_.insert(u.tile);
    }
    void write(Tensor t, const Matrix& m) {
        if (touches(t)) executor_.write(loaded_, t, m.v);
    }
    void submit(const Step& step) { executor_.submit(loaded_, step); }
    std::optional<Matrix> read(Tensor t) {
        executor_.wait();
        if (!touches(t)) return {};
        Matrix m(t.shape().rows, t.shape().cols);
        m.v = executor_.read(loaded_, t);
        return m;
    }

 private:
    bool touches(Tensor t) const {
        bool all = true;
        plan_.each_tile(t.id, [&](int k, int64_t, int64_t) { all = all && touched_.contains(k); });
        return all;
    }
    Executor executor_;
    const Plan plan_;
    int loaded_;
    std::set<int> touched_;
};

void check_cuda(const OpCase& c, DType type, const Runtime& runtime, std::mt19937_64& random) {
    const auto compare_one = [&](const Setup& s, Extents e, int implementation) {
        SCOPED_TRACE("implementation " + std::to_string(implementation));
        OnDevice run(runtime, *s.graph, implementation);
        for (size_t i = 0; i < s.x.size(); ++i) run.write(s.x[i], s.values[i]);
        for (int64_t step = 0; step < c.steps; ++step) run.submit(c.step(step));
        const Matrices expected = c.reference(s.values);
        Matrices actual;
        for (size_t k = 0; k < s.y.size(); ++k) actual.push_back(run.read(s.y[k]).value_or(expected[k]));
        compare(c, type, e, s, actual, expected);
    };
    const auto compare_on_device = [&](Extents e, int64_t tile) {
        SCOPED_TRACE("tile " + std::to_string(tile));
        const Setup s =
            set_up(c, type, e, tile, tile ? tiling_of(c, tile, random) : Grid::whole, draw(c, type, e, random));
        for (int k = 0; k < cuda_implementations(*s.graph); ++k) compare_one(s, e, k);
    };
    for (Extents e : plain_extents) compare_on_device(e, 0);
    for (const auto& [e, tile] : tilings)
        if (tile) compare_on_device(e, tile);
}

void check_cuda_gradients(const OpCase& c, DType type, const Runtime& runtime, std::mt19937_64& random) {
    const Extents e{3, 5, 4};
    Setup s = set_up(c, type, e, 2, tiling_of(c, 2, random), draw_suitable(c, type, e, random));
    const Gradients g = add_gradients(c, s, random);
    for (int k = 0; k < cuda_implementations(*s.graph); ++k) {
        SCOPED_TRACE("implementation " + std::to_string(k));
        OnDevice run(runtime, *s.graph, k);
        for (size_t i = 0; i < s.x.size(); ++i) run.write(s.x[i], s.values[i]);
        for (size_t o = 0; o < s.y.size(); ++o) run.write(g.seeds[o], g.seed_values[o]);
        run.submit(c.step(0));
        compare_gradients(c, type, e, s, g, [&](Tensor t) { return run.read(t); });
    }
}

class CheckTest : public testing::Test {
 public:
    CheckTest(std::string name, std::function<void(std::mt19937_64&)> body)
        : name_(std::move(name)), body_(std::move(body)) {}
    void TestBody() override {
        std::mt19937_64 random = generator(name_);
        SCOPED_TRACE("--seed " + std::to_string(run_seed()));
        body_(random);
    }

 private:
    std::string name_;
    std::function<void(std::mt19937_64&)> body_;
};

void add_test(const OpCase& c, DType type, const std::string& what, std::function<void(std::mt19937_64&)> body) {
    const std::string test = std::string(name_of(type)) + "_" + what, full = c.name + "." + test;
    testing::RegisterTest(c.name.c_str(), test.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                          [=]() -> testing::Test* { return new CheckTest(full, body); });
}

}  // namespace

Declare::Declare(OpCase c) { cases().push_back(std::move(c)); }
const std::vector<OpCase>& all_cases() {
    std::sort(cases().begin(), cases().end(), [](auto& a, auto& b) { return a.name < b.name; });
    return cases();
}

uint64_t& run_seed() {
    static uint64_t seed = std::random_device{}();
    return seed;
}
void take_seed(int argc, char** argv) {
    for (int i = 1; i + 1 < argc; ++i)
        if (std::string(argv[i]) == "--seed") run_seed() = std::strtoull(argv[i + 1], nullptr, 10);
}
std::mt19937_64 generator(const std::string& what) {
    std::vector<uint32_t> words{uint32_t(run_seed()), uint32_t(run_seed() >> 32)};
    words.insert(words.end(), what.begin(), what.end());
    std::seed_seq sequence(words.begin(), words.end());
    return std::mt19937_64(sequence);
}

Matrices draw(const OpCase& c, DType type, Extents e, std::mt19937_64& random) {
    Matrices all;
    for (const Input& input : c.inputs(e)) {
        Matrix& m = all.emplace_back(input.shape.rows, input.shape.cols);
        const DType t = input.type.value_or(type);
        const bool whole = facts(t).epsilon == 0;
        std::uniform_real_distribution<double> real(input.low, input.high);
        std::uniform_int_distribution<int64_t> integer(int64_t(input.low), int64_t(input.high));
        for (double& x : m.v) do
                x = rounded(whole ? double(integer(random)) : real(random), t);
            while (std::abs(x) < input.away_from_zero);
    }
    return all;
}

Setup set_up(const OpCase& c, DType type, Extents e, int64_t tile, const Tiling& grid, Matrices values) {
    Setup s;
    s.graph = std::make_unique<Graph>(tile, tile);
    s.values = std::move(values);
    const auto inputs = c.inputs(e);
    for (size_t i = 0; i < inputs.size(); ++i) {
        const Input& input = inputs[i];
        const std::string name = "x" + std::to_string(i);
        const DType t = input.type.value_or(type);
        const Grid cuts = input.cut_as >= 0 ? s.x[size_t(input.cut_as)].grid() : grid(input.shape);
        s.x.push_back(input.param ? s.graph->param(s.params->add({name, input.shape, t, cuts, {}, true}))
                                  : s.graph->value(name, input.shape, t, cuts));
    }
    s.y = c.build(*s.graph, s.x);
    for (Tensor t : s.y) s.graph->keep(t);
    return s;
}

Gradients add_gradients(const OpCase& c, Setup& s, std::mt19937_64& random) {
    Gradients g;
    std::uniform_real_distribution<double> values(-1, 1);
    for (Tensor y : s.y) {
        g.seeds.push_back(s.graph->value("dy", y.shape(), y.dtype(), y.grid()));
        Matrix& seed = g.seed_values.emplace_back(y.shape().rows, y.shape().cols);
        for (double& x : seed.v) x = rounded(values(random), y.dtype());
        g.dx.push_back(s.graph->backward(y, g.seeds.back(), s.x, [](Tensor a, Tensor b) { return add(a, b); }));
    }
    // What is declared not differentiable may have a gradient or none; what is must have one of every output.
    const auto inputs = c.inputs({2, 3, 4});  // the flags do not depend on the extents
    for (auto& dx : g.dx)
        for (size_t i = 0; i < dx.size(); ++i) {
            if (!inputs[i].differentiable || facts(s.x[i].dtype()).epsilon == 0) dx[i] = {};
            else if (!dx[i]) throw std::runtime_error(c.name + ": input " + std::to_string(i) + " has no gradient");
            else s.graph->keep(dx[i]);
        }
    return g;
}

std::string difference(const Matrix& actual, const Matrix& expected, double tolerance) {
    if (actual.shape() != expected.shape())
        return "shape " + to_string(actual.shape()) + " instead of " + to_string(expected.shape());
    int64_t wrong = 0;
    std::ostringstream text;
    text.precision(9);
    for (int64_t i = 0; i < actual.rows; ++i)
        for (int64_t j = 0; j < actual.cols; ++j) {
            const double error = std::abs(actual(i, j) - expected(i, j));
            if (!(error <= tolerance) && wrong++ == 0)
                text << "(" << i << ", " << j << ") is " << actual(i, j) << " instead of " << expected(i, j)
                     << ", error " << error << " > " << tolerance;
        }
    if (wrong)
        text << "; " << wrong << " of " << actual.v.size() << " elements of " << to_string(actual.shape()) << " differ";
    return text.str();
}

double tolerance(const OpCase& c, DType type, DType result, Extents e, const Matrix& expected, bool gradient) {
    const double stored = facts(result).epsilon, length = std::sqrt(double(c.reduction(e)));
    if (stored == 0 || (c.tolerance_factor == 0 && !gradient)) return 0;
    const double coarse = std::max(stored, facts(type).epsilon),
                 fine = type == DType::f64 ? coarse : facts(DType::f32).epsilon;
    const double scale = std::max(largest(expected), c.scale * length);
    const double rounding =
        stored_error * coarse * std::min(length, 4.0) + computed_error * fine * length * c.tolerance_factor;
    return (gradient ? gradient_chain * rounding + difference_error : rounding) * scale;
}

void register_tests() {
    for (const OpCase& c : all_cases())
        for (DType type : c.types) {
            add_test(c, type, "values", [&c, type](auto& random) { check_values(c, type, random); });
            add_test(c, type, "tiled", [&c, type](auto& random) { check_tilings(c, type, random); });
            add_test(c, type, "any_order", [&c, type](auto& random) { check_orders(c, type, random); });
            if (c.gradient && facts(type).epsilon > 0)
                add_test(c, type, "gradient", [&c, type](auto& random) { check_gradients(c, type, random); });
        }
}

void register_cuda_tests(const Runtime& runtime) {
    for (const OpCase& c : all_cases())
        for (DType type : c.types) {
            add_test(c, type, "cuda", [&c, type, &runtime](auto& random) { check_cuda(c, type, runtime, random); });
            if (c.gradient && facts(type).epsilon > 0)
                add_test(c, type, "cuda_gradient",
                         [&c, type, &runtime](auto& random) { check_cuda_gradients(c, type, runtime, random); });
        }
}

}  // namespace tessera::test
