// core/host_memory.h - how much of the host's memory this process may use.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace tessera {

// What is built in, or less where a control group (a container, a batch job) says so. Of a simulated machine nothing is
// known: INT64_MAX.
int64_t host_memory_bytes();

// Throws Error if those and the system's swap are less than `bytes`: the kernel would end the program in the midst.
void require_host_memory(int64_t bytes, std::string_view what, const std::string& hint);

// The least limit of control groups, of version 1 or 2, that `groups` (as /proc/self/cgroup) names and that stand below
// `root`, and of those around them; INT64_MAX without one.
int64_t group_limit_bytes(const std::string& groups, const std::filesystem::path& root);

}  // namespace tessera
