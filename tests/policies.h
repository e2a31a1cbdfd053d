// policies.h - runs a role under every scheduling policy that can run here, ours and StarPU's; lists the others
// visibly.
#pragma once
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "core/runtime.h"
#include "tests/child.h"

namespace tessera::testing_tools {

// Stock policies that cannot train, and why.
inline const std::map<std::string, std::string>& policies_left_out() {
    static const std::map<std::string, std::string> all = {
        {"graph_test", "runs nothing until starpu_do_schedule() is called"}};
    return all;
}

inline std::map<std::string, Outcome> run_under_every_policy(const std::string& role) {
    std::vector<std::string> names;
    {
        const Runtime runtime;  // finds our plug-in
        for (const std::string& name : known_policies())
            if (const auto reason = policies_left_out().find(name); reason == policies_left_out().end())
                names.push_back(name);
            else std::printf("left out: %s (%s)\n", name.c_str(), reason->second.c_str());
    }
    std::map<std::string, Outcome> all;  // one at a time: workers of two children would spin on each other's cores
    for (const auto& name : names) all[name] = run_role(role, {}, {{"STARPU_SCHED", name}});
    return all;
}

}  // namespace tessera::testing_tools
