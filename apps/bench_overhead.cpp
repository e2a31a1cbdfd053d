// tessera bench overhead: what a task costs beyond a bare starpu_task_submit.
#include <starpu.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "apps/bench.h"
#include "codelets/ops.h"
#include "core/error.h"

namespace tessera {
namespace {

// The same work as StarPU's manual would write it: one codelet with fixed modes, the same handles, as many bytes of
// arguments, a history model, no error slot, no names.
class BareLoop {
 public:
    BareLoop(const Executor& executor, int plan) {
        model_.type = STARPU_HISTORY_BASED;
        model_.symbol = "bare_add";
        codelet_.cpu_funcs[0] = [](void* buffers[], void*) {
            const auto *a = pointer(buffers[0]), *b = pointer(buffers[1]);
            auto* y = pointer(buffers[2]);
            for (uint32_t i = 0; i < STARPU_MATRIX_GET_NX(buffers[2]) * STARPU_MATRIX_GET_NY(buffers[2]); ++i)
                y[i] = a[i] + b[i];
        };
        codelet_.nbuffers = 3;
        codelet_.modes[0] = codelet_.modes[1] = STARPU_R;
        codelet_.modes[2] = STARPU_W;
        codelet_.model = &model_;
        for (const TaskSpec& t : executor.plan(plan).tasks)
            for (const TileUse& u : t.tiles) handles_.push_back(executor.handle(plan, u.tile));
        args_bytes_ = args_offset + executor.plan(plan).tasks[0].args.size();
    }
    void submit() {
        for (size_t i = 0; i < handles_.size(); i += 3) {
            starpu_task* task = starpu_task_create();
            task->cl = &codelet_;
            for (size_t k = 0; k < 3; ++k) task->handles[k] = handles_[i + k];
            task->cl_arg = std::calloc(1, args_bytes_);
            task->cl_arg_size = args_bytes_;
            task->cl_arg_free = 1;
            check_starpu(starpu_task_submit(task), "starpu_task_submit");
        }
    }

 private:
    static float* pointer(void* buffer) { return reinterpret_cast<float*>(STARPU_MATRIX_GET_PTR(buffer)); }
    starpu_perfmodel model_{};
    starpu_codelet codelet_{};
    std::vector<starpu_data_handle_t> handles_;
    size_t args_bytes_ = 0;
};

// Microseconds per task: while workers pause, by them when all is submitted, and both at once.
struct PerTask {
    double submit_us, run_us, whole_us;
};
template <class Submit, class Wait>
PerTask time_tasks(int64_t tasks, Submit&& submit, Wait&& wait) {
    const double us = 1e6 / double(tasks);
    starpu_pause();
    const double submit_s = time_s(submit);
    starpu_resume();
    const double run_s = time_s(wait);
    const double whole_s = time_s([&] { submit(), wait(); });
    return {submit_s * us, run_s * us, whole_s * us};
}

}  // namespace

// Independent tasks y = a + b on 8 x 8 tiles. At once, a submitting thread and as many polling workers as there are
// cores take time from each other, in slices of the system's: that figure spreads by more than it tells.
nlohmann::json bench_overhead(const CommonOptions& common, const OverheadBench& bench) {
    const int64_t tasks = bench.tasks;
    if (tasks > Executor::most_submitted)
        throw UsageError("--tasks: more than " + std::to_string(Executor::most_submitted) +
                         " are not submitted before some have run");
    Runtime runtime(common.runtime());
    Params params;  // before the executor, which lets go of them
    Executor executor(runtime, common.executor(runtime.config()));
    Param& a = params.add({"a", {8, 8}, DType::f32, {}, nullptr});
    Param& b = params.add({"b", {8, 8}, DType::f32, {}, nullptr});
    Graph g;
    for (int64_t i = 0; i < tasks; ++i) g.keep(add(g.param(a), g.param(b)));
    const int plan = executor.load(Plan(g));
    BareLoop bare_loop(executor, plan);
    const auto time_ours = [&] {
        return time_tasks(
            tasks, [&] { executor.submit(plan, {}); }, [&] { executor.wait(); });
    };
    const auto time_bare = [&] {
        return time_tasks(
            tasks, [&] { bare_loop.submit(); }, [] { starpu_task_wait_for_all(); });
    };
    std::vector<PerTask> ours, bare;
    constexpr int warm_up = 2;
    for (int r = -warm_up; r < bench.rounds; ++r) {
        say_round(common, r, bench.rounds, warm_up);
        PerTask x, y;
        if (r % 2) x = time_ours(), y = time_bare();
        else y = time_bare(), x = time_ours();
        if (r >= 0) ours.push_back(x), bare.push_back(y);
    }
    nlohmann::json j = {{"bench", "overhead"},
                        {"codelet", executor.plan(plan).tasks[0].codelet->name},
                        {"tasks", tasks},
                        {"rounds", bench.rounds},
                        {"workers", runtime.workers().size()},
                        {"policy", runtime.policy()}};
    const auto add_figures = [&](const std::string& prefix, auto&& of) {
        std::vector<double> of_ours, of_bare, more;
        for (size_t i = 0; i < ours.size(); ++i) {
            of_ours.push_back(of(ours[i])), of_bare.push_back(of(bare[i]));
            more.push_back(of_ours[i] - of_bare[i]);
        }
        j[prefix + "tessera_us"] = median(of_ours), j[prefix + "bare_us"] = median(of_bare);
        j[prefix + "difference_us"] = median(more);
    };
    add_figures("submit_", [](const PerTask& t) { return t.submit_us; });
    add_figures("run_", [](const PerTask& t) { return t.run_us; });
    add_figures("", [](const PerTask& t) { return t.submit_us + t.run_us; });
    add_figures("at_once_", [](const PerTask& t) { return t.whole_us; });
    return j;
}

}  // namespace tessera
