// tessera simulate --machine NAME -- COMMAND ...: the same program on StarPU-SimGrid, as the machine NAME would run it.
// SimGrid reads the platform before main, so the environment is made here and another executable is started with it.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <optional>

#include "apps/options.h"
#include "apps/table.h"
#include "core/error.h"
#include "core/file.h"
#include "core/scratch.h"
#include "models/bus.h"
#include "models/machine.h"

extern "C" char** environ;

namespace tessera {
namespace fs = std::filesystem;
namespace {

struct Flags {
    std::string machine, keep;
    int64_t gpus = -1, cpus = -1;
    std::vector<std::string> words;
    bool json = false, quiet = false;
};

fs::path simulator() {
    const fs::path folder = program_folder();
    for (const char* place : {"../libexec/tessera-sim", "../sim/tessera-sim"})
        if (access((folder / place).c_str(), X_OK) == 0) return fs::weakly_canonical(folder / place);
    throw Error("tessera-sim, which runs simulations, is not built", "tools/deps sim && tools/build --program sim");
}

// A folder that stays, for --keep.
fs::path kept_folder(const std::string& keep) {
    if (fs::exists(keep) && (!fs::is_directory(keep) || !fs::is_empty(keep)))
        throw Error("--keep: '" + keep + "' is there already and not an empty folder");
    std::error_code failure;
    fs::create_directories(keep, failure);
    if (failure || access(keep.c_str(), W_OK) != 0)
        throw Error("--keep: cannot write to '" + keep + "'", "choose another folder");
    return fs::absolute(keep);
}

// How many of the machine's devices run tasks. A GPU takes one core, which drives it.
std::pair<int64_t, int64_t> choose_workers(const Flags& f, const Bus& bus) {
    const auto has = [&](int64_t n, const char* what) { return "machine '" + bus.name + "' has " + counted(n, what); };
    const int64_t gpus = f.gpus < 0 ? bus.cudas : f.gpus;
    if (gpus > bus.cudas) throw UsageError("--gpus " + std::to_string(gpus) + ": " + has(bus.cudas, "GPU"));
    const int64_t cores = std::max<int64_t>(0, bus.cpus - gpus), cpus = f.cpus < 0 ? cores : f.cpus;
    if (cpus > cores)
        throw UsageError("--cpus " + std::to_string(cpus) + ": " + has(bus.cpus, "CPU core") +
                         (gpus == 1  ? ", of which 1 drives a GPU"
                          : gpus > 1 ? ", of which " + std::to_string(gpus) + " drive GPUs"
                                     : ""));
    if (gpus + cpus == 0) throw UsageError("no device is left to run on", "raise --gpus or --cpus");
    return {gpus, cpus};
}

void set_environment(const fs::path& models, const std::string& machine, int64_t gpus, int64_t cpus) {
    const auto set = [](const char* name, const std::string& value) { setenv(name, value.c_str(), 1); };
    set("STARPU_PERF_MODEL_DIR", models.string());
    set("STARPU_HOSTNAME", machine);
    set("STARPU_NCUDA", std::to_string(gpus));
    set("STARPU_NCPU", std::to_string(cpus));
    set("STARPU_NOPENCL", "0");  // or GPUs beyond STARPU_NCUDA come back as OpenCL devices
    unsetenv("STARPU_PERF_MODEL_PATH");
    if (const char* n = std::getenv("STARPU_NWORKER_PER_CUDA"); n && std::strcmp(n, "1") != 0)
        std::cerr << "note: several tasks at once on one GPU cannot be simulated; STARPU_NWORKER_PER_CUDA=" << n
                  << " changes nothing\n";
}

volatile sig_atomic_t child = 0, ended_by = 0;
// SimGrid prints a backtrace on signals that end it politely; the simulation holds nothing that would be lost.
void end_child(int signal) {
    ended_by = signal;
    if (child > 0) kill(child, SIGKILL);
}

// What SimGrid logs: kept back, because after an error of ours its view of the same is noise, and where it has no other
// it is the reason.
class Log {
 public:
    Log() : file_(memfd_create("simgrid", 0)) { check_system(file_.value() >= 0, "cannot start the simulation"); }
    std::string flag() const { return "--log=root.app:file:/proc/self/fd/" + std::to_string(file_.value()); }
    std::string text() const {
        std::string all(size_t(std::max<off_t>(0, lseek(file_.value(), 0, SEEK_END))), ' ');
        const ssize_t n = pread(file_.value(), all.data(), all.size(), 0);
        all.resize(size_t(std::max<ssize_t>(0, n)));
        return all;
    }
    // Without time and place, which stand in brackets before it.
    std::string first_line() const {
        std::string line = text();
        line.resize(std::min(line.find('\n'), line.size()));
        for (const char* priority : {"/CRITICAL] ", "/ERROR] ", "/WARNING] "})
            if (const size_t at = line.find(priority); at != line.npos) line.erase(0, at + std::strlen(priority));
        return line;
    }

 private:
    Descriptor file_;
};

// How the simulation ended, for people and as an exit code.
int tell_end(int status, const Log& log) {
    const std::string said = log.first_line();
    if (WIFEXITED(status)) {
        const int code = WEXITSTATUS(status);
        if (code == 0) std::cerr << log.text();
        else if (!said.empty() && said.find("Deadlock") == said.npos) std::cerr << "note: SimGrid: " << said << "\n";
        return code;
    }
    if (ended_by) return 128 + ended_by;
    const int signal = WTERMSIG(status);
    std::cerr << "error: the simulation was ended by signal " << strsignal(signal)
              << (said.empty() ? "" : "; SimGrid: " + said) << "\n";
    return said.empty() ? 128 + signal : 1;
}

// Runs the program and returns its exit code; signals for this process go to it, so that we stay to clean up.
int run(const fs::path& program, const std::vector<std::string>& words) {
    // SimGrid takes out its own before main: the words that are to be ours stand behind a --.
    const Log log;
    std::vector<std::string> all = {program.string(), "--log=root.thres:warning", log.flag(), "--"};
    all.insert(all.end(), words.begin(), words.end());
    std::vector<char*> arguments;
    for (std::string& w : all) arguments.push_back(w.data());
    arguments.push_back(nullptr);
    const int passed[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    sigset_t blocked, before;
    sigemptyset(&blocked);
    for (int s : passed) sigaddset(&blocked, s);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    const pid_t parent = getpid(), pid = fork();
    if (pid < 0) sigprocmask(SIG_SETMASK, &before, nullptr);
    check_system(pid >= 0, "cannot start the simulation");
    if (pid == 0) {
        sigprocmask(SIG_SETMASK, &before, nullptr);
        setpgid(0, 0);  // a terminal's Ctrl-C is for the parent
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        execv(program.c_str(), arguments.data());
        std::cerr << "error: cannot run '" << program.string() << "': " << std::strerror(errno) << std::endl;
        _exit(1);
    }
    child = pid;
    struct sigaction action {};
    action.sa_handler = end_child;
    for (int s : passed) sigaction(s, &action, nullptr);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) check_system(false, "waiting for the simulation");
    child = 0;
    return tell_end(status, log);
}

int simulate(const Flags& f) {
    const Config config = read_config(environ);
    std::optional<ScratchFolder> scratch;
    const fs::path folder = f.keep.empty() ? scratch.emplace(config.cache).path() : kept_folder(f.keep);
    const Machine machine = copy_machine(f.machine, config.cache, folder);
    const Bus bus = read_bus(machine.folder() / "bus", machine.name());
    const auto [gpus, cpus] = choose_workers(f, bus);
    const fs::path program = simulator();
    set_environment(fs::absolute(machine.folder()), machine.name(), gpus, cpus);
    std::vector<std::string> words = f.words;  // what holds for the simulation holds for what it runs
    if (f.json) words.push_back("--json");
    if (f.quiet) words.push_back("--quiet");
    return run(program, words);
}

}  // namespace

Command add_simulate(CLI::App& app) {
    auto f = std::make_shared<Flags>();
    app.add_option("--machine", f->machine, "Which one; tessera machine list")
        ->type_name("NAME")
        ->required()
        ->check(not_empty());
    app.add_option("--gpus", f->gpus, "Use only so many of its GPUs")->check(whole_number(0));
    app.add_option("--cpus", f->cpus, "Use only so many of its CPU cores")->check(whole_number(0));
    app.add_option("--keep", f->keep, "Leave the machine's files as the simulation saw them")
        ->type_name("DIR")
        ->check(not_empty());
    app.add_flag("--json", f->json, "Last line of stdout is one JSON object, as COMMAND's own --json");
    app.add_flag("--quiet", f->quiet, "No progress on stderr");
    app.add_option("command", f->words, "What to run there, e.g. -- train mlp --batch 256")
        ->required()
        ->type_name("-- COMMAND")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.footer("What a command takes there: tessera simulate --machine NAME -- COMMAND --help");
    return [f] { return simulate(*f); };
}

}  // namespace tessera
