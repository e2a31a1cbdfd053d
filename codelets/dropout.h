// codelets/dropout.h - which elements dropout keeps: a function of (seed, step, node, logical index), so that tiles and
// workers do not matter.
#pragma once
#include "codelets/elementwise.h"
#include "core/random.h"

namespace tessera {

// With probability 1 - p; `a` has p, stream (of this node), seed and step.
template <class Args>
HD bool kept(const Args& a, uint64_t index) {
    return double(random_uniform(a.seed, mix64(a.stream) ^ a.step, index)) >= a.p;
}

}  // namespace tessera
