// executor_test.cpp - plans run by StarPU: shared weights, per-step scalars, accumulation, determinism, steps in
// flight. What needs an environment of its own runs in a child process.
#include "core/executor.h"

#include <starpu.h>

#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <set>
#include <thread>

#include "codelets/load.h"
#include "codelets/ops.h"
#include "core/random.h"
#include "tests/child.h"
#include "tests/policies.h"
#include "tests/tiny_training.h"

namespace tessera {
namespace {

using namespace testing_tools;

// --- an op of this file's own: sleeps, then records the step and what it read -------------------------------------

struct Journal {
    std::atomic<int64_t> finished{0};
    std::mutex mutex;
    std::vector<std::pair<int64_t, int32_t>> entries;  // step, value read
    void add(int64_t step, int32_t value) {
        std::lock_guard lock(mutex);
        entries.emplace_back(step, value);
    }
};

struct SlowRead {
    static constexpr auto name = "test_slow_read", formula = "sleeps, then notes x(0, 0)";
    static constexpr DType dtype = DType::i32;
    struct Args {
        Journal* journal;
        int64_t step;
        uint64_t most_us;
    };
    static void at_step(Args& a, const Step& s) { a.step = s.number; }
    static Cost cost(Args, In<int32_t> x) { return {0, bytes_of_views(x)}; }
    static void cpu(Args a, In<int32_t> x) {
        if (a.most_us > 0) usleep(useconds_t(random_bits(1, 5, uint64_t(a.step)) % a.most_us));
        for (int64_t i = 0; i < x.rows; ++i) a.journal->add(a.step, x(i, 0));
        ++a.journal->finished;
    }
};
// As tasks that hand their work to other threads.
struct HandedRead : SlowRead {
    static constexpr auto name = "test_handed_read";
    static constexpr bool host_only = true;
};
const Register<SlowRead, HandedRead> codelets;

template <class Op = SlowRead>
void slow_read(Tensor x, Journal& journal, uint64_t most_us) {
    Node node;
    node.op = "slow_read", node.inputs = {x}, node.effect = true;
    node.lower = [x, most_us, to = &journal](Lowering& lower) {
        for (int64_t i = 0; i < x.grid().rows(); ++i) lower.task<Op>({to, 0, most_us}, lower.tile(x, i, 0));
    };
    x.graph->add(std::move(node));
}

std::vector<double> integers(Shape s, uint64_t seed) {
    std::vector<double> v(static_cast<size_t>(s.size()));
    for (size_t i = 0; i < v.size(); ++i) v[i] = double(random_bits(seed, 3, i) % 9) - 4;
    return v;
}
std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b, int64_t m, int64_t k,
                            int64_t n) {
    std::vector<double> c(size_t(m * n), 0.0);
    for (int64_t i = 0; i < m; ++i)
        for (int64_t l = 0; l < k; ++l)
            for (int64_t j = 0; j < n; ++j) c[size_t(i * n + j)] += a[size_t(i * k + l)] * b[size_t(l * n + j)];
    return c;
}

#ifdef __SANITIZE_ADDRESS__
constexpr double resident_limit_mb = 8 + 256;  // the address sanitizer keeps that much of what was freed
#else
constexpr double resident_limit_mb = 8;
#endif
double resident_mb() {
    std::ifstream file("/proc/self/statm");
    int64_t total = 0, resident = 0;
    file >> total >> resident;
    return double(resident) * double(sysconf(_SC_PAGESIZE)) / 1e6;
}

// --- weights and steps -------------------------------------------------------------------------------------------

TEST(Executor, TwoPlansShareWeightsInSubmissionOrder) {
    Runtime runtime(with_workers(2));
    Params params;
    const Shape ws{5, 4};
    const auto w0 = integers(ws, 1), dw0 = integers(ws, 2), x0 = integers({3, 5}, 3);
    const Grid grid{cut(5, 2), cut(4, 3)};
    Param& w = params.add({"w", ws, DType::f64, grid, [&](int64_t i, int64_t j) { return w0[size_t(i * 4 + j)]; }});
    Graph training, evaluation;
    Tensor dw = training.value("dw", ws, DType::f64, grid);
    sgd(training.param(w), dw, 0);
    Tensor x = evaluation.value("x", {3, 5}, DType::f64, {{3}, cut(5, 2)});
    Tensor y = gemm(x, evaluation.param(w));
    evaluation.keep(y);

    Executor executor(runtime, {});
    const int train = executor.load(Plan(training)), eval = executor.load(Plan(evaluation));
    executor.write(train, dw, dw0);
    executor.write(eval, x, x0);
    double sum = 0;
    for (double rate : {0.0, 0.5, 0.25, 2.0}) {  // the learning rate comes with the step
        Step step;
        step.learning_rate = rate, sum += rate;
        executor.submit(train, step);
        executor.submit(eval, {});
        std::vector<double> now = w0;
        for (size_t i = 0; i < now.size(); ++i) now[i] -= sum * dw0[i];
        EXPECT_EQ(executor.read(eval, y), product(x0, now, 3, 5, 4)) << "after rates that sum up to " << sum;
        EXPECT_EQ(executor.read(w), now);
    }
    const std::vector<double> other = integers(ws, 9);
    executor.write(w, other.data());
    executor.submit(eval, {});
    EXPECT_EQ(executor.read(eval, y), product(x0, other, 3, 5, 4));
}

TEST(Executor, StepNumberAndSeedReachTheTasks) {
    Runtime runtime(with_workers(2));
    Graph g;
    Tensor x = g.value("x", {1, 64}, DType::f32);
    Tensor y = dropout(x, 0.5), total = sum_all(y);
    g.keep(y);
    std::mutex mutex;
    std::map<int64_t, double> sums;
    const Sink sink = [&](int64_t step, double value) {
        std::lock_guard lock(mutex);
        sums[step] = value;
    };
    report(total, sink);
    Executor executor(runtime, {});
    const int plan = executor.load(Plan(g));
    executor.write(plan, x, std::vector<double>(64, 1.0));
    std::map<std::pair<uint64_t, int64_t>, std::vector<double>> masks;
    for (int64_t number : {0, 1, 7, 1000000})
        for (uint64_t seed : {1, 2}) {
            Step step;
            step.number = number, step.seed = seed;
            executor.submit(plan, step);
            masks[{seed, number}] = executor.read(plan, y);
            executor.submit(plan, step);
            EXPECT_EQ(executor.read(plan, y), (masks[{seed, number}])) << "one mask per seed and step";
        }
    executor.wait();
    std::set<std::vector<double>> distinct;
    for (auto& [_, mask] : masks) distinct.insert(mask);
    EXPECT_EQ(distinct.size(), masks.size());
    EXPECT_EQ(sums.size(), 4u);
    EXPECT_TRUE(sums.contains(1000000));
}

// A worker with a choice: what waits for a disk in another thread goes first, however little depends on it.
TEST(Executor, WhatHandsItsWorkOnComesFirst) {
    Runtime runtime(with_workers(1));
    Journal journal;
    Params params;
    Graph g;
    const auto value = [&](const char* name, int64_t rows) {
        return g.param(params.add({name, {rows, 1}, DType::i32, Grid::whole({rows, 1}), nullptr, false}));
    };
    const Tensor x = value("x", 8), y = value("y", 1);
    slow_read(x, journal, 0), slow_read<HandedRead>(y, journal, 0), slow_read(x, journal, 0);
    Executor executor(runtime, {});
    const int plan = executor.load(Plan(g));
    executor.write(plan, x, std::vector<double>(8, 1)), executor.write(plan, y, {2});
    starpu_pause();
    executor.submit(plan, {});
    starpu_resume();
    executor.wait();
    ASSERT_EQ(journal.entries.size(), 17u);
    EXPECT_EQ(journal.entries.front().second, 2);
}

// --- steps in flight ---------------------------------------------------------------------------------------------

// Steps whose one slow task runs after the step before; `fast` further tasks per step finish at once.
void expect_limit(int64_t limit, int64_t fast) {
    Runtime runtime(with_workers(2));
    Params params;
    Param& state = params.add({"state", {1, 1}, DType::i32, {}, nullptr, false});
    Graph g;
    Journal journal;
    slow_read(g.param(state), journal, 4000);
    for (int64_t i = 0; i < fast; ++i) g.keep(fill(g, {1, 1}, DType::f32, Grid::whole({1, 1}), 1));
    ExecutorOptions options;
    options.steps_in_flight = limit;
    Executor executor(runtime, options);
    const int plan = executor.load(Plan(g));
    int64_t most = 0;
    for (int64_t s = 0; s < 40; ++s) {
        Step step;
        step.number = s;
        executor.submit(plan, step);
        most = std::max(most, s + 1 - journal.finished);
    }
    EXPECT_LE(most, limit) << "unfinished steps";
    if (fast == 0) { EXPECT_EQ(most, limit) << "fewer than allowed: nothing is overlapped"; }
    executor.wait();
    EXPECT_EQ(journal.finished, 40);
}
// All tasks of all steps are free to run at once: turns order those of one step, not of all.
TEST(Executor, StepsBeforeComeFirstWhateverTheTurns) {
    Runtime runtime(with_workers(1));
    Journal journal;
    Params params;
    Graph g;
    for (const char* name : {"x", "y"})
        slow_read(g.param(params.add({name, {1, 1}, DType::i32, Grid::whole({1, 1}), nullptr, false})), journal, 3000);
    ExecutorOptions options;
    options.planner = [](Plan& plan) {
        TaskSchedule& schedule = plan.schedules.emplace_back();
        for (size_t i = 0; i < plan.tasks.size(); ++i) schedule.tasks.push_back({.turn = int(i)});
    };
    Executor executor(runtime, options);
    const int plan = executor.load(Plan(g));
    constexpr int64_t steps = 8;
    for (int64_t s = 0; s < steps; ++s) executor.submit(plan, {.number = s});
    executor.wait();
    ASSERT_EQ(journal.entries.size(), size_t(2 * steps));
    for (size_t i = 0; i < journal.entries.size(); ++i) EXPECT_EQ(journal.entries[i].first, int64_t(i) / 2);
}

TEST(StepsInFlight, One) { expect_limit(1, 0); }
TEST(StepsInFlight, Three) { expect_limit(3, 0); }
TEST(StepsInFlight, ThreeWhereMostTasksOfAStepAreFast) { expect_limit(3, 30); }

TEST(StepsInFlight, AStepDoesNotOverwriteWhatAnEarlierOneReads) {
    constexpr int64_t samples = 40, batch = 4;
    std::vector<int32_t> labels;
    for (int32_t i = 0; i < samples; ++i) labels.push_back(1000 + i);
    BatchSource source;
    source.labels = labels.data(), source.count = samples;
    std::vector<int64_t> order;
    for (int64_t i = 0; i < samples; ++i) order.push_back(samples - 1 - i);
    for (int64_t limit : {1, 2, 3, 5}) {
        Runtime runtime(with_workers(2));
        Graph g;
        Journal journal;
        Tensor x = load_labels(g, source, batch, {cut(batch, 2), {1}});
        for (int readers = 0; readers < 3; ++readers) slow_read(x, journal, 3000);
        ExecutorOptions options;
        options.steps_in_flight = limit;
        Executor executor(runtime, options);
        const int plan = executor.load(Plan(g));
        for (int64_t s = 0; s < samples / batch; ++s) {
            Step step;
            step.number = s, step.batch = order.data() + s * batch;
            executor.submit(plan, step);
        }
        EXPECT_EQ(executor.read(plan, x), (std::vector<double>{1003, 1002, 1001, 1000})) << "the last step's";
        executor.wait();
        std::map<int64_t, std::multiset<int32_t>> seen;
        for (auto& [step, value] : journal.entries) seen[step].insert(value);
        EXPECT_EQ(seen.size(), size_t(samples / batch));
        for (auto& [step, values] : seen) {
            std::multiset<int32_t> expected;
            for (int readers = 0; readers < 3; ++readers)
                for (int64_t i = 0; i < batch; ++i) expected.insert(labels[size_t(order[size_t(step * batch + i)])]);
            EXPECT_EQ(values, expected) << "step " << step << ", " << limit << " steps in flight";
        }
    }
}

// --- size --------------------------------------------------------------------------------------------------------

TEST(Executor, AHundredThousandTasksTenTimesDoNotGrowMemory) {
    Runtime runtime(with_workers(2));
    Graph g;
    const Grid grid{cut(100, 1), {1}};
    Params params;
    Param& w = params.add({"w", {100, 1}, DType::f32, grid, [](int64_t i, int64_t) { return double(i); }, false});
    Tensor x = g.param(w);
    for (int i = 0; i < 1000; ++i) x = scale(x, 1.0);
    g.keep(x);
    Executor executor(runtime, {});
    const int plan = executor.load(Plan(g));
    ASSERT_EQ(executor.plan(plan).tasks.size(), 100000u);
    double third = 0;
    for (int step = 1; step <= 10; ++step) {
        executor.submit(plan, {});
        executor.wait();
        if (step == 3) third = resident_mb();
    }
    EXPECT_LE(resident_mb(), third + resident_limit_mb) << "MB; " << third << " after the third step";
    EXPECT_EQ(executor.read(plan, x)[99], 99);
    EXPECT_EQ(executor.submitted_tasks(), 1000000);
}

// --- every policy ------------------------------------------------------------------------------------------------

// First contribution written, later ones accumulated in any order: exact in integers. The tiles are dirty from the step
// before, so a first contribution that read its tile would show.
bool accumulates(const Runtime& runtime, bool deterministic) {
    constexpr int64_t m = 12, k = 70, n = 9;
    Graph g;
    Tensor a = g.value("a", {m, k}, DType::f64, {cut(m, 5), cut(k, 7)}),
           b = g.value("b", {k, n}, DType::f64, {cut(k, 7), cut(n, 4)});
    Tensor y = gemm(a, b), rows = sum_rows(a);
    g.keep(y), g.keep(rows);
    ExecutorOptions options;
    options.deterministic = deterministic;
    Executor executor(runtime, options);
    const int plan = executor.load(Plan(g));
    bool right = true;
    for (uint64_t repeat = 0; repeat < 3; ++repeat) {
        const auto av = integers({m, k}, repeat), bv = integers({k, n}, repeat + 10);
        executor.write(plan, a, av), executor.write(plan, b, bv);
        executor.submit(plan, {});
        executor.submit(plan, {});
        right = right && executor.read(plan, y) == product(av, bv, m, k, n) &&
                executor.read(plan, rows) == product(std::vector<double>(m, 1.0), av, 1, m, k);
    }
    return right;
}

// One line per worker count: the losses' bits. Then whether accumulation is right.
int policy_role(const std::vector<std::string>&) {
    const Dataset data = make_digits(200, 1);
    for (int workers : {1, 2}) {
        Runtime runtime(with_workers(workers));
        TinyTraining t;
        t.train.batch = 48, t.train.tile_batch = 16, t.network.tile_features = 12, t.steps = 6;
        t.optimizer.clip = 0.5;
        t.executor.deterministic = true;
        std::string line = "losses";
        for (double loss : losses_of(runtime, t, data)) {
            char text[40];
            std::snprintf(text, sizeof text, " %a", loss);
            line += text;
        }
        std::puts(line.c_str());
    }
    Runtime runtime(with_workers(2));
    std::puts(accumulates(runtime, false) && accumulates(runtime, true) ? "accumulates" : "wrong sums");
    return 0;
}

TEST(EveryPolicy, SameBitsForOneAndTwoWorkersAndRightSums) {
    std::string first;
    for (const auto& [policy, o] : run_under_every_policy("policy")) {
        const auto lines = lines_of(o.out);
        EXPECT_TRUE(o.code == 0 && lines.size() == 3) << policy << ": " << o.all();
        if (o.code != 0 || lines.size() != 3) continue;
        if (first.empty()) first = lines[0];
        EXPECT_EQ(lines[0], first) << policy << ", one worker";
        EXPECT_EQ(lines[1], first) << policy << ", two workers";
        EXPECT_EQ(lines[2], "accumulates") << policy;
    }
    EXPECT_GT(first.size(), 60u);
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
    using namespace tessera;
    const int code = testing_tools::engine_main(argc, argv, {{"policy", policy_role}});
    return code;
}
