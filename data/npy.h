// data/npy.h - NumPy's .npy files, little endian and C order.
// Layout: "\x93NUMPY", version, header length (2 bytes, from version 2 on 4), a Python dict as text, the elements.
#pragma once
#include <filesystem>
#include <span>

#include "data/dataset.h"

namespace tessera {

enum class NpyType : uint8_t { f32, f64, i32, i64, u8 };

struct Npy {
    NpyType type;
    std::vector<int64_t> shape;     // rank 0 is one element
    std::span<const uint8_t> data;  // into the parsed bytes, unaligned; as many elements as the shape says

    int64_t count() const;
    template <class T>  // float, double or int64_t; floats to int64_t must be in its range
    T at(int64_t i) const;
};

// Throws Error naming `file` if the bytes are not exactly one array of a type above.
Npy parse_npy(std::span<const uint8_t> bytes, const std::string& file);

// X (n, f) or (n, c, h, w) of f32, f64 or u8, and Y (n) of i32, i64 or u8; classes = largest label + 1. Images become
// channels last. u8 is scaled by 1/255. Throws Error naming the file, sample and feature for values not finite in f32.
Dataset parse_npy_dataset(std::span<const uint8_t> x, const std::string& x_file,  //
                          std::span<const uint8_t> y, const std::string& y_file);
Dataset read_npy_dataset(const std::filesystem::path& x, const std::filesystem::path& y);

// What precedes the elements in a file, for writers that stream; a multiple of 64 bytes.
std::string npy_header(NpyType type, const std::vector<int64_t>& shape);

// Writes the file whole or not at all. Throws std::invalid_argument if the shape does not fit the number of values.
void write_npy(const std::filesystem::path& path, std::span<const float> values, const std::vector<int64_t>& shape);
void write_npy(const std::filesystem::path& path, std::span<const double> values, const std::vector<int64_t>& shape);

}  // namespace tessera
