#include "core/sends.h"

#include <algorithm>

namespace tessera {

std::vector<std::vector<Send>> sends_of(const Plan& plan, const TaskSchedule& schedule) {
    struct Writer {
        int task = -1;
        uint32_t position = 0;
    };
    std::vector<std::vector<Send>> sends(plan.tasks.size());
    std::vector<Writer> last(plan.tiles.size());
    const auto place = [&](int task) { return schedule.tasks[size_t(task)].place; };
    const auto read = [&](int number, int tile, bool next_step) {
        const Writer& w = last[size_t(tile)];
        if (w.task < 0 || (next_step && w.task <= number)) return;  // no writer, or seen in the first round
        const int from = place(w.task), to = place(number);
        if (from < 0 || to < 0 || from == to) return;
        auto& all = sends[size_t(w.task)];
        const auto same = [&](const Send& s) { return s.position == w.position && s.node == to; };
        if (std::none_of(all.begin(), all.end(), same)) all.push_back({w.position, to, number, next_step});
    };
    for (const bool next_step : {false, true})  // the second: what tasks read that the step before has written
        for (size_t i = 0; i < plan.tasks.size(); ++i) {
            const TaskSpec& t = plan.tasks[i];
            for (const TileUse& u : t.tiles)
                if (u.access != Access::write) read(int(i), u.tile, next_step);
            for (size_t k = 0; k < t.tiles.size(); ++k)
                if (t.tiles[k].access != Access::read) last[size_t(t.tiles[k].tile)] = {int(i), uint32_t(k)};
        }
    return sends;
}

}  // namespace tessera
