// models/corun.h - which implementation is best in company: two tasks that share a device slow each other down, each
// implementation in its own way (Pourghassemi, Zhang, Lee, Chandramowlishwaran 2020, arXiv 2005.13823). Such times are
// measured for the pairs that a plan runs side by side most, and kept beside the times alone, never among them
// (MachineFacts::together_us).
#pragma once
#include <functional>

#include "models/machine.h"
#include "models/task_bench.h"

namespace tessera {

// Two classes of tasks of a plan, and for how many seconds of a step they run at the same time.
struct ClassPair {
    size_t first, second;  // first <= second
    double seconds;
};
// On `workers` equal workers that take the ready task with the longest path to the end; the longest first.
std::vector<ClassPair> pairs_side_by_side(const Plan&, const std::vector<size_t>& class_of_task,
                                          const std::vector<double>& times_s, int workers);

struct CoRunOptions {
    int64_t pairs = 8;  // of every plan and device
    bool reset = false;
    std::function<void(int64_t done, int64_t total, const std::string& what)> progress;
};
// Measures the pairs of a plan on every device with two workers or more - cores, a GPU with several streams - where a
// task has a choice of implementations, in all combinations of those that take at most three times the fastest's time
// alone. Needs their times alone. Returns how many combinations it measured.
int64_t measure_together(const Runtime&, Machine&, const Plan&, const Step&, const CoRunOptions&);

struct JointChoice {
    struct Change {
        std::string codelet, arguments;
        int alone, together;  // implementations
    };
    std::vector<Change> changes;
    double alone_s = 0, together_s = 0;  // all tasks of a step in company: as each is best alone, and as chosen
};
// Sets TaskSpec::chosen so that the sum of all tasks' times, in the company that they have, is least: class by class
// while it falls (by over 1 % of a class's time each). Where company was not measured a task takes its time alone.
JointChoice choose_together(Plan&, const Machine&, const ModelDevice&, int workers);

// What two tasks at a time do per second on this device, against one at a time: the mean over what was measured of
// each task's time alone divided by its time in company, twice. 1 if nothing was.
double gain_of_company(const Machine&, const ModelDevice&);

}  // namespace tessera
