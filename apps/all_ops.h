// apps/all_ops.h - the plans of all examples (core/examples.h), which together hold every codelet of the program: what
// `tessera calibrate --all` measures. They are never run as a whole: their graphs' inputs come from nowhere.
#pragma once
#include <vector>

#include "core/examples.h"
#include "core/plan.h"

namespace tessera {

struct AllOps {
    AllOps();
    AllOps(const AllOps&) = delete;  // the plans point to what is beside them

    std::vector<Plan> plans;
    Step step() const;  // with the samples that the plans' loading tasks gather

 private:
    ExampleObjects objects_;
    std::vector<int64_t> batch_;
};

}  // namespace tessera
