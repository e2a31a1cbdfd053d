// core/random.h - counter-based random numbers: a pure function of (seed, stream, index), the same on host and device,
// for any tiling and any worker. bits = mix(mix(seed ^ mix(stream)) + index), with the finaliser of splitmix64
// (Steele, Lea, Flood 2014) as mix.
#pragma once
#include <cstdint>

#include "core/types.h"

namespace tessera {

HD inline uint64_t mix64(uint64_t z) {
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
HD inline uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t index) {
    return mix64(mix64(seed ^ mix64(stream)) + index);
}
// In [0, 1), a multiple of 2^-24: exact in f32.
HD inline float random_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return float(random_bits(seed, stream, index) >> 40) * 0x1p-24f;
}

}  // namespace tessera
