// data/gzip.cpp - zlib's inflate in a loop over output blocks and gzip members.
#include "data/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <climits>

#include "core/error.h"

namespace tessera {

static constexpr int64_t first_block = int64_t(1) << 16;

bool is_gzip(std::span<const uint8_t> bytes) { return bytes.size() >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b; }

namespace {
struct Inflater : z_stream {
    Inflater() : z_stream{} {
        if (inflateInit2(this, 15 + 16) != Z_OK) throw Error("zlib could not start", "is memory short?");  // 16: gzip
    }
    ~Inflater() { inflateEnd(this); }
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;
};
}  // namespace

std::vector<uint8_t> inflate(std::span<const uint8_t> bytes, int64_t limit_bytes, const std::string& file) {
    const auto fail = [&](const std::string& what, const std::string& hint) {
        return Error("'" + file + "': " + what, hint);
    };
    const std::string damaged = "the file is damaged or cut short; fetch it again";
    if (!is_gzip(bytes)) throw fail("not a gzip file", damaged);

    Inflater stream;
    std::vector<uint8_t> out;
    int64_t read = 0, written = 0;
    while (true) {
        if (written == int64_t(out.size())) {  // one byte beyond the limit tells "just fits" from "too much"
            if (written > limit_bytes)
                throw fail("inflates to more than the " + std::to_string(limit_bytes) + " bytes expected", damaged);
            out.resize(size_t(std::min(std::max(first_block, 2 * written), limit_bytes + 1)));
        }
        const auto in_block = uInt(std::min<int64_t>(int64_t(bytes.size()) - read, INT_MAX));
        const auto out_block = uInt(std::min<int64_t>(int64_t(out.size()) - written, INT_MAX));
        stream.next_in = const_cast<Bytef*>(bytes.data() + read);  // zlib's interface; it does not write there
        stream.avail_in = in_block;
        stream.next_out = out.data() + written;
        stream.avail_out = out_block;
        const int state = ::inflate(&stream, Z_NO_FLUSH);
        read += in_block - stream.avail_in;
        written += out_block - stream.avail_out;
        if (state == Z_STREAM_END) {
            if (read == int64_t(bytes.size())) break;
            if (!is_gzip(bytes.subspan(size_t(read))))
                throw fail(std::to_string(int64_t(bytes.size()) - read) + " bytes follow the end of the gzip stream",
                           damaged);
            inflateReset(&stream);
        } else if (state == Z_BUF_ERROR && read == int64_t(bytes.size())) {
            throw fail("the gzip stream ends early, after " + std::to_string(written) + " inflated bytes", damaged);
        } else if (state != Z_OK && state != Z_BUF_ERROR) {
            throw fail("damaged gzip stream at byte " + std::to_string(read) + " (" +
                           (stream.msg ? stream.msg : "no reason given") + ")",
                       damaged);
        }
    }
    if (written > limit_bytes)
        throw fail("inflates to more than the " + std::to_string(limit_bytes) + " bytes expected", damaged);
    out.resize(size_t(written));
    return out;
}

}  // namespace tessera
