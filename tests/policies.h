// policies.h - every scheduling policy that this machine can run, ours and StarPU's; the others are listed visibly.
#pragma once
#include <cstdio>
#include <map>
#include <string>

#include "core/runtime.h"

namespace tessera::testing_tools {

// Stock policies that cannot train here, and why.
inline const std::map<std::string, std::string>& policies_left_out() {
    static const std::map<std::string, std::string> all = {};
    return all;
}

template <class F>
void for_each_policy(F&& f) {
    std::vector<std::string> names;
    {
        const Runtime runtime;  // finds our plug-in
        names = known_policies();
    }
    for (const std::string& name : names) {
        const auto reason = policies_left_out().find(name);
        if (reason != policies_left_out().end())
            std::printf("left out: %s (%s)\n", name.c_str(), reason->second.c_str());
        else
            f(name);
    }
}

}  // namespace tessera::testing_tools
