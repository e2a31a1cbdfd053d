#include "apps/all_ops.h"

#include <stdexcept>

#include "codelets/ops.h"
#include "core/random.h"

namespace tessera {
namespace {

Plan plan_of(const Example& example, DType type, const std::function<void(ExampleGraph&)>& build,
             ExampleObjects& objects) try {
    ExampleGraph e(
        type, [](Tensor a, Tensor b) { return add(a, b); }, objects);
    build(e);
    Plan plan(e.graph);
    if (plan.tasks.empty()) throw std::logic_error("it keeps nothing");
    return plan;
} catch (const std::exception& e) {
    throw std::logic_error("the Example in " + example.file + ", in " + std::string(name_of(type)) + ": " + e.what());
}

}  // namespace

AllOps::AllOps() {
    for (const Example* example : all_examples())
        for (DType type : example->types)
            for (const auto& build : example->builds) plans.push_back(plan_of(*example, type, build, objects_));
    for (int64_t i = 0; i < example_batch; ++i)
        batch_.push_back(int64_t(random_bits(7, 1, uint64_t(i)) % example_samples));
}

Step AllOps::step() const {
    Step step;
    step.learning_rate = 0.01;
    step.batch = batch_.data();
    return step;
}

}  // namespace tessera
