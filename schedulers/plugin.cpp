// schedulers/plugin.cpp - what StarPU looks up in the plug-in named by STARPU_SCHED_LIB.
#include <cstring>

#include "core/scheduler.h"

extern "C" starpu_sched_policy* starpu_get_sched_lib_policy(const char* name) {
    for (auto* p : tessera::our_policies())
        if (std::strcmp(p->policy_name, name) == 0) return p;
    return nullptr;
}

extern "C" starpu_sched_policy** starpu_get_sched_lib_policies() {
    static std::vector<starpu_sched_policy*> all = [] {
        auto list = tessera::our_policies();
        list.push_back(nullptr);
        return list;
    }();
    return all.data();
}
