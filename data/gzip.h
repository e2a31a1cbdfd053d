// data/gzip.h - gzip in memory (RFC 1952, any number of members), with a limit on what comes out.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tessera {

bool is_gzip(std::span<const uint8_t> bytes);

// The inflated bytes. Memory grows with what is really inflated, never with what a header promises. Throws Error naming
// `file` if the stream is damaged, ends early, has bytes after its end, or inflates to more than `limit_bytes`.
std::vector<uint8_t> inflate(std::span<const uint8_t> bytes, int64_t limit_bytes, const std::string& file);

}  // namespace tessera
