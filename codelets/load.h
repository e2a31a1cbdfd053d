// codelets/load.h - samples in host memory from which batches are gathered. Filled by whoever read the files.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tessera {

// feature(s, f) = (bytes[s * features + f] / 255 - mean[f % channels]) * scale[f % channels], or values[s * features +
// f]. Images are height x width x channels, channels last. The pointers must stay valid while steps that read them are
// in flight.
struct BatchSource {
    const uint8_t* bytes = nullptr;
    const float* values = nullptr;
    const int32_t* labels = nullptr;
    int64_t count = 0, features = 0, channels = 1;
    const float *mean = nullptr, *scale = nullptr;
    int64_t height = 0, width = 0;  // 0: not known to be images
};

// All that a byte of each channel can become: [channel][byte]. This thread's until it asks again.
template <class T>
const std::array<T, 256>* values_of_bytes(const BatchSource& s) {
    thread_local std::vector<std::array<T, 256>> table;
    table.resize(size_t(s.channels));
    for (int64_t c = 0; c < s.channels; ++c)
        for (int b = 0; b < 256; ++b) table[size_t(c)][size_t(b)] = T((float(b) / 255 - s.mean[c]) * s.scale[c]);
    return table.data();
}

// What load_images does to the images of a batch, anew in every step: a crop of the wanted size out of the image with
// `pad` black pixels around it, all places equally likely, then the mirror image with probability 1/2. Black is byte 0
// (0, where features are values), as torchvision pads before it normalises.
struct Augmentation {
    int64_t pad = 0;
    bool flip = false;
};

}  // namespace tessera
