// apps/all_ops.h - plans that together hold every codelet of the program at the sizes declared in all_ops.cpp: what
// `tessera calibrate --all` measures. They are never run as a whole: their graphs' inputs come from nowhere.
#pragma once
#include <array>
#include <vector>

#include "codelets/load.h"
#include "codelets/ops.h"
#include "core/plan.h"

namespace tessera {

// Made-up samples in host memory.
struct Pictures {
    std::vector<uint8_t> bytes;
    std::vector<int32_t> labels;
    std::vector<float> mean, scale;
    BatchSource source;
};

struct AllOps {
    static constexpr int64_t samples = 2048;

    AllOps();
    AllOps(const AllOps&) = delete;  // the plans point to what is beside them

    std::vector<Plan> plans;
    Step step() const;  // with the samples that the plans' loading tasks gather

 private:
    std::array<Pictures, 3> pictures_;
    std::vector<int64_t> batch_;
    Sink sink_;
};

}  // namespace tessera
