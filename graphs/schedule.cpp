#include "graphs/schedule.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace tessera {

Schedule parse_schedule(const std::string& text) {
    const size_t colon = text.find(':');
    const std::string kind = text.substr(0, colon);
    Schedule s;
    if (kind == "constant") s.kind = Schedule::Kind::constant;
    else if (kind == "step") s.kind = Schedule::Kind::step;
    else if (kind == "cosine") s.kind = Schedule::Kind::cosine;
    else throw UsageError("unknown schedule '" + kind + "'", suggestion_or_list(kind, {"constant", "step", "cosine"}));
    if (colon == std::string::npos) return s;
    const std::string warmup = text.substr(colon + 1);
    if (warmup.empty() || warmup.size() > 9 || warmup.find_first_not_of("0123456789") != std::string::npos)
        throw UsageError("schedule '" + text + "': warm-up '" + warmup + "' is not a number of steps");
    s.warmup_steps = std::stoll(warmup);
    return s;
}

double learning_rate(const Schedule& s, double base, int64_t step, int64_t steps_per_epoch, int64_t epochs) {
    double rate = step < s.warmup_steps ? base * double(step + 1) / double(s.warmup_steps) : base;
    if (s.kind == Schedule::Kind::step) {
        const int64_t epoch = step / steps_per_epoch;
        for (int64_t drop : {epochs / 3, 2 * epochs / 3})
            if (drop > 0 && epoch >= drop) rate *= 0.1;
    }
    if (s.kind == Schedule::Kind::cosine && step >= s.warmup_steps) {
        const int64_t length = epochs * steps_per_epoch - s.warmup_steps, done = step - s.warmup_steps;
        if (done >= length) return 0;
        rate = base * (1 + std::cos(std::numbers::pi * double(done) / double(length))) / 2;
    }
    return rate;
}

}  // namespace tessera
