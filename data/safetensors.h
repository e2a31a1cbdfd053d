// safetensors: u64 little-endian header length, JSON header {name: {dtype, shape, data_offsets}, ...} with an optional
// "__metadata__" of strings, then the tensors' bytes, row-major, without gaps. Every field is checked before it is
// used.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/file.h"

namespace tessera {

struct TensorRecord {
    std::string name, dtype;     // dtype: F32 F64 BF16 I32 I64 U8 U64
    std::vector<int64_t> shape;  // [] is a scalar; an extent may be 0
    int64_t begin = 0, end = 0;  // bytes in the data part
    int64_t bytes() const { return end - begin; }
};

using SafetensorsMetadata = std::map<std::string, std::string>;

struct SafetensorsHeader {
    SafetensorsMetadata metadata;
    std::vector<TensorRecord> tensors;  // in the order of their data
    int64_t data_start = 0;
};

// Size of an element of a safetensors dtype, 0 if Tessera does not know it.
int64_t safetensors_element_bytes(std::string_view dtype);

// Reads the header from the first bytes of a file of `file_bytes` bytes; `file_start` must reach the header's end.
// Throws Error naming `source` (a path), the tensor and the numbers if anything is not as the format says: lengths
// against the file, dtypes, shapes against offsets, gaps, overlaps, duplicates, a header above 100 MB.
SafetensorsHeader parse_safetensors(std::span<const uint8_t> file_start, int64_t file_bytes, std::string_view source);

// Opens a file and checks its header; tensors are read on demand, also from several threads at once.
class SafetensorsReader {
 public:
    explicit SafetensorsReader(const std::filesystem::path& path);
    SafetensorsReader(const SafetensorsReader&) = delete;
    SafetensorsReader& operator=(const SafetensorsReader&) = delete;
    const SafetensorsHeader& header() const { return header_; }
    const TensorRecord* find(std::string_view name) const;  // nullptr if absent
    // record.bytes() bytes to `dest`; `record` is one of this header.
    void read(const TensorRecord& record, void* dest) const {
        read_at(header_.data_start + record.begin, dest, record.bytes());
    }

 private:
    void read_at(int64_t offset, void* dest, int64_t bytes) const;
    std::string source_;
    Descriptor file_;
    SafetensorsHeader header_;
    std::unordered_map<std::string_view, const TensorRecord*> by_name_;
};

// Streams tensors in the order of `tensors` (their begin and end are computed here) to a file that appears at
// commit(). Throws Error if a write comes out of order or with a wrong size, or if commit() comes too early.
class SafetensorsWriter {
 public:
    SafetensorsWriter(const std::filesystem::path& path, const SafetensorsMetadata& metadata,
                      const std::vector<TensorRecord>& tensors);
    void write(std::string_view name, const void* data, int64_t bytes);
    void commit();

 private:
    std::string source_;
    std::vector<TensorRecord> tensors_;
    std::string header_;
    AtomicFile file_;
    size_t next_ = 0;
};

}  // namespace tessera
