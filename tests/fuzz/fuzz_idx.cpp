// tests/fuzz/fuzz_idx.cpp - IDX arrays and MNIST pairs. The first byte says where the images end and the labels begin.
#include "data/idx.h"
#include "tests/fuzz/only_errors.h"

using namespace tessera;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const std::span<const uint8_t> bytes(data + 1, size - 1);
    const size_t cut = bytes.size() * data[0] / 255;
    only_errors([&] { parse_idx(bytes, "fuzz"); });
    only_errors([&] { parse_mnist(bytes.first(cut), "images", bytes.subspan(cut), "labels").check(); });
    return 0;
}
