// apps/found_schedules.h - what a search for schedules found, kept in a folder, so that the next run that would search
// the same has it at once.
#pragma once
#include <filesystem>
#include <vector>

#include "core/list_schedule.h"

namespace tessera {

class FoundSchedules {
 public:
    using Times = std::vector<std::vector<double>>;  // [kind of worker][task], in seconds
    static constexpr size_t most_files = 64;         // of them the longest unused go

    // Schedules are taken again while times differ by at most `tolerance` of their sum from those they were made for.
    FoundSchedules(std::filesystem::path folder, double tolerance)
        : folder_(std::move(folder)), tolerance_(tolerance) {}

    // Names a search: by plan, devices and links, everything that decides it but times.
    static uint64_t key(const Plan&, const Devices&, bool ordered, int tries);

    // None if there is no file for the key, or one that is damaged, or made for other times.
    std::vector<TaskSchedule> find(uint64_t key, const Plan&, const Times&) const;
    // Where the folder cannot be written nothing is kept: the next run searches again.
    void keep(uint64_t key, const std::vector<TaskSchedule>&, const Times&) const;

 private:
    std::filesystem::path file(uint64_t key) const;
    void remove_old() const;

    std::filesystem::path folder_;
    double tolerance_;
};

}  // namespace tessera
