// A scheduling policy that keeps all tasks to itself: under it nothing can go on.
#include <starpu.h>
#include <starpu_scheduler.h>

#include <cstring>

static int keep(starpu_task*) { return 0; }
static starpu_task* give_nothing(unsigned) { return nullptr; }
static void begin(unsigned context) { starpu_sched_ctx_create_worker_collection(context, STARPU_WORKER_LIST); }

static starpu_sched_policy stuck = [] {
    starpu_sched_policy p{};
    p.init_sched = begin, p.push_task = keep, p.pop_task = give_nothing;
    p.policy_name = "stuck", p.policy_description = "keeps all tasks";
    return p;
}();

extern "C" starpu_sched_policy* starpu_get_sched_lib_policy(const char* name) {
    return std::strcmp(name, stuck.policy_name) == 0 ? &stuck : nullptr;
}
extern "C" starpu_sched_policy** starpu_get_sched_lib_policies() {
    static starpu_sched_policy* all[] = {&stuck, nullptr};
    return all;
}
