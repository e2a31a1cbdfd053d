// scheduler_test.cpp - every policy, StarPU's and ours, trains to the same losses; ours load into any StarPU program;
// those that choose among implementations choose the faster one. Each in a process of its own.
#include <starpu.h>
#include <starpu_scheduler.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "core/random.h"
#include "core/scheduler.h"
#include "tests/child.h"
#include "tests/policies.h"
#include "tests/tiny_training.h"

namespace tessera {
namespace {

using namespace testing_tools;

constexpr double tolerance = 1e-4;  // contributions commute and implementations differ: rounding only

int train_role(const std::vector<std::string>&) {
    const Runtime runtime(with_workers(2));
    std::printf("%s\n", runtime.policy().c_str());
    TinyTraining t;
    t.train.batch = 48, t.train.tile_batch = 16, t.network.tile_features = 12, t.steps = 6;
    for (double loss : losses_of(runtime, t, make_digits(200, 1))) std::printf("%.9g\n", loss);
    return 0;
}

TEST(EveryPolicy, TrainsToTheSameLosses) {
    std::vector<double> expected;
    int count = 0;
    for (const auto& [policy, o] : run_under_every_policy("train")) {
        const auto lines = lines_of(o.out);
        EXPECT_TRUE(o.code == 0 && lines.size() == 7) << policy << ": " << o.all();
        if (o.code != 0 || lines.size() != 7) continue;
        EXPECT_EQ(lines[0], policy) << "another policy ran";
        std::vector<double> losses;
        for (size_t i = 1; i < lines.size(); ++i) losses.push_back(std::stod(lines[i]));
        if (expected.empty()) expected = losses;
        for (size_t i = 0; i < losses.size(); ++i)
            EXPECT_NEAR(losses[i], expected[i], tolerance) << policy << ", step " << i;
        ++count;
    }
    EXPECT_GE(count, 10);
    ASSERT_FALSE(expected.empty());
    EXPECT_NE(expected.back(), expected.front());
}

TEST(Choice, WithoutAVariableAPolicyIsChosenThatExists) {
    const Outcome o = run_role("train");
    ASSERT_EQ(o.code, 0) << o.all();
    const Runtime runtime;
    const auto known = known_policies();
    EXPECT_NE(std::find(known.begin(), known.end(), lines_of(o.out)[0]), known.end()) << o.out;
}

TEST(Choice, AnUnknownPolicyIsRefusedWithASuggestion) {
    for (const auto& [wrong, right] :
         {std::pair("dmdass", "dmdas"), std::pair("Eager", "eager"), std::pair("lisst", "list")}) {
        const Outcome o = run_role("train", {}, {{"STARPU_SCHED", wrong}});
        EXPECT_EQ(o.code, 2) << o.all();
        EXPECT_NE(o.err.find(std::string("'") + wrong + "' is not a scheduling policy"), std::string::npos) << o.all();
        EXPECT_NE(o.err.find(std::string("did you mean '") + right + "'?"), std::string::npos) << o.all();
    }
    EXPECT_EQ(run_role("train", {}, {{"STARPU_SCHED", ""}}).code, 2) << "an empty name is none";
}

TEST(Choice, APluginThatIsNoneIsRefused) {
    Outcome o = run_role("train", {}, {{"STARPU_SCHED_LIB", "/no/such/plugin.so"}});
    EXPECT_EQ(o.code, 2) << o.all();
    EXPECT_NE(o.err.find("STARPU_SCHED_LIB cannot be loaded: /no/such/plugin.so"), std::string::npos) << o.all();
    o = run_role("train", {}, {{"STARPU_SCHED_LIB", "libm.so.6"}});
    EXPECT_EQ(o.code, 2) << o.all();
    EXPECT_NE(o.err.find("holds no scheduling policy"), std::string::npos) << o.all();
}

// --- our plug-in in a program that knows nothing of Tessera ------------------------------------------------------

std::vector<std::string> plugin_policies(std::string& library) {
    const Runtime runtime;
    const char* found = std::getenv("STARPU_SCHED_LIB");
    library = found ? found : "";
    std::vector<std::string> stock, ours;
    for (auto** p = starpu_sched_get_predefined_policies(); *p; ++p) stock.push_back((*p)->policy_name);
    for (const auto& name : known_policies())
        if (std::find(stock.begin(), stock.end(), name) == stock.end()) ours.push_back(name);
    return ours;
}

struct PlainRun {
    std::mutex mutex;
    std::vector<int> priorities;  // in order of execution
    std::atomic<bool> open{false};
};
void plain_body(void*[], void* argument) {
    auto& [run, priority] = *static_cast<std::pair<PlainRun*, int>*>(argument);
    while (priority == 0 && !run->open) std::this_thread::yield();  // holds its worker until all are submitted
    std::lock_guard lock(run->mutex);
    run->priorities.push_back(priority);
}

// Argument: number of workers. The first task per worker waits for the rest to be submitted.
int plain_role(const std::vector<std::string>& arguments) {
    starpu_conf conf;
    starpu_conf_init(&conf);
    conf.ncpus = std::stoi(arguments[0]), conf.ncuda = 0;
    conf.precedence_over_environment_variables = 0;
    if (starpu_init(&conf) != 0) return 1;
    std::printf("%s\n", starpu_sched_get_sched_policy()->policy_name);
    PlainRun run;
    starpu_codelet codelet{};
    codelet.cpu_funcs[0] = plain_body;
    codelet.name = "plain";
    std::vector<std::pair<PlainRun*, int>> all;
    const int count = 1000, workers = int(starpu_worker_get_count());
    for (int i = 0; i < workers; ++i) all.emplace_back(&run, 0);
    for (int i = workers; i < count; ++i) all.emplace_back(&run, 1 + int(random_bits(1, 1, uint64_t(i)) % 500));
    for (auto& one : all) {
        starpu_task* task = starpu_task_create();
        task->cl = &codelet, task->cl_arg = &one, task->cl_arg_size = sizeof one;
        task->priority = one.second == 0 ? 1000 : one.second;
        task->sched_data = reinterpret_cast<void*>(uintptr_t(one.second));  // the program's own: no address
        if (starpu_task_submit(task) != 0) return 1;
    }
    run.open = true;
    starpu_task_wait_for_all();
    starpu_shutdown();
    std::printf("%zu\n", run.priorities.size());
    std::puts(std::is_sorted(run.priorities.begin() + workers, run.priorities.end(), std::greater<>())
                  ? "by priority"
                  : "in another order");
    return 0;
}

TEST(Plugin, LoadsIntoPlainStarpu) {
    std::string library;
    const auto ours = plugin_policies(library);
    ASSERT_FALSE(library.empty()) << "the plug-in is built with the library and must lie beside it";
    EXPECT_NE(std::find(ours.begin(), ours.end(), "list"), ours.end());
    for (const auto& policy : ours)
        for (const char* workers : {"1", "2"}) {
            const Outcome o = run_role("plain", {workers}, {{"STARPU_SCHED_LIB", library}, {"STARPU_SCHED", policy}});
            const auto lines = lines_of(o.out);
            ASSERT_TRUE(o.code == 0 && lines.size() == 3) << policy << ": " << o.all();
            EXPECT_EQ(lines[0], policy);
            EXPECT_EQ(lines[1], "1000");
            if (policy == "list" && *workers == '1') { EXPECT_EQ(lines[2], "by priority"); }
        }
}

// Its tasks note their number, in order of execution.
using Numbered = std::pair<PlainRun*, int>;
starpu_codelet noting_codelet() {
    starpu_codelet codelet{};
    codelet.cpu_funcs[0] = [](void*[], void* argument) {
        auto& [of, number] = *static_cast<Numbered*>(argument);
        std::lock_guard lock(of->mutex);
        of->priorities.push_back(number);
    };
    return codelet;
}

constexpr starpu_tag_t gate = 1;  // opened by the thread that submits
void wait_for_gate(starpu_task* task) {
    task->use_tag = 1, task->tag_id = gate + 1;
    starpu_tag_declare_deps(task->tag_id, 1, gate);
}

// Placed tasks with planned times on one worker, numbered by turn. The first waits for this thread; the longer ones
// must leave it room, and the short one goes. Prints the order in which they ran.
int turns_role(const std::vector<std::string>&) {
    const Runtime runtime(with_workers(1));
    PlainRun run;
    starpu_codelet codelet = noting_codelet();
    constexpr double takes_s[] = {0.01, 1, 1e-6, 1}, starts_s[] = {0, 0.01, 1.01, 1.02};
    std::vector<Numbered> arguments;
    for (int i = 0; i < 4; ++i) arguments.emplace_back(&run, i);
    std::vector<TaskHint> hints(4);
    for (int i = 0; i < 4; ++i) {
        hints[size_t(i)] = {.node = 0, .starts_s = starts_s[i], .takes_s = takes_s[i], .step_s = 2.02};
        starpu_task* task = starpu_task_create();
        task->cl = &codelet, task->cl_arg = &arguments[size_t(i)], task->cl_arg_size = sizeof(Numbered);
        task->priority = -i, hints[size_t(i)].attach_to(task);
        if (i == 0) wait_for_gate(task);
        if (starpu_task_submit(task) != 0) return 1;
    }
    const auto ran = [&] {
        std::lock_guard lock(run.mutex);
        return run.priorities.size();
    };
    for (int ms = 0; ms < 5000 && ran() == 0; ++ms) usleep(1000);
    usleep(50000);  // for more to go wrongly
    starpu_tag_notify_from_apps(gate);
    starpu_task_wait_for_all();
    for (int number : run.priorities) std::printf("%d\n", number);
    return 0;
}
TEST(Turns, ALongTaskLeavesRoomForOneBeforeIt) {
    const Outcome o = run_role("turns", {}, {{"STARPU_SCHED", "list"}});
    EXPECT_EQ(o.code, 0) << o.all();
    EXPECT_EQ(lines_of(o.out), (std::vector<std::string>{"2", "0", "1", "3"})) << o.all();
}

// Two tasks add to one tile. The one whose turn is first waits for this thread, and then for the tile, which the other
// has from when it was ready. Prints the order in which they ran.
int adding_role(const std::vector<std::string>&) {
    const Runtime runtime(with_workers(1));
    PlainRun run;
    starpu_codelet codelet = noting_codelet();
    codelet.nbuffers = 1, codelet.modes[0] = starpu_data_access_mode(STARPU_RW | STARPU_COMMUTE);
    float sum = 0;
    starpu_data_handle_t tile;
    starpu_variable_data_register(&tile, STARPU_MAIN_RAM, uintptr_t(&sum), sizeof sum);
    std::vector<Numbered> arguments = {{&run, 0}, {&run, 1}};
    std::vector<TaskHint> hints(2);
    for (int i = 0; i < 2; ++i) {
        hints[size_t(i)] = {.node = 0, .starts_s = double(i), .takes_s = 1, .step_s = 2};
        starpu_task* task = starpu_task_create();
        task->cl = &codelet, task->cl_arg = &arguments[size_t(i)], task->cl_arg_size = sizeof(Numbered);
        task->handles[0] = tile, task->priority = -i, hints[size_t(i)].attach_to(task);
        if (i == 0) wait_for_gate(task);
        if (starpu_task_submit(task) != 0) return 1;
    }
    usleep(50000);
    starpu_tag_notify_from_apps(gate);
    starpu_task_wait_for_all();
    starpu_data_unregister(tile);
    for (int number : run.priorities) std::printf("%d\n", number);
    return 0;
}
TEST(Turns, WhatHoldsATileForAddingIsNotHeldBack) {
    const Outcome o = run_role("adding", {}, {{"STARPU_SCHED", "list"}}, 20);
    EXPECT_EQ(o.code, 0) << o.all();
    EXPECT_EQ(lines_of(o.out), (std::vector<std::string>{"1", "0"})) << o.all();
}

// --- implementations ---------------------------------------------------------------------------------------------

struct TwoSpeeds {
    static constexpr auto name = "test_two_speeds", formula = "y = 1, slowly or fast";
    static constexpr DType dtype = DType::f32;
    using Args = NoArgs;
    static inline std::mutex mutex;
    static inline std::vector<bool> was_fast;  // in order of execution
    static Cost cost(Args, Out<float> y) { return {1, bytes_of_views(y)}; }
    static void write(Out<float> y, bool fast) {
        y(0, 0) = 1;
        std::lock_guard lock(mutex);
        was_fast.push_back(fast);
    }
    static void cpu(Args, Out<float> y) { usleep(1000), write(y, false); }
    static void cpu_fast(Args, Out<float> y) { usleep(50), write(y, true); }
    static constexpr auto cpu_label = "slow";
    static constexpr std::tuple cpu_alternatives{Named{"fast", &cpu_fast}};
};
// The second implementation is slower than the first for its first runs, as where code and memory are cold.
struct ColdStart {
    static constexpr auto name = "cold_start", formula = "y = 1";
    static constexpr DType dtype = DType::f32;
    using Args = NoArgs;
    static inline std::atomic<int> runs = 0;
    static Cost cost(Args, Out<float> y) { return {1, bytes_of_views(y)}; }
    static void cpu(Args, Out<float> y) { usleep(2000), y(0, 0) = 1; }
    static void cpu_cold(Args, Out<float> y) { usleep(++runs <= 12 ? 2400 : 1400), y(0, 0) = 1; }
    static constexpr auto cpu_label = "even";
    static constexpr std::tuple cpu_alternatives{Named{"cold at first", &cpu_cold}};
};
const Register<TwoSpeeds, ColdStart> codelets;

template <class Codelet>
Plan tasks_of(int64_t count) {
    Graph g;
    Tensor y = g.value("y", {count, 1}, DType::f32, {cut(count, 1), {1}});
    Node node;
    node.op = Codelet::name, node.outputs = {y};
    node.lower = [=](Lowering& to) {
        for (int64_t i = 0; i < count; ++i) to.task<Codelet>({}, to.tile(y, i, 0));
    };
    g.add(std::move(node));
    g.keep(y);
    return Plan(g);
}

// Argument: "free", "deterministic" or "forced". Prints how many of the last 200 of 600 tasks ran the fast one.
int two_speeds_role(const std::vector<std::string>& arguments) {
    const Runtime runtime(with_workers(2));
    ExecutorOptions options;
    options.deterministic = arguments[0] == "deterministic";
    if (arguments[0] == "forced") options.forced_implementation = 1;
    Executor executor(runtime, options);
    const int plan = executor.load(tasks_of<TwoSpeeds>(200));
    for (int step = 0; step < 3; ++step) executor.submit(plan, {}), executor.wait();
    std::printf("%ld\n", std::count(TwoSpeeds::was_fast.end() - 200, TwoSpeeds::was_fast.end(), true));
    return 0;
}
// Prints how many of the last 200 of 800 tasks ran the implementation that is faster once it is warm.
int cold_start_role(const std::vector<std::string>&) {
    const Runtime runtime(with_workers(2));
    Executor executor(runtime, {});
    const int plan = executor.load(tasks_of<ColdStart>(200));
    int before = 0;
    for (int step = 0; step < 4; ++step) before = ColdStart::runs, executor.submit(plan, {}), executor.wait();
    std::printf("%d\n", ColdStart::runs - before);
    return 0;
}
int64_t fast_of_200(const std::string& policy, const std::string& mode, const char* role = "two_speeds") {
    const TemporaryFolder cache("cache");  // no models yet
    const Outcome o =
        run_role(role, {mode},
                 {{"STARPU_SCHED", policy}, {"TESSERA_CACHE", cache.path.string()}, {"STARPU_HOME", std::nullopt}});
    EXPECT_EQ(o.code, 0) << o.all();
    return o.code == 0 ? std::stoll(o.out) : -1;
}

TEST(Implementations, TheFasterOneIsChosenOnceMeasured) {
    for (const char* policy : {"list", "dmdas", "dmda"}) EXPECT_GE(fast_of_200(policy, "free"), 180) << policy;
}
TEST(Implementations, OneThatWasSlowAtFirstIsTriedAgain) {
    for (const char* policy : {"list", "reuse"}) EXPECT_GE(fast_of_200(policy, "", "cold_start"), 150) << policy;
}
TEST(Implementations, DeterministicRunsTheFirst) {
    for (const char* policy : {"list", "dmdas", "lws"}) EXPECT_EQ(fast_of_200(policy, "deterministic"), 0) << policy;
}
TEST(Implementations, OneCanBeForced) {
    for (const char* policy : {"list", "dmdas", "lws", "eager"})
        EXPECT_EQ(fast_of_200(policy, "forced"), 200) << policy;
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
    using namespace tessera;
    const int code = testing_tools::engine_main(argc, argv,
                                                {{"train", train_role},
                                                 {"plain", plain_role},
                                                 {"turns", turns_role},
                                                 {"adding", adding_role},
                                                 {"two_speeds", two_speeds_role},
                                                 {"cold_start", cold_start_role}});
    return code;
}
