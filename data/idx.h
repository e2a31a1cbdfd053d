// data/idx.h - the IDX format of MNIST, unsigned bytes only.
// Layout, big endian: 0 0 8 rank, rank extents of 4 bytes each, then the elements in row-major order.
#pragma once
#include <filesystem>
#include <span>

#include "data/dataset.h"

namespace tessera {

struct Idx {
    std::vector<int64_t> shape;     // 1 to 4 extents, each at least 1
    std::span<const uint8_t> data;  // into the parsed bytes; as many as the shape says
};

// Throws Error naming `file` if the bytes are not exactly one IDX array of unsigned bytes.
Idx parse_idx(std::span<const uint8_t> bytes, const std::string& file);

// Images (n, h, w) and labels (n) in 0..9 from two IDX files, each plain or gzip; feature = byte / 255.
Dataset parse_mnist(std::span<const uint8_t> images, const std::string& images_file,  //
                    std::span<const uint8_t> labels, const std::string& labels_file);

// What is there of train-* and t10k-* in `folder`; see load_data.
Split load_mnist(const std::filesystem::path& folder);
std::vector<std::string> mnist_files(const std::filesystem::path& folder);

}  // namespace tessera
