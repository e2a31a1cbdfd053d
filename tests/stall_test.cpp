// A program whose tasks cannot end is ended; one that works slowly, or has nothing to do, is left alone.
#include "core/stall.h"

#include <gtest/gtest.h>
#include <starpu.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

namespace tessera {
namespace {

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

Activity activity(1);
void nap_ms(int ms) {
    activity.begin(0);
    sleep_ms(ms);
    activity.end(0);
}
starpu_codelet codelet_of(starpu_cpu_func_t body) {
    starpu_codelet c{};
    c.cpu_funcs[0] = body;
    return c;
}
starpu_codelet naps = codelet_of([](void**, void*) { nap_ms(300); }),
               sleeps = codelet_of([](void**, void*) { nap_ms(2000); });

void start() {
    setenv("STARPU_PERF_MODEL_DIR", (testing::TempDir() + "stall_test").c_str(), 1);  // not the user's
    starpu_conf conf;
    starpu_conf_init(&conf);
    conf.ncpus = 1, conf.ncuda = 0, conf.precedence_over_environment_variables = 1;
    if (starpu_init(&conf) != 0) _exit(2);
}
starpu_task* nap() {
    starpu_task* task = starpu_task_create();
    task->cl = &naps;
    return task;
}
void submit(starpu_task* task) {
    if (starpu_task_submit(task) != 0) _exit(2);
}

// Under a guard of one second: exit code 0 once all tasks have ended.
template <class F>
void guarded(F&& work) {
    start();
    {
        StallGuard guard(1, activity);
        work();
        starpu_task_wait_for_all();
    }
    starpu_shutdown();
    _exit(0);
}
constexpr starpu_tag_t mine = 1, gate = 2;
starpu_task* nap_behind_the_gate() {
    starpu_task* task = nap();
    task->use_tag = 1, task->tag_id = mine;
    starpu_tag_declare_deps(mine, 1, gate);
    return task;
}

void wait_for_what_never_comes() {
    guarded([] { submit(nap_behind_the_gate()); });
}
void work_slowly_and_rest() {
    guarded([] {
        for (int i = 0; i < 6; ++i) submit(nap());
        starpu_task_wait_for_all();
        sleep_ms(1500);
    });
}
// As a full window of submitted tasks, or a chain where each waits for the one before.
void submit_one_for_each_that_ends() {
    guarded([] {
        submit(nap());
        for (int i = 0; i < 8; ++i) {
            submit(nap());
            starpu_task_wait_for_n_submitted(1);
        }
    });
}
void work_long_on_one_task() {
    guarded([] {
        starpu_task* task = nap();
        task->cl = &sleeps;
        submit(task);
    });
}
void wait_for_a_thread_that_is_no_worker() {
    guarded([] {
        submit(nap_behind_the_gate());
        activity.give();
        sleep_ms(2000);
        activity.take_back();
        starpu_tag_notify_from_apps(gate);
    });
}

class StallDeathTest : public testing::Test {
    void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};
TEST_F(StallDeathTest, EndsAProgramWhoseTasksCannotEnd) {
    EXPECT_EXIT(wait_for_what_never_comes(), testing::ExitedWithCode(1), "no task has ended for 1 s, and 1 wait");
}
TEST_F(StallDeathTest, LeavesSlowAndIdleProgramsAlone) {
    EXPECT_EXIT(work_slowly_and_rest(), testing::ExitedWithCode(0), "");
}
TEST_F(StallDeathTest, LeavesTasksAloneThatAreAsManyAllTheTime) {
    EXPECT_EXIT(submit_one_for_each_that_ends(), testing::ExitedWithCode(0), "");
}
TEST_F(StallDeathTest, LeavesALongTaskAlone) { EXPECT_EXIT(work_long_on_one_task(), testing::ExitedWithCode(0), ""); }
TEST_F(StallDeathTest, LeavesADiskThatTakesLongAlone) {
    EXPECT_EXIT(wait_for_a_thread_that_is_no_worker(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tessera
