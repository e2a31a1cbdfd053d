// tests/fuzz/fuzz_npy.cpp - .npy arrays and pairs of them. The first byte says where the features end and the labels
// begin. tessera::Error of one line is the normal answer to damaged input; anything else is a bug.
#include "data/npy.h"
#include "tests/fuzz/only_errors.h"

using namespace tessera;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const std::span<const uint8_t> bytes(data + 1, size - 1);
    const size_t cut = bytes.size() * data[0] / 255;
    only_errors([&] { parse_npy(bytes, "fuzz"); });
    only_errors([&] { parse_npy_dataset(bytes.first(cut), "x", bytes.subspan(cut), "y").check(); });
    return 0;
}
