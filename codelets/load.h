// codelets/load.h - samples in host memory from which batches are gathered. Filled by whoever read the files.
#pragma once
#include <cstdint>

namespace tessera {

// feature(s, f) = (bytes[s * features + f] / 255 - mean[f % channels]) * scale[f % channels], or values[s * features +
// f]. The pointers must stay valid while steps that read them are in flight.
struct BatchSource {
    const uint8_t* bytes = nullptr;
    const float* values = nullptr;
    const int32_t* labels = nullptr;
    int64_t count = 0, features = 0, channels = 1;
    const float *mean = nullptr, *scale = nullptr;
};

}  // namespace tessera
