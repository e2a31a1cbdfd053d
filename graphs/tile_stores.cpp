#include "graphs/tile_stores.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "core/error.h"
#include "core/plan.h"

namespace tessera {
namespace {

constexpr int64_t page = SwapFile::alignment;

struct Free {
    void operator()(void* p) const { std::free(p); }
};
using PageBuffer = std::unique_ptr<std::byte, Free>;
PageBuffer page_buffer(int64_t bytes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, size_t(page), size_t(bytes)) != 0)
        throw Error("out of memory for a tile of " + std::to_string(bytes) + " bytes");
    return PageBuffer(static_cast<std::byte*>(memory));
}
bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % uintptr_t(page) == 0; }

}  // namespace

SwapStore::SwapStore(const std::filesystem::path& folder, TiledShape shape)
    : shape_(shape),
      slot_bytes_((shape.tile_bytes() + page - 1) / page * page),
      file_(folder, slot_bytes_ * shape.tiles_down() * shape.tiles_across()) {}

void SwapStore::read(int64_t i, int64_t j, void* to) {
    const int64_t bytes = shape_.tile_bytes();
    if (aligned(to)) file_.read(offset(i, j), bytes, to);
    else {
        const PageBuffer buffer = page_buffer(slot_bytes_);
        file_.read(offset(i, j), bytes, buffer.get());
        std::memcpy(to, buffer.get(), size_t(bytes));
    }
    read_bytes += bytes;
}

void SwapStore::write(int64_t i, int64_t j, const void* from) {
    const int64_t bytes = shape_.tile_bytes();
    if (aligned(from)) file_.write(offset(i, j), bytes, from);
    else {
        const PageBuffer buffer = page_buffer(slot_bytes_);
        std::memcpy(buffer.get(), from, size_t(bytes));
        file_.write(offset(i, j), bytes, buffer.get());
    }
    written_bytes += bytes;
}

double SwapStore::fill(const std::function<double(int64_t, int64_t)>& element) {
    const PageBuffer tile = page_buffer(slot_bytes_);
    std::chrono::duration<double> writing{0};
    const auto fill_tile = [&]<class T>(int64_t i, int64_t j) {
        T* to = reinterpret_cast<T*>(tile.get());
        for (int64_t r = 0; r < shape_.tile_rows; ++r)
            for (int64_t c = 0; c < shape_.tile_cols; ++c) {
                const int64_t row = i * shape_.tile_rows + r, col = j * shape_.tile_cols + c;
                const bool inside = row < shape_.rows && col < shape_.cols;
                *to++ = inside ? T(Compute<T>(element(row, col))) : T(0.f);
            }
    };
    for (int64_t i = 0; i < shape_.tiles_down(); ++i)
        for (int64_t j = 0; j < shape_.tiles_across(); ++j) {
            dispatch<float, double, bf16>(shape_.dtype, "swap",
                                          [&]<class T>() { fill_tile.template operator()<T>(i, j); });
            const auto start = std::chrono::steady_clock::now();
            file_.write(offset(i, j), shape_.tile_bytes(), tile.get());
            writing += std::chrono::steady_clock::now() - start;
        }
    return writing.count();
}

void SwapStore::read_rows(int64_t row, int64_t rows, double* to) {
    const PageBuffer tile = page_buffer(slot_bytes_);
    for (int64_t i = row / shape_.tile_rows; i * shape_.tile_rows < row + rows; ++i)
        for (int64_t j = 0; j < shape_.tiles_across(); ++j) {
            file_.read(offset(i, j), shape_.tile_bytes(), tile.get());
            dispatch<float, double, bf16>(shape_.dtype, "swap", [&]<class T>() {
                const T* from = reinterpret_cast<const T*>(tile.get());
                for (int64_t r = 0; r < shape_.tile_rows; ++r)
                    for (int64_t c = 0; c < shape_.tile_cols; ++c) {
                        const int64_t at = i * shape_.tile_rows + r - row, col = j * shape_.tile_cols + c;
                        if (at >= 0 && at < rows && col < shape_.cols)
                            to[at * shape_.cols + col] = double(Compute<T>(from[r * shape_.tile_cols + c]));
                    }
            });
        }
}

namespace {

// The part of tile (i, j) that lies inside the matrix.
struct Inside {
    int64_t row, col, rows, cols;
    Inside(const TiledShape& s, int64_t i, int64_t j)
        : row(i * s.tile_rows),
          col(j * s.tile_cols),
          rows(std::min(s.tile_rows, s.rows - row)),
          cols(std::min(s.tile_cols, s.cols - col)) {}
};

}  // namespace

NpySource::NpySource(const std::filesystem::path& path, int64_t tile_rows, int64_t tile_cols)
    : reader_(path), shape_{reader_.rows(), reader_.cols(), tile_rows, tile_cols, reader_.dtype()} {}

void NpySource::read(int64_t i, int64_t j, void* to) {
    const Inside part(shape_, i, j);
    if (part.rows < shape_.tile_rows || part.cols < shape_.tile_cols) std::memset(to, 0, size_t(shape_.tile_bytes()));
    reader_.read(part.row, part.col, part.rows, part.cols, to, shape_.tile_cols);
    read_bytes += part.rows * part.cols * bytes_of(shape_.dtype);
}
void NpySource::write(int64_t, int64_t, const void*) { throw std::logic_error("an .npy source is not written"); }

NpySink::NpySink(const std::filesystem::path& path, TiledShape shape)
    : shape_(shape), writer_(path, shape.dtype, shape.rows, shape.cols) {}

void NpySink::read(int64_t, int64_t, void*) { throw std::logic_error("an .npy sink is not read"); }
void NpySink::write(int64_t i, int64_t j, const void* from) {
    const Inside part(shape_, i, j);
    writer_.write(part.row, part.col, part.rows, part.cols, from, shape_.tile_cols);
    written_bytes += part.rows * part.cols * bytes_of(shape_.dtype);
}

}  // namespace tessera
