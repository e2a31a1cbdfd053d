// core/tile.h - what a codelet body sees: a row-major rows x cols view of one tile, element (i, j) at data[i * ld + j].
// The view's type says how the body uses it: In reads, Out writes all of it, InOut updates, Acc adds a contribution
// (the order of contributions does not matter to the formula), InList reads any number of tiles.
#pragma once
#include <cstdint>
#include <type_traits>

#include "core/types.h"

namespace tessera {

enum class Access : uint8_t { read, write, read_write, accumulate };

template <class T, Access A>
struct View {
    using Element = std::remove_const_t<T>;
    static constexpr Access access = A;
    static constexpr bool is_list = false;
    T* data = nullptr;
    int64_t rows = 0, cols = 0, ld = 0;

    HD int64_t size() const { return rows * cols; }
    HD T& operator()(int64_t i, int64_t j) const { return data[i * ld + j]; }
    HD T* row(int64_t i) const { return data + i * ld; }
};
template <class T>
using In = View<const T, Access::read>;
template <class T>
using Out = View<T, Access::write>;
template <class T>
using InOut = View<T, Access::read_write>;
template <class T>
using Acc = View<T, Access::accumulate>;

// The views live in host memory; a CUDA body launches once per tile.
template <class T>
struct InList {
    using Element = T;
    static constexpr Access access = Access::read;
    static constexpr bool is_list = true;
    const In<T>* items = nullptr;
    int64_t count = 0;
    const In<T>& operator[](int64_t i) const { return items[i]; }
    const In<T>* begin() const { return items; }
    const In<T>* end() const { return items + count; }
};

// Compressed sparse rows: row i holds values[k] at column columns[k], k in [row_start[i], row_start[i + 1]).
template <class T>
struct InCsr {
    using Element = T;
    static constexpr Access access = Access::read;
    static constexpr bool is_list = false;
    const T* values = nullptr;
    const uint32_t *columns = nullptr, *row_start = nullptr;
    int64_t rows = 0, nonzeros = 0;
};

// Work of one task: floating-point operations, and bytes that must at least cross the memory interface.
struct Cost {
    double flops = 0, bytes = 0;
};

// Bytes of the elements of the given views, each counted once.
template <class... V>
double bytes_of_views(const V&... views) {
    return ((double(views.size()) * sizeof(typename V::Element)) + ... + 0.0);
}

struct NoArgs {};

}  // namespace tessera
