// core/codelet.cpp - the list of codelets, and what happens around every body: skip, catch, time, look for NaN.
#include "core/codelet.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>

#include "core/body.h"
#include "core/error.h"

namespace tessera {
namespace {

std::vector<CodeletInfo*>& registered() {
    static std::vector<CodeletInfo*> all;
    return all;
}
std::map<const CodeletInfo*, const char*>& sources() {
    static std::map<const CodeletInfo*, const char*> all;
    return all;
}
std::map<std::string_view, const char*>& hashes() {
    static std::map<std::string_view, const char*> all;
    return all;
}

uint32_t footprint_of(starpu_task* task) { return static_cast<const TaskRun*>(task->cl_arg)->footprint; }

int can_execute(unsigned worker, starpu_task* task, unsigned implementation) {
    const TaskRun& task_run = *static_cast<const TaskRun*>(task->cl_arg);
    const RunState& run = *task_run.state->run;
    const TaskSpec& spec = task_run.state->plan->tasks[size_t(task_run.task)];
    // Not through execute_on_a_specific_worker: StarPU then asks for implementation 0 at submission.
    if (spec.worker >= 0 && int(worker) != spec.worker) return 0;
    const bool on_cuda = starpu_worker_get_type(int(worker)) == STARPU_CUDA_WORKER;
    if (run.cuda_first && !on_cuda && spec.codelet->starpu->cuda_funcs[0]) return 0;
    int forced = spec.implementation;
    if (forced < 0) forced = run.forced_implementation;
    if (forced < 0 && !run.first_implementation_only) forced = spec.chosen[on_cuda];
    if (forced >= 0) return int(implementation) == forced;
    return implementation == 0 || !run.first_implementation_only;
}

std::atomic<int64_t> workspace_limit_bytes{int64_t(256) << 20};

}  // namespace

int64_t workspace_limit() { return workspace_limit_bytes; }
void set_workspace_limit(int64_t bytes) { workspace_limit_bytes = bytes; }

void* workspace(int64_t bytes) {
    struct Free {
        void operator()(void* p) const { std::free(p); }
    };
    thread_local std::unique_ptr<void, Free> memory;
    thread_local int64_t size = 0;
    if (bytes > workspace_limit_bytes)
        throw Error("a workspace of " + std::to_string(bytes) +
                    " bytes is needed, more than TESSERA_WORKSPACE allows (" + std::to_string(workspace_limit_bytes) +
                    ")");
    if (bytes > size) {
        memory.reset();
        const size_t rounded = (size_t(bytes) + 4095) / 4096 * 4096;
        memory.reset(std::aligned_alloc(64, rounded));
        size = memory ? int64_t(rounded) : 0;
        if (!memory) throw Error("out of memory for a workspace of " + std::to_string(bytes) + " bytes");
    }
    return memory.get();
}

const std::vector<const CodeletInfo*>& all_codelets() {
    static const std::vector<const CodeletInfo*> sorted = [] {
        std::vector<const CodeletInfo*> all(registered().begin(), registered().end());
        std::sort(all.begin(), all.end(), [](auto* a, auto* b) { return a->name < b->name; });
        for (size_t i = 1; i < all.size(); ++i)
            if (all[i]->name == all[i - 1]->name)
                throw std::logic_error("two codelets are named '" + all[i]->name +
                                       "'; their performance models would mix");
        for (CodeletInfo* c : registered()) {
            if (auto it = sources().find(c); it != sources().end()) c->source = it->second;
            if (auto it = hashes().find(c->source); it != hashes().end()) c->source_hash = it->second;
        }
        return all;
    }();
    return sorted;
}

const CodeletInfo* find_codelet(std::string_view name) {
    for (auto* c : all_codelets())
        if (c->name == name) return c;
    return nullptr;
}

namespace detail {

void register_source(const CodeletInfo& info, const char* path) {
    const char* slash = std::strrchr(path, '/');
    sources()[&info] = slash ? slash + 1 : path;  // the codelet itself may not be constructed yet
}

void register_source_hash(const char* file, const char* hash) { hashes()[file] = hash; }

void register_codelet(const CodeletInfo* info) {
    registered().push_back(const_cast<CodeletInfo*>(info));
    starpu_codelet& codelet = *info->starpu;
    auto* model = new starpu_perfmodel{};  // lives as long as the codelet: for ever
    model->type = STARPU_HISTORY_BASED;
    model->symbol = info->name.c_str();
    model->footprint = footprint_of;
    codelet.model = model;
    codelet.name = info->name.c_str();
    codelet.nbuffers = STARPU_VARIABLE_NBUFFERS;  // modes are chosen per task
    codelet.can_execute = can_execute;
}

static std::string where(const TaskRun& run) {
    const Plan& plan = *run.state->plan;
    const TaskSpec& task = plan.tasks[size_t(run.task)];
    std::string text = task.codelet->name + " in " + plan.nodes[size_t(task.node)].name();
    for (const TileUse& u : task.tiles)
        if (u.access != Access::read) {
            text += ", tile " + plan.describe_tile(u.tile);
            break;
        }
    if (const int worker = starpu_worker_get_id(); worker >= 0) {
        char name[64];
        starpu_worker_get_name(worker, name, sizeof name);
        text += std::string(", on ") + name;
    }
    return text;
}

template <class T>
static bool finite_rows(const void* data, int64_t rows, int64_t cols, int64_t ld) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j)
            if (!std::isfinite(double(static_cast<const T*>(data)[i * ld + j]))) return false;
    return true;
}

static bool finite_tile(const starpu_matrix_interface& m, DType type, bool on_cuda) {
    const void* data = reinterpret_cast<const void*>(m.ptr);
    int64_t ld = m.ld;
    std::vector<std::byte> copy;
    if (on_cuda) {
#ifdef STARPU_USE_CUDA
        copy.resize(size_t(m.nx) * m.ny * m.elemsize);
        cudaStreamSynchronize(starpu_cuda_get_local_stream());
        if (cudaMemcpy2D(copy.data(), m.nx * m.elemsize, data, m.ld * m.elemsize, m.nx * m.elemsize, m.ny,
                         cudaMemcpyDeviceToHost) != cudaSuccess)
            throw Error("cudaMemcpy2D failed while looking for NaN");
        data = copy.data(), ld = m.nx;
#endif
    }
    switch (type) {
        case DType::f32:
            return finite_rows<float>(data, m.ny, m.nx, ld);
        case DType::f64:
            return finite_rows<double>(data, m.ny, m.nx, ld);
        case DType::bf16:
            return finite_rows<bf16>(data, m.ny, m.nx, ld);
        default:
            return true;
    }
}

static void check_finite(const TaskRun& run, void** buffers, bool on_cuda) {
    const Plan& plan = *run.state->plan;
    const TaskSpec& task = plan.tasks[size_t(run.task)];
    for (size_t i = 0; i < task.tiles.size(); ++i) {
        if (task.tiles[i].access == Access::read) continue;
        if (!finite_tile(*static_cast<starpu_matrix_interface*>(buffers[i]), plan.dtype(task.tiles[i].tile), on_cuda))
            throw Error("wrote NaN or infinity to tile " + plan.describe_tile(task.tiles[i].tile));
    }
}

void run_body(void* cl_arg, void** buffers, bool on_cuda, void (*body)(void** buffers, const void* args, int count)) {
    const TaskRun& run = *static_cast<const TaskRun*>(cl_arg);
    PlanState& state = *run.state;
    if (state.run->error.failed()) return;
#ifdef STARPU_USE_CUDA
    // StarPU leaves the error of an allocation that it repeated after evicting; the check after our launch would see
    // it. Faults of kernels last and are seen again.
    if (on_cuda) (void)cudaGetLastError();
#endif
    const int worker = starpu_worker_get_id();
    Activity* const activity = worker >= 0 ? state.run->activity : nullptr;
    if (activity) activity->begin(worker);
    const auto start = std::chrono::steady_clock::now();
    try {
        body(buffers, static_cast<char*>(cl_arg) + args_offset, int(state.plan->tasks[size_t(run.task)].tiles.size()));
        const bool here = !state.plan->tasks[size_t(run.task)].codelet->host_only;  // others may end later
        if (state.run->check_nan && here) check_finite(run, buffers, on_cuda);
    } catch (const std::exception& e) { state.run->error.report(where(run) + ": " + e.what()); } catch (...) {
        state.run->error.report(where(run) + ": something that is no std::exception was thrown");
    }
    if (activity) activity->end(worker);
    if (worker >= 0 && !on_cuda && !state.cpu_times.empty()) {
        Timing& t = state.cpu_times[size_t(worker)][size_t(state.class_of_task[size_t(run.task)])];
        const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        t.least_s = t.count == 0 ? s : std::min(t.least_s, s);
        ++t.count;
        t.sum_s += s;
    }
}

}  // namespace detail

// Some policies count what a worker has done when a task ends, on the worker that ends it: a thread that is none gives
// the end to the worker of the body, as a task of its own.
static void end_on_worker(starpu_task* task, int worker) {
    static starpu_codelet ending = [] {
        starpu_codelet c{};
        c.name = "end_task";
        c.cpu_funcs[0] = [](void**, void* task) { starpu_task_end_dep_release(static_cast<starpu_task*>(task)); };
        return c;
    }();
    starpu_task* end = starpu_task_create();
    end->cl = &ending, end->cl_arg = task;
    end->execute_on_a_specific_worker = 1, end->workerid = unsigned(worker);
    end->priority = task->priority;
    if (starpu_task_submit(end) == 0) return;
    end->destroy = 0;
    starpu_task_destroy(end);
    starpu_task_end_dep_release(task);
}

std::function<void(const std::string&)> end_later() {
    starpu_task* task = starpu_task_get_current();
    starpu_task_end_dep_add(task, 1);
    Activity* const activity = static_cast<const TaskRun*>(task->cl_arg)->state->run->activity;
    if (activity) activity->give();
    const bool anywhere = !starpu_sched_ctx_get_sched_policy(task->sched_ctx)->post_exec_hook;
    return [task, anywhere, activity, worker = starpu_worker_get_id()](const std::string& error) {
        const TaskRun& run = *static_cast<const TaskRun*>(task->cl_arg);
        if (!error.empty()) run.state->run->error.report(detail::where(run) + ": " + error);
        if (activity) activity->take_back();
        if (anywhere) starpu_task_end_dep_release(task);
        else end_on_worker(task, worker);
    };
}

}  // namespace tessera
