// random.h - the reference's own counter-based generator. The trainer under test implements the same formulas
// independently (splitmix64's finaliser, Steele, Lea and Flood 2014; all arithmetic modulo 2^64):
//   mix(z):  z += 0x9E3779B97F4A7C15;  z = (z ^ z>>30) * 0xBF58476D1CE4E5B9;  z = (z ^ z>>27) * 0x94D049BB133111EB;
//            return z ^ z>>31
#pragma once
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace tessera::reference {

inline uint64_t mix(uint64_t z) {
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

// 64 bits that depend on nothing but their place: bits = mix(mix(seed ^ mix(stream)) + index).
inline uint64_t bits(uint64_t seed, uint64_t stream, uint64_t index) { return mix(mix(seed ^ mix(stream)) + index); }

// In [0, 1), a multiple of 2^-24 and so exact: (bits >> 40) * 2^-24.
inline float uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return float(bits(seed, stream, index) >> 40) * 0x1p-24f;
}

// The order of n samples in an epoch, by Fisher and Yates: from the identity, for i = n-1 down to 1 swap p[i] with
// p[j], j = bits(seed, 0x5348554646 ^ epoch, i) mod (i + 1). Batch k of B is p[k B], ..., p[k B + B - 1]; the last is
// short.
inline std::vector<int64_t> permutation(uint64_t seed, int64_t epoch, int64_t n) {
    std::vector<int64_t> p(static_cast<size_t>(n));
    std::iota(p.begin(), p.end(), int64_t{0});
    for (int64_t i = n - 1; i >= 1; --i) {
        const uint64_t j = bits(seed, 0x5348554646u ^ uint64_t(epoch), uint64_t(i)) % uint64_t(i + 1);
        std::swap(p[size_t(i)], p[size_t(j)]);
    }
    return p;
}

}  // namespace tessera::reference
