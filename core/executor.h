// core/executor.h - the only part that gives work to StarPU: makes handles, submits a plan every step without waiting,
// limits the steps in flight, and turns the first failure inside a task into an exception in the calling thread.
#pragma once
#include <starpu.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "core/blocks.h"
#include "core/body.h"
#include "core/plan.h"
#include "core/runtime.h"
#include "core/scheduler.h"
#include "core/sends.h"
#include "core/tile_handles.h"

namespace tessera {

class Trace;

struct ExecutorOptions {
    bool deterministic = false;  // plan order for accumulations, implementation 0: same bits under every policy
    bool serial = false;         // one node after another, as frameworks run
    bool check_nan = false;      // look at every written tile
    int64_t steps_in_flight = 3;
    bool reuse = true;               // of memory within a step, where it may be short or costs nothing (core/reuse.h)
    bool in_place = true;            // false: StarPU allocates every tile, so that it may evict to disk
    int forced_implementation = -1;  // every body's implementation number, for tests
    Trace* trace = nullptr;          // records every task; must outlive the executor
    // Given: products of plans that do not fit into one of these memories are computed in blocks (core/blocks.h).
    std::vector<BlockDevice> devices = {};
    // Given: looks at every plan that is loaded and may say where its tasks run, and in which order (Plan::schedules).
    std::function<void(Plan&)> planner = {};
};

struct LoadOptions {
    bool share = false;   // tiles that the plan writes before it reads them also serve other plans loaded so: their
                          // values are gone when another plan has run
    bool planned = true;  // false: not worth ExecutorOptions::planner
};

// Time of the tasks of one (codelet, footprint) of a plan on one kind of worker.
struct ClassTime {
    const CodeletInfo* codelet;
    int64_t tasks_per_step;
    Timing cpu;
    Cost cost;  // of one task
};

class Executor {
 public:
    static constexpr int64_t most_submitted = 20000;  // tasks: bounds StarPU's own memory within one very long step

    Executor(const Runtime&, ExecutorOptions);
    ~Executor();
    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;

    // Takes a plan and makes its handles; returns its number. Throws Error if a memory limit is below its largest task,
    // or no worker can run one of its codelets.
    int load(Plan, LoadOptions = {});
    int plans() const { return int(loaded_.size()); }
    const Plan& plan(int number) const { return loaded_[size_t(number)]->plan; }
    // Whether a plan's schedules have been tried, so that its steps go by the fastest; and that one, or null.
    bool settled(int number) const;
    const TaskSchedule* schedule(int number) const;

    // Submits one step. Blocks only while more than steps_in_flight steps are unfinished. Throws what failed in a task.
    void submit(int number, const Step&);
    void wait();                                  // until all is done; throws what failed in a task
    void drain() { starpu_task_wait_for_all(); }  // until all is done; failures stay for the next call that throws
    bool failed() const { return run_.error.failed(); }
    int64_t failures() const { return run_.error.reports(); }  // since the start; none is forgotten when it is thrown

    // Row-major values of a Param, or of a value of the last submitted step of a plan. Wait for their tasks only.
    void read(const Param&, void* to);
    void write(const Param&, const void* from);
    std::vector<double> read(const Param&);
    std::vector<double> read(int number, Tensor);
    void write(int number, Tensor, const std::vector<double>&);
    void release(const Param&);  // forgets its storage
    // Waits until the values of a Param lie in host memory and nothing works on them.
    void bring_home(const Param&);
    // For memory that its owner has changed: only what lies in host memory counts from now on.
    void changed_at_home(const Param&);

    // For those who submit tasks of their own on our tiles.
    starpu_data_handle_t handle(int number, int tile) const {
        return loaded_[size_t(number)]->tile_handles[0][size_t(tile)];
    }

    // Bytes of handles allocated now, per memory node.
    std::vector<int64_t> live_bytes() const;
    std::vector<ClassTime> class_times(int number) const;
    std::vector<double> busy_s() const;  // per worker, in bodies (CPU) since the start
    int64_t submitted_tasks() const { return submitted_; }
    const ExecutorOptions& options() const { return options_; }

 private:
    using Handles = std::vector<starpu_data_handle_t>;
    struct ParamStorage {
        void* memory = nullptr;  // null: StarPU's own
        bool ours = false;       // allocated here
        bool pinned = false;     // the user's, pinned here
        Handles tiles;
    };
    struct PreparedTask {
        starpu_codelet* codelet;
        const char* name;
        const TaskSpec* spec;
        uint32_t footprint;
        uint32_t first_handle, count;
        bool last_of_node;
    };
    // What a schedule tells StarPU and policies about tasks.
    struct Scheduled {
        std::vector<int> priorities, turns;  // turns: none without a planner
        std::vector<TaskHint> hints;
        std::vector<std::vector<Send>> sends;
    };
    struct Loaded {
        Plan plan;
        PlanState state;
        std::vector<std::string> names;  // of nodes
        std::vector<PreparedTask> tasks;
        std::vector<Scheduled> schedules;  // as the plan has them, or one without
        ScheduleTrial trial;
        std::vector<starpu_data_access_mode> modes;
        std::vector<Handles> handles;       // [copy][position], flat over all tasks
        std::vector<Handles> tile_handles;  // [copy][tile]
        std::vector<bool> gone;             // tiles whose memory others have taken when a step is done
        Handles owned;
        int64_t steps = 0;
    };

    // StarPU's mutex and condition: under simulation its threads are not the system's.
    struct InFlight {
        InFlight() { starpu_pthread_mutex_init(&mutex, nullptr), starpu_pthread_cond_init(&one_finished, nullptr); }
        ~InFlight() { starpu_pthread_cond_destroy(&one_finished), starpu_pthread_mutex_destroy(&mutex); }
        starpu_pthread_mutex_t mutex;
        starpu_pthread_cond_t one_finished;
    };
    struct UnfinishedStep {
        InFlight* all;
        Trace* trace;
        Loaded* loaded;
        Scheduled* schedule;
        size_t schedule_number;
        int64_t number;
        int plan;
        std::atomic<int64_t> tasks_left;
        bool finished = false;  // under the mutex
    };

    ParamStorage& storage(const Param&);
    static void drop_storage(const Param&, ParamStorage&);
    void check_host_memory(const Plan&) const;
    void check_limits(const Plan&) const;
    void check_swap(const Plan&);
    void check_workers(const Plan&) const;
    bool wants_reuse(const Plan&) const;
    void prepare(Loaded&, bool share);
    void prepare_schedules(Loaded&) const;
    size_t schedule_of_next_step(const Loaded&) const;
    void end_turn();
    void submit_task(Loaded&, size_t index, const starpu_data_handle_t* handles, const Step&, UnfinishedStep&);
    void throw_first_error();
    template <class F>
    void each_tile(const Param&, starpu_data_access_mode, F&&);

    const Runtime& runtime_;
    ExecutorOptions options_;
    RunState run_;
    TileHandles tile_handles_;
    std::vector<std::unique_ptr<Loaded>> loaded_;
    // Tiles that plans share, by rows, columns and type: a step of one plan waits for the other's where they meet.
    std::map<std::tuple<int64_t, int64_t, DType>, Handles> shared_;
    std::unordered_map<const Param*, ParamStorage> params_;
    std::mutex params_mutex_;              // a checkpoint is read by another thread
    starpu_data_handle_t turn_ = nullptr;  // with `serial`: read by all tasks of a node, written between nodes
    int64_t submitted_ = 0, steps_ = 0, tile_bytes_ = 0;
    static void send_written(const UnfinishedStep&, starpu_task*);
    static void task_finished(void* unfinished_step);
    void wait_for_place();
    mutable InFlight in_flight_;
    std::deque<std::unique_ptr<UnfinishedStep>> unfinished_;
};

}  // namespace tessera
