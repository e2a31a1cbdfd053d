// tests/draw.h - random numbers of one seed, one after another.
#pragma once
#include "core/random.h"

namespace tessera {

struct Draw {
    uint64_t seed, next = 0;
    int64_t whole(int64_t low, int64_t high) {
        return low + int64_t(random_bits(seed, 11, next++) % uint64_t(high - low + 1));
    }
    double real(double low, double high) { return low + (high - low) * double(random_uniform(seed, 12, next++)); }
};

}  // namespace tessera
