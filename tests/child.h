// child.h - tests that need another process (an environment, a limit, a crash) run their own executable again in a
// role. engine_main() is the main of such an executable: GoogleTest, or one role; all tests skipped ends with 77.
#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

extern "C" char** environ;

namespace tessera::testing_tools {

struct Outcome {
    int code = -1;  // exit status; -signal if a signal ended it
    bool timed_out = false;
    std::string out, err;
    std::string all() const {
        return "exit " + std::to_string(code) + (timed_out ? " (timed out)" : "") + "\n" + out + err;
    }
};

// Environment of this process with `changes`; nullopt removes a variable. Policy and limits of the parent don't leak.
inline std::vector<std::string> environment_with(std::map<std::string, std::optional<std::string>> changes) {
    for (const char* own : {"STARPU_SCHED", "STARPU_NCPU", "STARPU_NCUDA", "STARPU_CALIBRATE", "STARPU_LIMIT_CPU_MEM",
                            "STARPU_DISK_SWAP", "STARPU_DISK_SWAP_SIZE", "STARPU_DISK_SWAP_BACKEND"})
        changes.try_emplace(own, std::nullopt);
    std::vector<std::string> all;
    for (char** e = environ; *e; ++e)
        if (const std::string entry = *e; !changes.contains(entry.substr(0, entry.find('=')))) all.push_back(entry);
    for (auto& [name, value] : changes)
        if (value) all.push_back(name + "=" + *value);
    return all;
}

// Runs this executable in `role`, which must end within timeout_s.
inline Outcome run_role(const std::string& role, const std::vector<std::string>& arguments = {},
                        const std::map<std::string, std::optional<std::string>>& changes = {}, int timeout_s = 60) {
    std::vector<std::string> words = {"/proc/self/exe", "--role", role}, variables = environment_with(changes);
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv, envp;
    for (auto& w : words) argv.push_back(w.data());
    for (auto& v : variables) envp.push_back(v.data());
    argv.push_back(nullptr), envp.push_back(nullptr);
    int out[2], err[2];
    check_system(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0, "pipe2");
    const pid_t child = fork();
    check_system(child >= 0, "fork");
    if (child == 0) {
        setpgid(0, 0);
        dup2(out[1], 1), dup2(err[1], 2);
        execve(argv[0], argv.data(), envp.data());
        _exit(126);
    }
    close(out[1]), close(err[1]);
    Outcome o;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_s);
    pollfd ends[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    while (ends[0].fd >= 0 || ends[1].fd >= 0) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
        if (left <= 0 || poll(ends, 2, int(left)) == 0) {
            o.timed_out = true;
            kill(-child, SIGKILL);
            break;
        }
        for (int i : {0, 1}) {
            if (ends[i].fd < 0 || !ends[i].revents) continue;
            char buffer[4096];
            const ssize_t n = read(ends[i].fd, buffer, sizeof buffer);
            if (n > 0) (i ? o.err : o.out).append(buffer, size_t(n));
            else ends[i].fd = -1;
        }
    }
    close(out[0]), close(err[0]);
    int status = 0;
    waitpid(child, &status, 0);
    o.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return o;
}

inline std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        lines.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return lines;
}

// A folder of this process that goes away with it.
class TemporaryFolder {
 public:
    explicit TemporaryFolder(const std::string& name)
        : path(std::filesystem::temp_directory_path() / ("tessera-" + name + "-" + std::to_string(getpid()))) {
        std::filesystem::create_directories(path);
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::permissions(path, std::filesystem::perms::owner_all, ignored);
        std::filesystem::remove_all(path, ignored);
    }
    const std::filesystem::path path;
};

using Role = std::function<int(const std::vector<std::string>& arguments)>;

inline int engine_main(int argc, char** argv, const std::map<std::string, Role>& roles) {
    if (argc > 2 && argv[1] == std::string("--role")) {
        try {
            const int code = roles.at(argv[2])({argv + 3, argv + argc});
            std::fflush(nullptr);
            return code;
        } catch (const Error& e) {
            std::fprintf(stderr, "error: %s\nhint: %s\n", e.what(), e.hint().c_str());
            return dynamic_cast<const UsageError*>(&e) ? 2 : 1;
        } catch (const std::exception& e) {
            std::fprintf(stderr, "error: %s\n", e.what());
            return 1;
        }
    }
    testing::InitGoogleTest(&argc, argv);
    const int code = RUN_ALL_TESTS();
    const auto& all = *testing::UnitTest::GetInstance();
    if (code == 0 && all.test_to_run_count() > 0 && all.skipped_test_count() == all.test_to_run_count()) {
        std::puts("skipped: nothing here could run on this machine");
        return 77;
    }
    return code;
}

}  // namespace tessera::testing_tools
