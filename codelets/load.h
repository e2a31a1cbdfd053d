// codelets/load.h - samples in host memory from which batches are gathered. Filled by whoever read the files.
#pragma once
#include <cstdint>

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

// What load_images does to the images of a batch, anew in every step: a crop of the wanted size out of the image with
// `pad` black pixels around it, all places equally likely, then the mirror image with probability 1/2. Black is byte 0
// (0, where features are values), as torchvision pads before it normalises.
struct Augmentation {
    int64_t pad = 0;
    bool flip = false;
};

}  // namespace tessera
