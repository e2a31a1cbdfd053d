// codelet_test.cpp - structs as codelets: names, labels, views of StarPU's interfaces, lists longer than
// STARPU_NMAXBUFS, and what happens when a body fails. Ops defined in this file show that ops can be added outside the
// tree.
#include "core/codelet.h"

#include <starpu.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>
#include <thread>

#include "codelets/ops.h"
#include "core/executor.h"
#include "core/random.h"
#include "tests/child.h"
#include "tests/tiny_training.h"

namespace tessera {
namespace {

using namespace testing_tools;

// --- ops of this file --------------------------------------------------------------------------------------------

enum class Mishap : uint8_t { none, throws, throws_no_exception, nan, infinity };

// y = x + 1, with a mishap at one step; counts its runs.
struct Risky {
    static constexpr auto name = "test_risky", formula = "y = x + 1, or not";
    static constexpr DType dtype = DType::f32;
    struct Args {
        std::atomic<int>* runs;
        Mishap mishap;
        int64_t bad_step, step;
    };
    static void at_step(Args& a, const Step& s) { a.step = s.number; }
    static Cost cost(Args, In<float> x, Out<float> y) { return {double(y.size()), bytes_of_views(x, y)}; }
    static void cpu(Args a, In<float> x, Out<float> y) {
        ++*a.runs;
        for (int64_t i = 0; i < y.rows; ++i)
            for (int64_t j = 0; j < y.cols; ++j) y(i, j) = x(i, j) + 1;
        if (a.step != a.bad_step) return;
        if (a.mishap == Mishap::throws) throw std::runtime_error("the cat is on the keyboard");
        if (a.mishap == Mishap::throws_no_exception) throw 42;
        if (a.mishap == Mishap::nan) y(y.rows - 1, y.cols - 1) = NAN;
        if (a.mishap == Mishap::infinity) y(0, 0) = -INFINITY;
    }
};

// y = factor (a + sum of xs): a list between other parameters.
struct AddMany {
    static constexpr auto name = "test_add_many", formula = "y = factor (a + sum of xs)";
    static constexpr DType dtype = DType::f64;
    struct Args {
        double factor;
    };
    static Cost cost(Args, In<double> a, InList<double> xs, Out<double> y) {
        double flops = double(y.size()), bytes = bytes_of_views(a, y);
        for (auto& x : xs) flops += double(x.size()), bytes += bytes_of_views(x);
        return {flops, bytes};
    }
    static void cpu(Args f, In<double> a, InList<double> xs, Out<double> y) {
        for (int64_t i = 0; i < y.rows; ++i)
            for (int64_t j = 0; j < y.cols; ++j) {
                double sum = a(i, j);
                for (auto& x : xs) sum += x(i, j);
                y(i, j) = f.factor * sum;
            }
    }
};

// Has no body once its functions are cleared.
struct Bodiless {
    static constexpr auto name = "test_bodiless", formula = "y = nothing";
    static constexpr DType dtype = DType::f32;
    using Args = NoArgs;
    static Cost cost(Args, Out<float> y) { return {0, bytes_of_views(y)}; }
    static void cpu(Args, Out<float>) {}
};
const Register<Risky, AddMany, Bodiless> codelets;

template <class F>
std::string error_of(F&& f) {
    try {
        f();
    } catch (const Error& e) { return e.what(); }
    ADD_FAILURE() << "no Error";
    return "";
}
void expect_contains(const std::string& text, const std::vector<std::string>& parts) {
    for (auto& part : parts) EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

// --- names -------------------------------------------------------------------------------------------------------

TEST(Codelets, AreSortedUniqueAndComplete) {
    const auto& all = all_codelets();
    EXPECT_GT(all.size(), 60u);
    for (size_t i = 1; i < all.size(); ++i) EXPECT_LT(all[i - 1]->name, all[i]->name);
    for (const CodeletInfo* c : all) {
        SCOPED_TRACE(c->name);
        EXPECT_TRUE(c->name.starts_with(c->op + "_")) << c->op;
        EXPECT_FALSE(c->formula.empty());
        EXPECT_FALSE(c->access.empty());
        EXPECT_FALSE(c->cpu.empty());
        EXPECT_EQ(std::set<std::string>(c->cpu.begin(), c->cpu.end()).size(), c->cpu.size()) << "two labels are equal";
        EXPECT_LE(c->cpu.size(), size_t(STARPU_MAXIMPLEMENTATIONS));
        EXPECT_NE(c->cost, nullptr);
        EXPECT_EQ(c->starpu->nbuffers, STARPU_VARIABLE_NBUFFERS);
        EXPECT_STREQ(c->starpu->name, c->name.c_str());
        EXPECT_STREQ(c->starpu->model->symbol, c->name.c_str());
        for (size_t i = 0; i < STARPU_MAXIMPLEMENTATIONS; ++i)
            EXPECT_EQ(c->starpu->cpu_funcs[i] != nullptr, i < c->cpu.size()) << "implementation " << i;
        EXPECT_EQ(find_codelet(c->name), c);
        if (!c->name.starts_with("test_") && !c->host_only) { EXPECT_FALSE(c->cuda.empty()) << c->name; }
    }
    EXPECT_EQ(find_codelet("gemm"), nullptr);
    ASSERT_NE(find_codelet("gemm_f32"), nullptr);
    EXPECT_EQ(find_codelet("gemm_f32")->access, (std::vector{Access::read, Access::read, Access::accumulate}));
    EXPECT_EQ(find_codelet("gemm_f32")->list_at, -1);
    ASSERT_NE(find_codelet("test_add_many_f64"), nullptr);
    EXPECT_EQ(find_codelet("test_add_many_f64")->list_at, 1);
}

// A second codelet of a name that exists, then a runtime.
int duplicate_role(const std::vector<std::string>&) {
    static starpu_codelet codelet{};
    static CodeletInfo twin;
    twin.name = "relu_f32", twin.starpu = &codelet;
    detail::register_codelet(&twin);
    const Runtime runtime(with_workers(1));
    return 0;
}
TEST(Codelets, TwoOfOneNameAreRefused) {
    const Outcome o = run_role("duplicate");
    EXPECT_EQ(o.code, 1) << o.all();
    expect_contains(o.err, {"two codelets are named 'relu_f32'"});
}

// --- views -------------------------------------------------------------------------------------------------------

TEST(ManyBuffers, RetileOfFiveByFiveTiles) {
    Runtime runtime(with_workers(2));
    const Shape shape{23, 17};
    Graph g;
    Tensor x = g.value("x", shape, DType::f32, {{5, 5, 4, 1, 8}, {1, 7, 3, 4, 2}});
    Tensor whole = retile(x, Grid::whole(shape)), other = retile(whole, {{2, 21}, {16, 1}}),
           back = retile(other, x.grid());
    for (Tensor t : {whole, other, back}) g.keep(t);
    Executor executor(runtime, {});
    const int plan = executor.load(Plan(g));
    ASSERT_EQ(executor.plan(plan).tasks[0].tiles.size(), 26u);
    std::vector<double> values(size_t(shape.size()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = double(i);
    executor.write(plan, x, values);
    for (int step = 0; step < 5; ++step) executor.submit(plan, {});
    for (Tensor t : {whole, other, back}) EXPECT_EQ(executor.read(plan, t), values);
}

TEST(ManyBuffers, AListBetweenOtherParametersOfAnyLength) {
    Runtime runtime(with_workers(2));
    for (int count : {0, 1, 6, 7, 8, 9, 64, 300}) {  // 6 + 2 are just STARPU_NMAXBUFS
        Graph g;
        const Shape shape{2, 3};
        Tensor a = g.value("a", shape, DType::f64), y = g.value("y", shape, DType::f64);
        std::vector<Tensor> xs;
        for (int i = 0; i < count; ++i) xs.push_back(g.value("x", shape, DType::f64));
        Node node;
        node.op = "add_many", node.inputs = xs, node.outputs = {y};
        node.inputs.push_back(a);
        node.lower = [=](Lowering& to) {
            std::vector<Lowering::Ref> refs;
            for (Tensor x : xs) refs.push_back(to.tile(x, 0, 0));
            to.task<AddMany>({2.0}, to.tile(a, 0, 0), refs, to.tile(y, 0, 0));
        };
        g.add(std::move(node));
        g.keep(y);
        Executor executor(runtime, {});
        const int plan = executor.load(Plan(g));
        EXPECT_EQ(executor.plan(plan).tasks[0].cost.flops, 6.0 * (count + 1));
        executor.write(plan, a, {1, 2, 3, 4, 5, 6});
        double sum = 0;
        for (int i = 0; i < count; ++i)
            executor.write(plan, xs[size_t(i)], std::vector<double>(6, double(i + 1))), sum += i + 1;
        executor.submit(plan, {});
        const auto got = executor.read(plan, y);
        for (size_t i = 0; i < 6; ++i) EXPECT_EQ(got[i], 2 * (double(i + 1) + sum)) << count;
    }
}

// --- failures in a body ------------------------------------------------------------------------------------------

// x -> risky -> plus one -> plus one, two tiles each; the layer is called "middle".
struct RiskyPlan {
    Graph graph;
    std::atomic<int> runs{0}, later{0};
    Tensor x, y;

    explicit RiskyPlan(Mishap mishap) {
        x = graph.value("x", {4, 6}, DType::f32, {{2, 2}, {6}});
        {
            Graph::Layer layer(graph, "middle");
            y = plus_one(x, "risky", mishap, runs);
        }
        for (int i = 0; i < 3; ++i) y = plus_one(y, "after", Mishap::none, later);
        graph.keep(y);
    }
    Tensor plus_one(Tensor from, const std::string& op, Mishap mishap, std::atomic<int>& count) {
        Tensor to = graph.value(op + "_y", {4, 6}, DType::f32, {{2, 2}, {6}});
        Node node;
        node.op = op, node.inputs = {from}, node.outputs = {to};
        node.lower = [=, counter = &count](Lowering& lower) {
            for (int64_t i = 0; i < 2; ++i)
                lower.task<Risky>({counter, i == 1 ? mishap : Mishap::none, 2, 0}, lower.tile(from, i, 0),
                                  lower.tile(to, i, 0));
        };
        graph.add(std::move(node));
        return to;
    }
    static Step step(int64_t number) {
        Step s;
        s.number = number;
        return s;
    }
};
constexpr int64_t bad_step = 2;

void expect_failure(Mishap mishap, bool check_nan, const std::vector<std::string>& parts) {
    Runtime runtime(with_workers(2));
    RiskyPlan p(mishap);
    ExecutorOptions options;
    options.check_nan = check_nan;
    Executor executor(runtime, options);
    const int plan = executor.load(Plan(p.graph));
    executor.write(plan, p.x, std::vector<double>(24, 1.0));
    for (int64_t s = 0; s < bad_step; ++s) executor.submit(plan, RiskyPlan::step(s));
    executor.wait();
    EXPECT_EQ(p.later, 3 * 2 * bad_step);
    const std::string text = error_of([&] {
        executor.submit(plan, RiskyPlan::step(bad_step));
        executor.wait();
    });
    expect_contains(text, {"test_risky_f32", "middle.risky", "tile risky_y(1,0)", "on CPU "});
    expect_contains(text, parts);
    EXPECT_LE(p.later, 3 * 2 * bad_step + 3) << "tasks after the failed one ran";
    EXPECT_FALSE(executor.failed()) << "the error was not taken";
    EXPECT_NO_THROW(executor.wait()) << "the error came twice";
    // The executor goes on.
    const int before = p.later;
    executor.submit(plan, RiskyPlan::step(bad_step + 1));
    EXPECT_EQ(executor.read(plan, p.y), std::vector<double>(24, 5.0));
    executor.wait();
    EXPECT_EQ(p.later, before + 6);
}

TEST(Failures, AnExceptionNamesCodeletLayerTileAndWorker) {
    expect_failure(Mishap::throws, false, {"the cat is on the keyboard"});
}
TEST(Failures, ANanIsFoundWhereItAppears) { expect_failure(Mishap::nan, true, {"NaN"}); }
TEST(Failures, AnInfinityIsFoundWhereItAppears) { expect_failure(Mishap::infinity, true, {"infinity"}); }

TEST(Failures, NobodyLooksForNanUnasked) {
    Runtime runtime(with_workers(2));
    RiskyPlan p(Mishap::nan);
    Executor executor(runtime, {});
    const int plan = executor.load(Plan(p.graph));
    executor.write(plan, p.x, std::vector<double>(24, 1.0));
    executor.submit(plan, RiskyPlan::step(bad_step));
    executor.wait();
    EXPECT_TRUE(std::isnan(executor.read(plan, p.y)[23]));
}

int check_nan_role(const std::vector<std::string>&) {
    const Runtime runtime(with_workers(1));
    RiskyPlan p(Mishap::nan);
    Executor executor(runtime, {});
    const int plan = executor.load(Plan(p.graph));
    executor.write(plan, p.x, std::vector<double>(24, 1.0));
    executor.submit(plan, RiskyPlan::step(bad_step));
    executor.wait();
    return 0;
}
TEST(Failures, TheVariableAsksForNan) {
    EXPECT_EQ(run_role("check_nan").code, 0);
    const Outcome o = run_role("check_nan", {}, {{"TESSERA_CHECK_NAN", "1"}});
    EXPECT_EQ(o.code, 1) << o.all();
    expect_contains(o.err, {"error: test_risky_f32 in middle.risky, tile risky_y(1,0), on CPU 0", "NaN"});
}

// Anything may be thrown; in a process of its own, because what is not caught ends it.
int no_exception_role(const std::vector<std::string>&) {
    const Runtime runtime(with_workers(1));
    RiskyPlan p(Mishap::throws_no_exception);
    Executor executor(runtime, {});
    const int plan = executor.load(Plan(p.graph));
    executor.write(plan, p.x, std::vector<double>(24, 1.0));
    executor.submit(plan, RiskyPlan::step(bad_step));
    executor.wait();
    return 0;
}
TEST(Failures, WhatIsThrownNeedNotBeAnException) {
    const Outcome o = run_role("no_exception");
    EXPECT_EQ(o.code, 1) << o.all();
    expect_contains(o.err, {"error: test_risky_f32 in middle.risky"});
}

TEST(Failures, TheFirstOfManyIsKeptAndAnExecutorCanBeDroppedInAnyState) {
    Runtime runtime(with_workers(2));
    for (int repeat = 0; repeat < 20; ++repeat) {
        RiskyPlan p(Mishap::throws);
        Executor executor(runtime, {});
        const int plan = executor.load(Plan(p.graph));
        executor.write(plan, p.x, std::vector<double>(24, 1.0));
        try {
            for (int i = 0; i < 3; ++i) executor.submit(plan, RiskyPlan::step(bad_step));
        } catch (const Error&) {}
        // dropped without wait(): perhaps with an error that nobody took
    }
}

// --- workers -----------------------------------------------------------------------------------------------------

int no_worker_role(const std::vector<std::string>&) {
    std::string text;
    try {
        const Runtime runtime(with_workers(0));
    } catch (const Error& e) { text = e.what(); }
    std::puts(text.c_str());
    const Runtime runtime(with_workers(1));  // and nothing is left behind
    std::printf("%d\n", runtime.cpu_workers());
    return 0;
}
TEST(Workers, NoneIsAnErrorAndNotTheEnd) {
    const Outcome o = run_role("no_worker", {}, {{"STARPU_NCUDA", "0"}});
    const auto lines = lines_of(o.out);
    ASSERT_TRUE(o.code == 0 && lines.size() == 2) << o.all();
    expect_contains(lines[0], {"no worker"});
    EXPECT_EQ(lines[1], "1");
}

TEST(Workers, AsManyAsAskedFor) {
    for (int count : {1, 2}) {
        if (count > int(std::thread::hardware_concurrency())) continue;
        Runtime runtime(with_workers(count));
        EXPECT_EQ(runtime.cpu_workers(), count);
        EXPECT_GE(runtime.workers().size(), size_t(count));
    }
}

TEST(Workers, ATaskThatNoneCanRunIsRefusedWhenLoaded) {
    Runtime runtime(with_workers(1));
    starpu_codelet& codelet = *Codelet<Bodiless>::info().starpu;
    codelet.cpu_funcs[0] = nullptr;
    Graph g;
    Graph::Layer layer(g, "somewhere");
    Tensor y = g.value("y", {1, 1}, DType::f32);
    Node node;
    node.op = "bodiless", node.outputs = {y};
    node.lower = [=](Lowering& to) { to.task<Bodiless>({}, to.tile(y, 0, 0)); };
    g.add(std::move(node));
    g.keep(y);
    Executor executor(runtime, {});
    expect_contains(error_of([&] { executor.load(Plan(g)); }),
                    {"no worker can run test_bodiless_f32", "somewhere.bodiless"});
    Graph other;  // the executor is not spoilt
    Tensor one = fill(other, {1, 1}, DType::f32, Grid::whole({1, 1}), 1);
    other.keep(one);
    const int plan = executor.load(Plan(other));
    executor.submit(plan, {});
    EXPECT_EQ(executor.read(plan, one)[0], 1);
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
    using namespace tessera;
    const int code = testing_tools::engine_main(argc, argv,
                                                {{"duplicate", duplicate_role},
                                                 {"check_nan", check_nan_role},
                                                 {"no_exception", no_exception_role},
                                                 {"no_worker", no_worker_role}});
    return code;
}
