// Any bytes either parse into a header that tiles the data, or are refused with a line naming the file.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "data/safetensors.h"

static void require(bool ok) {
    if (!ok) std::abort();
}

static void parse(std::span<const uint8_t> start, int64_t file_bytes) {
    try {
        const tessera::SafetensorsHeader header = tessera::parse_safetensors(start, file_bytes, "fuzz");
        int64_t position = 0;
        for (const tessera::TensorRecord& t : header.tensors) {
            require(t.begin == position && t.end >= t.begin);
            position = t.end;
        }
        require(header.data_start + position == file_bytes);
    } catch (const tessera::Error& e) {
        const std::string what = e.what();
        require(what.find("'fuzz'") != std::string::npos && what.find('\n') == std::string::npos && what.size() < 3000);
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    parse({data, size}, int64_t(size));
    // The same bytes as a header with an honest length and a few lengths of data behind it.
    std::vector<uint8_t> file(8 + size);
    const uint64_t length = size;
    memcpy(file.data(), &length, 8);
    if (size > 0) memcpy(file.data() + 8, data, size);
    for (int64_t data_bytes : {0, 4, 12, 24}) parse(file, int64_t(file.size()) + data_bytes);
    return 0;
}
