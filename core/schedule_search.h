// core/schedule_search.h - simulated annealing (Kirkpatrick, Gelatt, Vecchi 1983, Science 220) over the places of
// neighbouring tasks and their order. What most changes cost is told from the middle of one step; what may be taken is
// timed in full.
#pragma once
#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "core/list_schedule.h"
#include "core/timeline.h"

namespace tessera {

constexpr double never = std::numeric_limits<double>::infinity();
constexpr int warm_steps = 2;  // after which tiles lie where every further step leaves them, and steps overlap evenly

// What time it is where: of workers, of the two directions of every memory, of shared links, of tiles in every memory.
struct ListScheduler::Clock {
    std::vector<Timeline> worker, sending, receiving, link;
    double end = 0, begin = 0;  // of the step

    Clock(const Plan& plan, const Devices& d)
        : worker(size_t(d.workers())),
          sending(size_t(d.memories())),
          receiving(size_t(d.memories())),
          link(d.link_bytes_per_s.size()),
          memories_(size_t(d.memories())),
          // Everywhere: where weights begin does not last, and what no step writes is fetched once.
          tiles_(plan.tiles.size() * (2 + memories_)) {}

    // What a writer of the tile waits for, and any; when a copy is in each memory. Side by side: they are used so.
    double& read_until(int tile) { return of(tile)[0]; }
    double& written_until(int tile) { return of(tile)[1]; }
    double* valid(int tile) { return of(tile) + 2; }
    double read_until(int tile) const { return of(tile)[0]; }
    double written_until(int tile) const { return of(tile)[1]; }
    const double* valid(int tile) const { return of(tile) + 2; }
    size_t memories() const { return memories_; }
    void begin_step() {
        begin = end;
        for (auto* all : {&worker, &sending, &receiving, &link})
            for (Timeline& t : *all) t.mark();
    }
    // What the step adds: no less than what it takes of anything, for what it puts into idle times of the steps before
    // it leaves none to the next.
    double step_s() const {
        double most = end - begin;
        for (const auto* all : {&worker, &sending, &receiving, &link})
            for (const Timeline& t : *all) most = std::max(most, t.busy_since_mark());
        return most;
    }
    void move(int tile, int to) {
        double* all = valid(tile);
        const double since = *std::min_element(all, all + memories_);
        std::fill(all, all + memories_, never);
        all[to] = since;
    }

 private:
    double* of(int tile) { return tiles_.data() + size_t(tile) * (2 + memories_); }
    const double* of(int tile) const { return tiles_.data() + size_t(tile) * (2 + memories_); }
    size_t memories_;
    std::vector<double> tiles_;
};

class ScheduleSearch {
 public:
    // Moves tasks to the `allowed` ones of all workers only.
    ScheduleSearch(const ListScheduler&, Placement start, const std::vector<bool>& allowed,
                   const std::vector<std::vector<int>>& families, uint64_t seed);
    // The best schedule seen, which may be the first. Warmth falls from the first part of the highest to the last.
    Placement run(int tries, double warmest = 1, double coldest = 0);

 private:
    // A schedule, and its clock before some tasks of a step that follows others like it.
    struct Known {
        Placement placement;
        std::vector<double> rank;      // which gives its order
        std::vector<size_t> position;  // of tasks in the order
        std::vector<ListScheduler::Clock> before;
    };
    static constexpr size_t snapshots = 8;

    size_t pick(size_t count);
    double uniform();
    size_t move();
    size_t move_order(size_t first, size_t end);
    size_t reorder(size_t from, size_t first, size_t end);
    size_t move_tasks(size_t first, size_t end);
    size_t move_families(size_t first, size_t end);
    int place_near(const std::vector<int>& neighbours);
    size_t give(int task, int worker);
    void run_step();
    void time_step();
    void time_in_full();
    bool ends_within(double limit, size_t first);
    bool second_ends_within(double limit, size_t first);
    bool rest_within(double limit, size_t from);

    const ListScheduler& s_;
    const std::vector<std::vector<int>>& families_;
    const size_t tasks_, stride_;
    const uint64_t seed_;
    std::vector<int> workers_;  // that tasks may move to
    uint64_t draw_ = 0;
    std::vector<bool> carries_;  // of tasks: writes what the next step reads before it is written
    std::vector<double> path_;   // of tasks: seconds of the longest path from its start to the step's end
    std::vector<int> carrying_;  // such tasks that the change moves
    std::vector<int> waits_;     // of tasks, in reorder(): how many have to come before
    std::vector<std::pair<double, int>> free_;
    Known now_, next_;
    ListScheduler::Clock clock_, after_first_;
    std::vector<double> to_come_;  // seconds of each worker's tasks that are left of a step
};

}  // namespace tessera
