// core/pieces.h - how StarPU 1.4 allocates tiles in a GPU's memory (its datawizard/malloc.h): those of up to 4 MiB are
// cut from pieces of 32 MiB, larger ones are allocated one by one, and all of them with STARPU_SUBALLOCATOR=0.
#pragma once
#include <cstdint>
#include <cstdlib>

namespace tessera {

inline constexpr int64_t piece_bytes = 32 << 20;

inline bool cut_from_pieces() {
    const char* wanted = std::getenv("STARPU_SUBALLOCATOR");
    return !wanted || std::atoi(wanted) != 0;
}

// A tile with its part of what its piece cannot use.
inline int64_t allocated_bytes(int64_t tile_bytes, bool pieces) {
    constexpr int64_t unit = 16 << 10;
    if (!pieces || tile_bytes > piece_bytes / 8 || tile_bytes <= 0) return tile_bytes;
    return piece_bytes / (piece_bytes / ((tile_bytes + unit - 1) / unit * unit));
}

// Of a memory that holds such tiles.
inline int64_t usable_bytes(int64_t memory_bytes, int64_t tile_bytes, bool pieces) {
    const bool cut = pieces && tile_bytes <= piece_bytes / 8;
    return cut ? memory_bytes / piece_bytes * piece_bytes : memory_bytes;
}

}  // namespace tessera
