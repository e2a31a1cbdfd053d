// data/matrix_file.h - matrices in files, by blocks and from several threads at once: .npy files of two extents, C
// order, f32 ('<f4') or f64 ('<f8'), and swap files without a name. Offsets and leading dimensions of blocks are in
// elements.
#pragma once
#include <filesystem>
#include <string>

#include "core/file.h"
#include "core/types.h"

namespace tessera {

struct MatrixLayout {
    std::string path;
    DType dtype = DType::f32;
    int64_t rows = 0, cols = 0, start = 0;  // start: the byte where element (0, 0) lies
};

// Checks the header and that the file has exactly as many bytes as it says, and reads nothing else. Throws Error naming
// the file, what it holds and what is wanted.
class MatrixReader {
 public:
    explicit MatrixReader(const std::filesystem::path& path);
    int64_t rows() const { return layout_.rows; }
    int64_t cols() const { return layout_.cols; }
    DType dtype() const { return layout_.dtype; }
    const std::string& path() const { return layout_.path; }
    // The block of rows x cols at (row, col) to `to`, whose rows lie ld >= cols elements apart. Throws Error if the
    // file cannot be read or has shrunk, std::invalid_argument if the block is not inside the matrix.
    void read(int64_t row, int64_t col, int64_t rows, int64_t cols, void* to, int64_t ld) const;

 private:
    MatrixLayout layout_;
    Descriptor file_;
};

// The file appears under its name at finish(), whole; until then, and without finish(), only AtomicFile's temporary is
// there. All space is taken at once: a full disk is an Error of the constructor. Unwritten elements are 0.
class MatrixWriter {
 public:
    MatrixWriter(const std::filesystem::path& path, DType dtype, int64_t rows, int64_t cols);
    void write(int64_t row, int64_t col, int64_t rows, int64_t cols, const void* from, int64_t ld);
    void finish();  // after the last write has returned

 private:
    MatrixLayout layout_;
    AtomicFile file_;
    Descriptor positional_;  // the same file, for writes at any place
};

// A file without a name in `folder`, which goes away with the process however it ends. All space is taken at once. I/O
// goes past the page cache (O_DIRECT) where the file system can, else the cache is emptied behind large transfers.
// Throws Error: folder missing or read-only; too little space, with the bytes needed and free.
class SwapFile {
 public:
    static constexpr int64_t alignment = 4096;  // of offsets and buffers, in bytes; sizes of transfers are free
    SwapFile(const std::filesystem::path& folder, int64_t bytes);
    bool direct() const { return direct_; }
    int64_t bytes() const { return bytes_; }  // as asked for, rounded up to the alignment
    void read(int64_t offset, int64_t bytes, void* to) const;
    // Up to the next multiple of the alignment the file is filled with zeros.
    void write(int64_t offset, int64_t bytes, const void* from);

 private:
    void check(int64_t offset, int64_t bytes, const void* buffer) const;
    void drop_cached(int64_t offset, int64_t bytes) const;
    std::string name_;  // for messages
    int64_t bytes_;
    Descriptor file_;
    bool direct_ = false;
};

}  // namespace tessera
