// graphs/schedule.h - learning-rate schedules. With lr the base rate, S steps in all, E per epoch, W warm-up steps:
//   constant  lr
//   step      lr 0.1^k, k of the epochs floor(epochs/3), floor(2 epochs/3) having begun (never at epoch 0)
//   cosine    lr (1 + cos(pi (s - W) / (S - W))) / 2   (Loshchilov, Hutter 2017)
// each after a linear warm-up, lr (s + 1) / W for s < W.
#pragma once
#include <cstdint>
#include <string>

namespace tessera {

struct Schedule {
    enum class Kind { constant, step, cosine } kind = Kind::constant;
    int64_t warmup_steps = 0;
};

// "constant", "step", "cosine", each with ":N" warm-up steps. Throws UsageError.
Schedule parse_schedule(const std::string& text);

double learning_rate(const Schedule&, double base, int64_t step, int64_t steps_per_epoch, int64_t epochs);

}  // namespace tessera
