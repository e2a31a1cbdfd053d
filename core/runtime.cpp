#include "core/runtime.h"

#include <cblas.h>
#include <dlfcn.h>
#include <malloc.h>
#include <starpu.h>
#include <starpu_scheduler.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "core/body.h"
#include "core/error.h"
#include "core/gpus.h"
#include "core/pieces.h"
#include "core/scratch.h"

extern "C" char** environ;

namespace tessera {
namespace fs = std::filesystem;
namespace {

void set_default(const char* name, const std::string& value) { setenv(name, value.c_str(), 0); }

constexpr int64_t mebibyte = int64_t(1) << 20;

std::vector<std::string> names_of(starpu_sched_policy** policies) {
    std::vector<std::string> names;
    for (; policies && *policies; ++policies)
        if (std::strcmp((*policies)->policy_name, "graph_test") != 0)  // holds all tasks until starpu_do_schedule
            names.push_back((*policies)->policy_name);
    return names;
}

// Our policies are a plug-in beside this library; whoever sets STARPU_SCHED_LIB has chosen another.
void find_plugin() {
    Dl_info here;
    if (std::getenv("STARPU_SCHED_LIB") || !dladdr(reinterpret_cast<void*>(&find_plugin), &here) || !here.dli_fname)
        return;
    const fs::path plugin = fs::path(here.dli_fname).parent_path() / "libtessera_schedulers.so";
    if (fs::exists(plugin)) setenv("STARPU_SCHED_LIB", plugin.c_str(), 1);
}

// Workers of one kind need no placement ahead of time (docs/decisions/0003-default-policy.md).
std::string default_policy(const RuntimeOptions& options) {
#ifdef STARPU_SIMGRID
    const char* wanted = std::getenv("STARPU_NCUDA");
    const size_t gpus = wanted ? size_t(std::max(0, std::atoi(wanted))) : 1;  // what 'tessera simulate' states
#else
    const size_t gpus = wanted_gpus().size();
#endif
    const auto known = known_policies();
    const std::string ours = gpus == 0 || !options.blocked ? "list" : "reuse";
    const bool wanted_here = gpus == 0 || options.blocked || options.placed;
    return wanted_here && std::find(known.begin(), known.end(), ours) != known.end() ? ours : "dmdas";
}

// What is being added to must not be written home early. In a limited memory tiles are allocated one by one where they
// are of several sizes - pieces that are cut into such are seldom empty - or few pieces would fit.
void prepare_blocks(bool one_size) {
    set_default("STARPU_MINIMUM_CLEAN_BUFFERS", "0");
    set_default("STARPU_TARGET_CLEAN_BUFFERS", "0");
    const char* limit_mib = std::getenv("STARPU_LIMIT_CUDA_MEM");
    if (limit_mib && !(one_size && std::atoll(limit_mib) * mebibyte >= 10 * piece_bytes))
        set_default("STARPU_SUBALLOCATOR", "0");
}

// StarPU only warns about a policy it does not know, and uses another.
void check_policy() {
    const char* wanted = std::getenv("STARPU_SCHED");
    const auto known = known_policies();
    if (wanted && std::find(known.begin(), known.end(), wanted) == known.end()) {
        throw UsageError(std::string("STARPU_SCHED='") + wanted + "' is not a scheduling policy",
                         suggestion_or_list(wanted, known));
    }
}

// StarPU prints a backtrace for a number that is none, or out of its range.
void check_numbers() {
    struct Range {
        const char* name;
        long least, most;
    };
    for (const auto& [name, least, most] : {Range{"STARPU_NCPU", 0, INT_MAX},
                                            {"STARPU_NCUDA", 0, INT_MAX},
                                            {"STARPU_NWORKER_PER_CUDA", 1, most_streams},
                                            {"STARPU_LIMIT_CPU_MEM", 0, LONG_MAX},
                                            {"STARPU_LIMIT_CUDA_MEM", 0, LONG_MAX}})
        if (const char* value = std::getenv(name)) {
            char* end = nullptr;
            errno = 0;
            const long number = std::strtol(value, &end, 10);
            if (*value == 0 || *end != 0 || errno != 0 || number < least || number > most)
                throw UsageError(std::string(name) + "='" + value + "' is not a whole number of at least " +
                                 std::to_string(least) +
                                 (most < INT_MAX ? ", at most " + std::to_string(most) : std::string()));
        }
    for (const char* name : {"STARPU_WORKERS_CPUID", "STARPU_WORKERS_CUDAID"})
        if (const char* value = std::getenv(name); value && std::strspn(value, "0123456789 -") != std::strlen(value))
            throw UsageError(std::string(name) + "='" + value + "' is not a list of numbers");
    if (const char* host = std::getenv("STARPU_HOSTNAME"); host && !is_machine_name(host))
        throw UsageError("STARPU_HOSTNAME=" + in_quotes(host) + " cannot be a machine's name", machine_names);
}

// StarPU cuts longer names of files off.
void check_length(const fs::path& folder) {
    constexpr size_t starpu_path = 255, in_folder = 80;
    const size_t room = starpu_path - in_folder - std::min<size_t>(64, machine_name().size());
    if (folder.string().size() > room)
        throw Error("the folder of performance models '" + folder.string() + "' has " +
                        std::to_string(folder.string().size()) + " characters; StarPU takes " + std::to_string(room),
                    "set TESSERA_CACHE to a shorter one");
}

// A missing, read-only or small folder makes StarPU create it silently, hang or abort.
void check_swap(const RuntimeOptions& o) {
    if (o.host_memory_bytes && o.swap.empty())
        throw UsageError("--host-memory needs --swap DIR, a folder for the tiles that do not fit");
    if (std::getenv("STARPU_LIMIT_CPU_MEM") && !std::getenv("STARPU_DISK_SWAP") && !o.host_memory_bytes)
        throw UsageError("STARPU_LIMIT_CPU_MEM without STARPU_DISK_SWAP makes StarPU wait for ever",
                         "use --host-memory SIZE --swap DIR");
    if (o.swap.empty()) return;
    if (!o.host_memory_bytes) throw UsageError("--swap does nothing without --host-memory SIZE");
    if (*o.host_memory_bytes < mebibyte) throw UsageError("--host-memory must be at least 1M");
    if (!fs::is_directory(o.swap)) throw Error("the swap folder '" + o.swap + "' is not there", "create it");
    check_system(access(o.swap.c_str(), W_OK | X_OK) == 0, "cannot write to the swap folder '" + o.swap + "'");
    const std::string probe = o.swap + "/.tessera-probe-" + std::to_string(getpid());
    check_system(mkdir(probe.c_str(), 0700) == 0,
                 "cannot write to the swap folder '" + o.swap + "'");  // root passes access()
    rmdir(probe.c_str());
}

int64_t free_bytes(const std::string& folder) {
    struct statvfs s {};
    check_system(statvfs(folder.c_str(), &s) == 0, "cannot look at '" + folder + "'");
    return int64_t(s.f_bavail) * int64_t(s.f_frsize);
}

// Returns the folder that StarPU swaps to, if it does.
std::unique_ptr<ScratchFolder> set_limits(const RuntimeOptions& o) {
    if (o.gpu_memory_bytes) {
        if (*o.gpu_memory_bytes < mebibyte) throw UsageError("--gpu-memory must be at least 1M");
        setenv("STARPU_LIMIT_CUDA_MEM", std::to_string(*o.gpu_memory_bytes / mebibyte).c_str(), 1);
    }
    if (!o.host_memory_bytes || o.streamed) return nullptr;
    // A tile that StarPU frees goes back to the system: malloc would keep it for tiles that are somewhere else by then.
    mallopt(M_MMAP_THRESHOLD, 1 << 16);
    const int64_t free_mib = free_bytes(o.swap) / mebibyte;
    if (free_mib < 64)
        throw Error("the disk of the swap folder '" + o.swap + "' has only " + std::to_string(free_mib) + " MiB free");
    setenv("STARPU_LIMIT_CPU_MEM", std::to_string(*o.host_memory_bytes / mebibyte).c_str(), 1);
    auto folder = std::make_unique<ScratchFolder>(o.swap, ".tessera-swap-");  // StarPU's files stay where it is killed
    setenv("STARPU_DISK_SWAP", folder->path().c_str(), 1);
    set_default("STARPU_SUBALLOCATOR",
                "0");                     // with GPUs tiles are cut from pieces of 32 MiB, which may exceed the limit
    set_default("STARPU_PREFETCH", "0");  // workers that evict for each other's prefetches can wait for ever
    set_default("STARPU_DISK_SWAP_BACKEND",
                "unistd");  // its O_DIRECT sibling asserts on tiles that are not whole pages
    set_default("STARPU_DISK_SWAP_SIZE", std::to_string(free_mib * 9 / 10));
    return folder;
}

// StarPU measures the bus at its first start, and stops on a file that it cannot write or read back.
void check_room_for_bus(const fs::path& folder) {
    constexpr int64_t enough = 64 << 10;
    std::error_code failure;
    if (!fs::is_directory(folder, failure) || fs::exists(folder / "bus" / (machine_name() + ".config"), failure))
        return;
    if (const int64_t room = free_bytes(folder); room < enough)
        throw Error("no room in '" + folder.string() + "' for what StarPU measures at its first start: " +
                        std::to_string(room >> 10) + " KiB are free, " + std::to_string(enough >> 10) + " are needed",
                    "free some space there, or set TESSERA_CACHE to a folder on another disk");
}

fs::path starpu_home() {
    const char* home = nullptr;
    for (const char* name : {"XDG_CACHE_HOME", "STARPU_HOME", "HOME"})  // in StarPU's order
        if (!home) home = std::getenv(name);
    return fs::path(home ? home : "") / ".starpu" / "sampling";
}

void handle_abort(int) {
    constexpr char line[] =
        "error: the StarPU runtime stopped on an internal check (its message is above); likely causes: a memory limit "
        "that is too small, a swap disk that is full, or a performance model that is missing in simulation\n";
    if (write(2, line, sizeof line - 1) < 0) {}
    std::signal(SIGABRT, SIG_DFL);
    remove_what_goes();
    _exit(1);
}

}  // namespace

void adopt_bus(const fs::path& folder) {
    const fs::path to = folder / "bus";
    const std::string config = machine_name() + ".config";
    std::error_code failure;
    for (const fs::path& sampling :
         {starpu_home(), fs::path(TESSERA_STARPU_PREFIX) / "share/starpu/perfmodels/sampling"}) {
        const fs::path from = sampling / "bus";
        if (fs::exists(to / config, failure) || !fs::exists(from / config, failure)) continue;
        fs::create_directories(to, failure);
        for (const auto& entry : fs::directory_iterator(from, failure))
            if (const fs::path name = entry.path().filename();
                name != config && name.string().starts_with(machine_name() + "."))
                fs::copy_file(entry.path(), to / name, fs::copy_options::overwrite_existing, failure);
        if (!failure) fs::copy_file(from / config, to / config, failure);  // last: where it is, there is a bus
        if (failure)
            throw Error("cannot copy StarPU's bus from '" + from.string() + "' to '" + to.string() +
                        "': " + failure.message());
    }
}

void install_abort_handler() { std::signal(SIGABRT, handle_abort); }

std::string node_name(unsigned node) {
    char name[64];
    starpu_memory_node_get_name(node, name, sizeof name);
    return name;
}

std::vector<std::string> known_policies() {
    auto names = names_of(starpu_sched_get_predefined_policies());
    if (const char* library = std::getenv("STARPU_SCHED_LIB")) {
        void* handle = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
        if (!handle) throw UsageError(std::string("STARPU_SCHED_LIB cannot be loaded: ") + dlerror());
        using List = starpu_sched_policy** (*)();
        auto list = reinterpret_cast<List>(dlsym(handle, "starpu_get_sched_lib_policies"));
        if (!list) throw UsageError(std::string("STARPU_SCHED_LIB='") + library + "' holds no scheduling policy");
        for (auto& n : names_of(list())) names.push_back(n);
    }
    return names;
}

Runtime::Runtime(const RuntimeOptions& options) : config_(read_config(environ)), options_(options) {
    all_codelets();  // refuses duplicate names
    set_workspace_limit(config_.workspace_bytes);
    check_numbers();
    find_plugin();
    check_policy();
    check_swap(options);
    swap_ = set_limits(options);
    fit_gpu_memory();
    if (options.blocked) prepare_blocks(options.one_size);
    set_default("STARPU_SCHED", default_policy(options));
    set_default("STARPU_SILENT", "1");
    const bool own = !std::getenv("STARPU_HOME") && !std::getenv("STARPU_PERF_MODEL_DIR");
    if (own) {
        const fs::path folder = model_folder(config_);
        std::error_code failure;
        fs::create_directories(folder, failure);
        if (failure || access(folder.c_str(), W_OK) != 0)
            throw Error("cannot write to the cache folder '" + folder.string() + "'",
                        "set TESSERA_CACHE to one you can");
        setenv("STARPU_PERF_MODEL_DIR", folder.c_str(), 1);
    }
    const char* folder = std::getenv("STARPU_PERF_MODEL_DIR");
    if (folder) {
        check_length(folder);
        model_files_ = std::make_unique<ModelFiles>(folder);
    }
    adopt_bus(folder ? fs::path(folder) : starpu_home());
    if (folder) check_room_for_bus(folder);
    starpu_malloc_set_align(options.streamed ? 4096
                                             : 64);  // O_DIRECT's pages; a cache line, and what vector loads like
    openblas_set_num_threads(1);                     // parallelism is between tasks
    starpu_conf conf;
    starpu_conf_init(&conf);
    if (options.cpu_workers >= 0) conf.ncpus = options.cpu_workers, conf.precedence_over_environment_variables = 0;
    conf.catch_signals = 0;  // Ctrl-C ends the program as users expect
    const int code = starpu_init(&conf);
    if (code == -ENODEV)
        throw Error("no worker: this machine has nothing that StarPU may run tasks on",
                    "look at STARPU_NCPU and STARPU_NCUDA");
    check_starpu(code, "starpu_init");
    if (model_files_) model_files_->started();
    if (starpu_worker_get_count() == 0) {
        starpu_shutdown();
        throw Error("no worker: this machine has nothing that StarPU may run tasks on",
                    "look at STARPU_NCPU and STARPU_NCUDA");
    }
    // It gives a GPU what StarPU's own example programs call a product, and all else to cores, or to nobody.
    if (policy() == "modular-gemm" && cpu_workers() > 0 && cuda_workers() > 0) {
        starpu_shutdown();
        throw UsageError("STARPU_SCHED='modular-gemm' gives GPUs nothing of Tessera while there are cores",
                         "set STARPU_NCPU=0, or choose another policy");
    }
#ifdef STARPU_USE_CUDA
    if (starpu_cuda_worker_get_count() > 0) starpu_cublas_init();
#endif
    activity_ = std::make_unique<Activity>(starpu_worker_get_count());
#ifndef STARPU_SIMGRID  // time stands still there while StarPU waits
    const bool limits = cuda_workers() > 0 || std::getenv("STARPU_LIMIT_CPU_MEM");
    if (limits && config_.stall_s > 0) stall_guard_ = std::make_unique<StallGuard>(config_.stall_s, *activity_);
#endif
}

Runtime::~Runtime() {
    stall_guard_.reset();  // it asks StarPU
#ifdef STARPU_USE_CUDA
    if (starpu_cuda_worker_get_count() > 0) starpu_cublas_shutdown();
#endif
    if (model_files_) model_files_->ends();
    starpu_shutdown();
    if (swap_) unsetenv("STARPU_DISK_SWAP");  // it goes
}

std::string Runtime::policy() const { return starpu_sched_get_sched_policy()->policy_name; }

int64_t Runtime::swap_bytes() const { return options_.swap.empty() ? 0 : free_bytes(options_.swap); }

std::vector<WorkerInfo> Runtime::workers() const {
    std::vector<WorkerInfo> all;
    for (unsigned i = 0; i < starpu_worker_get_count(); ++i) {
        char name[64];
        starpu_worker_get_name(int(i), name, sizeof name);
        all.push_back(
            {int(i), name, starpu_worker_get_type(int(i)) == STARPU_CUDA_WORKER, starpu_worker_get_memory_node(i)});
    }
    return all;
}
int Runtime::cpu_workers() const { return int(starpu_cpu_worker_get_count()); }
int Runtime::cuda_workers() const { return int(starpu_cuda_worker_get_count()); }

int64_t Runtime::limit_bytes(unsigned node) const {
    if (node == STARPU_MAIN_RAM) {
        const char* limit = std::getenv("STARPU_LIMIT_CPU_MEM");
        return limit ? std::atoll(limit) * mebibyte : 0;
    }
    return std::max<int64_t>(0, starpu_memory_get_total(node));
}

}  // namespace tessera
