// core/schedule_search.h - simulated annealing (Kirkpatrick, Gelatt, Vecchi 1983, Science 220) over the places of
// neighbouring tasks and their order. What most changes cost is told from the middle of one step; what may be taken is
// timed in full.
#pragma once
#include <limits>

#include "core/list_schedule.h"

namespace tessera {

constexpr double never = std::numeric_limits<double>::infinity();
constexpr int warm_steps = 2;  // after which tiles lie where every further step leaves them, and steps overlap evenly

// What time it is where: of workers, of the two directions of every memory, of shared links, of tiles in every memory.
struct ListScheduler::Clock {
    std::vector<double> worker, sending, receiving, link;
    size_t memories;
    std::vector<double> valid_;                     // [tile][memory]: when a copy is there
    std::vector<double> read_until, written_until;  // of tiles: what a writer, and any, waits for
    double end = 0;

    Clock(const Plan& plan, const Devices& d)
        : worker(size_t(d.workers())),
          sending(size_t(d.memories())),
          receiving(size_t(d.memories())),
          link(d.link_bytes_per_s.size()),
          memories(size_t(d.memories())),
          // Everywhere: where weights begin does not last, and what no step writes is fetched once.
          valid_(plan.tiles.size() * memories),
          read_until(plan.tiles.size()),
          written_until(plan.tiles.size()) {}

    double* valid(int tile) { return valid_.data() + size_t(tile) * memories; }
    const double* valid(int tile) const { return valid_.data() + size_t(tile) * memories; }
};

class ScheduleSearch {
 public:
    // Moves tasks to the `allowed` ones of all workers only.
    ScheduleSearch(const ListScheduler&, Placement start, const std::vector<bool>& allowed, uint64_t seed);
    // The best schedule seen, which may be the first.
    Placement run(int tries);

 private:
    // A schedule, and its clock before some tasks of a step that follows others like it.
    struct Known {
        Placement placement;
        std::vector<double> rank;      // which gives its order
        std::vector<size_t> position;  // of tasks in the order
        double begin = 0;
        std::vector<ListScheduler::Clock> before;
    };
    static constexpr size_t snapshots = 8;

    size_t pick(size_t count);
    double uniform();
    size_t move();
    double time_in_full();
    double time_from(size_t first, double limit);

    const ListScheduler& s_;
    const size_t tasks_, stride_;
    const uint64_t seed_;
    std::vector<int> workers_;  // that tasks may move to
    uint64_t draw_ = 0;
    std::vector<bool> carries_;  // of tasks: writes what the next step reads before it is written
    bool carried_ = false;       // the change moves such a task
    Known now_, next_;
    ListScheduler::Clock clock_;
};

}  // namespace tessera
