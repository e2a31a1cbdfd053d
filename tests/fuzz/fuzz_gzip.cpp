// tests/fuzz/fuzz_gzip.cpp - gzip streams. The output limit comes from the first byte, so that both sides of it are
// reached. tessera::Error of one line is the normal answer to damaged input; anything else is a bug.
#include "data/gzip.h"
#include "tests/fuzz/only_errors.h"

using namespace tessera;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const int64_t limit = int64_t(1) << (data[0] % 22);
    only_errors([&] {
        if (int64_t(inflate({data + 1, size - 1}, limit, "fuzz").size()) > limit) std::abort();
    });
    return 0;
}
