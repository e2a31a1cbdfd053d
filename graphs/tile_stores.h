// graphs/tile_stores.h - where products that do not fit into host memory keep their matrices: .npy files of the user's,
// or files without a name in a swap folder.
#pragma once
#include <atomic>
#include <functional>

#include "codelets/tile_io.h"
#include "data/matrix_file.h"

namespace tessera {

// Counts what it moves.
struct CountedStore : TileStore {
    std::atomic<int64_t> read_bytes{0}, written_bytes{0};
};

// Extents of a matrix and of the tiles that it is cut into; the last ones are padded with zeros.
struct TiledShape {
    int64_t rows = 0, cols = 0, tile_rows = 0, tile_cols = 0;
    DType dtype = DType::f32;
    int64_t tiles_down() const { return (rows + tile_rows - 1) / tile_rows; }
    int64_t tiles_across() const { return (cols + tile_cols - 1) / tile_cols; }
    int64_t tile_bytes() const { return tile_rows * tile_cols * bytes_of(dtype); }
};

// Tile after tile in a SwapFile. Throws what SwapFile throws.
class SwapStore : public CountedStore {
 public:
    SwapStore(const std::filesystem::path& folder, TiledShape);
    void read(int64_t i, int64_t j, void* to) override;
    void write(int64_t i, int64_t j, const void* from) override;
    // Fills every tile with element(row, col), zeros beyond the matrix; tells the seconds that writing took.
    double fill(const std::function<double(int64_t, int64_t)>& element);
    // Reads whole rows [row, row + rows) as doubles: for checks.
    void read_rows(int64_t row, int64_t rows, double* to);
    const TiledShape& shape() const { return shape_; }

 private:
    int64_t offset(int64_t i, int64_t j) const { return (i * shape_.tiles_across() + j) * slot_bytes_; }
    TiledShape shape_;
    int64_t slot_bytes_;
    SwapFile file_;
};

// A .npy file that is read, or written and then given its name.
class NpySource : public CountedStore {
 public:
    NpySource(const std::filesystem::path& path, int64_t tile_rows, int64_t tile_cols);
    void read(int64_t i, int64_t j, void* to) override;
    void write(int64_t, int64_t, const void*) override;
    const MatrixReader& reader() const { return reader_; }

 private:
    MatrixReader reader_;
    TiledShape shape_;
};
class NpySink : public CountedStore {
 public:
    NpySink(const std::filesystem::path& path, TiledShape);
    void read(int64_t, int64_t, void*) override;
    void write(int64_t i, int64_t j, const void* from) override;
    void finish() { writer_.finish(); }

 private:
    TiledShape shape_;
    MatrixWriter writer_;
};

}  // namespace tessera
