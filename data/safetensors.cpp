// The header goes through a SAX handler that knows the format's three levels: no document tree, so neither deep nesting
// nor a duplicate key can hide, and nothing is allocated for what is refused.
#include "data/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <sstream>
#include <unordered_set>

#include "core/error.h"
#include "core/types.h"

namespace tessera {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are stored as they lie in memory");

constexpr int64_t max_header_bytes = 100'000'000;  // the format's own limit
constexpr std::string_view metadata_key = "__metadata__";
const char* const damaged = "the file is damaged or was cut off; copy or write it again";
const char* const caller_bug = "a bug in Tessera, please report it";

template <class... Parts>
std::string concat(const Parts&... parts) {
    std::ostringstream stream;
    (stream << ... << parts);
    return stream.str();
}

[[noreturn]] void refuse(std::string_view source, const std::string& what, const std::string& hint = damaged) {
    throw Error("safetensors file " + in_quotes(source, 4096) + ": " + what, hint);
}

[[noreturn]] void refuse(std::string_view source, const TensorRecord& record, const std::string& what,
                         const std::string& hint = damaged) {
    refuse(source, "tensor " + in_quotes(record.name) + ": " + what, hint);
}

std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text = "[";
    for (int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
    return text + "]";
}

// Product of the shape and the element size. Throws if the dtype is unknown, an extent negative or the product too big.
int64_t storage_bytes(const TensorRecord& record, std::string_view source) {
    int64_t bytes = safetensors_element_bytes(record.dtype);
    if (bytes == 0)
        refuse(source, record, "unknown dtype " + in_quotes(record.dtype),
               "supported are F32, F64, BF16, I32, I64, U8 and U64; convert the file");
    for (int64_t extent : record.shape)
        if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes))
            refuse(source, record, "shape " + shape_text(record.shape) + " is negative or exceeds 2^63 bytes");
    return bytes;
}

// Where the parser is: one state per level and kind of value.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
    explicit HeaderHandler(std::string_view source) : source_(source) {}
    SafetensorsHeader header;

    bool null() override { unexpected("null"); }
    bool boolean(bool) override { unexpected("a boolean"); }
    bool number_integer(number_integer_t value) override { unexpected(concat("the number ", value)); }
    bool number_float(number_float_t, const string_t& text) override { unexpected("the number " + in_quotes(text)); }
    bool binary(binary_t&) override { unexpected("binary data"); }

    bool number_unsigned(number_unsigned_t value) override {
        if (where_ != shape && where_ != offsets) unexpected(concat("the number ", value));
        if (value > uint64_t(INT64_MAX)) unexpected(concat("the number ", value, ", above 2^63 - 1,"));
        if (numbers_.size() == 64) refuse(source_, record_, field_ + " holds more than 64 numbers");
        numbers_.push_back(int64_t(value));
        return true;
    }
    bool string(string_t& value) override {
        if (where_ == metadata) header.metadata[field_] = std::move(value);
        else if (where_ == tensor && field_ == "dtype") record_.dtype = std::move(value);
        else unexpected("the string " + in_quotes(value));
        return true;
    }
    bool start_object(size_t) override {
        seen_ = 0;
        if (where_ != outside && where_ != top) unexpected("an object");
        where_ = where_ == outside ? top : record_.name == metadata_key ? metadata : tensor;
        return true;
    }
    bool key(string_t& value) override {
        if (where_ == top) {
            if (!names_.insert(value).second) refuse(source_, "the name " + in_quotes(value) + " appears twice");
            record_ = {std::move(value), {}, {}};
            return true;
        }
        field_ = std::move(value);
        if (where_ == metadata && header.metadata.count(field_))
            refuse(source_, "metadata " + in_quotes(field_) + " appears twice");
        if (where_ == metadata) return true;
        const int bit = field_ == "dtype" ? 1 : field_ == "shape" ? 2 : field_ == "data_offsets" ? 4 : 0;
        if (bit == 0) refuse(source_, record_, "unknown field " + in_quotes(field_));
        if (seen_ & bit) refuse(source_, record_, in_quotes(field_) + " appears twice");
        seen_ |= bit;
        return true;
    }
    bool end_object() override {
        if (where_ == tensor && seen_ != 7) refuse(source_, record_, "dtype, shape or data_offsets is missing");
        if (where_ == tensor) header.tensors.push_back(std::move(record_));
        where_ = where_ == top ? outside : top;
        return true;
    }
    bool start_array(size_t) override {
        if (where_ != tensor || field_ == "dtype") unexpected("an array");
        where_ = field_ == "shape" ? shape : offsets;
        numbers_.clear();
        return true;
    }
    bool end_array() override {
        if (where_ == shape) record_.shape = numbers_;
        else if (numbers_.size() == 2) record_.begin = numbers_[0], record_.end = numbers_[1];
        else refuse(source_, record_, concat(numbers_.size(), " data_offsets instead of begin and end"));
        where_ = tensor;
        return true;
    }
    bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
        refuse(source_, concat("the header is not valid JSON at byte ", position));
    }

 private:
    [[noreturn]] void unexpected(const std::string& value) const {
        if (where_ == outside) refuse(source_, "the header is " + value + " instead of an object");
        if (where_ == metadata)
            refuse(source_, concat("metadata ", in_quotes(field_), " is ", value, " instead of a string"));
        if (where_ == top) refuse(source_, record_, value + " instead of an object");
        const char* const wanted = field_ == "dtype" ? " instead of a string" : " instead of an array";
        if (where_ == tensor) refuse(source_, record_, concat(field_, " is ", value, wanted));
        refuse(source_, record_, concat(field_, " holds ", value, " instead of an integer from 0 on"));
    }

    std::string_view source_;
    enum { outside, top, metadata, tensor, shape, offsets } where_ = outside;
    TensorRecord record_;
    std::string field_;
    int seen_ = 0;
    std::vector<int64_t> numbers_;
    std::unordered_set<std::string> names_;
};

int64_t header_length(std::span<const uint8_t> file_start, int64_t file_bytes, std::string_view source) {
    if (file_start.size() < 8) refuse(source, concat(file_bytes, " bytes, too short for the 8-byte header length"));
    uint64_t length;
    memcpy(&length, file_start.data(), 8);
    if (length > uint64_t(max_header_bytes))
        refuse(source, concat("header length ", length, " exceeds 100 MB"), "is it a safetensors file?");
    if (int64_t(length) > file_bytes - 8)
        refuse(source, concat("header length ", length, " exceeds the file of ", file_bytes, " bytes"));
    return int64_t(length);
}

// Offsets must tile the data part; each span must be what its shape needs.
void check_layout(std::vector<TensorRecord>& tensors, int64_t data_bytes, std::string_view source) {
    std::stable_sort(tensors.begin(), tensors.end(), [](const TensorRecord& a, const TensorRecord& b) {
        return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    int64_t position = 0;
    for (const TensorRecord& t : tensors) {
        const auto wrong = [&](const auto&... what) { refuse(source, t, concat(what...)); };
        const std::string offsets = concat("offsets [", t.begin, ", ", t.end, "]");
        if (t.end < t.begin) wrong(offsets, " run backwards");
        if (t.end > data_bytes) wrong(offsets, " end behind the file's ", data_bytes, " data bytes");
        const char* const fault = t.begin < position ? " overlap" : " leave a hole after";
        if (t.begin != position) wrong(offsets, fault, " the tensor before, which ends at ", position);
        const int64_t bytes = storage_bytes(t, source);
        const std::string shape = shape_text(t.shape) + " of " + t.dtype;
        if (bytes != t.bytes()) wrong("shape ", shape, " needs ", bytes, " bytes, its offsets span ", t.bytes());
        position = t.end;
    }
    if (position != data_bytes)
        refuse(source, concat("the tensors end at byte ", position, " of ", data_bytes, " data bytes"));
}

}  // namespace

int64_t safetensors_element_bytes(std::string_view dtype) {
    for (DType t : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::u8})
        if (facts(t).safetensors == dtype) return facts(t).bytes;
    return dtype == "I64" || dtype == "U64" ? 8 : 0;
}

SafetensorsHeader parse_safetensors(std::span<const uint8_t> file_start, int64_t file_bytes, std::string_view source) {
    const int64_t length = header_length(file_start, file_bytes, source);
    if (int64_t(file_start.size()) < 8 + length) refuse(source, concat("ends in its header of ", length, " bytes"));
    const auto text = file_start.subspan(8, size_t(length));
    if (text.empty() || text[0] != '{') refuse(source, "it does not begin with '{'", "is it a safetensors file?");
    HeaderHandler handler(source);
    nlohmann::json::sax_parse(text.begin(), text.end(), &handler);
    handler.header.data_start = 8 + length;
    check_layout(handler.header.tensors, file_bytes - 8 - length, source);
    return std::move(handler.header);
}

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path)
    : source_(path.string()),
      file_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {  // a pipe must not block: it is refused below
    const std::string what = "cannot read " + in_quotes(source_, 4096),
                      hint = "is the path right, and the file readable?";
    struct stat status {};
    check_system(file_.value() >= 0 && fstat(file_.value(), &status) == 0, what, hint);
    if (!S_ISREG(status.st_mode)) throw Error(what + ": not a regular file", hint);
    std::vector<uint8_t> start(size_t(std::min<int64_t>(8, status.st_size)));
    read_at(0, start.data(), int64_t(start.size()));
    start.resize(size_t(8 + header_length(start, status.st_size, source_)));
    read_at(0, start.data(), int64_t(start.size()));
    header_ = parse_safetensors(start, status.st_size, source_);
    for (const TensorRecord& t : header_.tensors) by_name_.emplace(t.name, &t);
}

const TensorRecord* SafetensorsReader::find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
}

void SafetensorsReader::read_at(int64_t offset, void* dest, int64_t bytes) const {
    for (auto* p = static_cast<char*>(dest); bytes > 0;) {
        const ssize_t n = pread(file_.value(), p, size_t(bytes), offset);
        if (n < 0 && errno == EINTR) continue;
        check_system(n >= 0, "cannot read " + in_quotes(source_, 4096), "is the disk sound?");
        if (n == 0) refuse(source_, concat("it ended at byte ", offset, " while being read"));
        p += n, offset += n, bytes -= n;
    }
}

// The header's text: metadata, then the tensors in data order, padded so that the data begins 8-byte aligned.
static std::string header_text(const SafetensorsMetadata& metadata, std::vector<TensorRecord>& tensors,
                               const std::string& source) {
    std::unordered_set<std::string_view> names{metadata_key};
    std::string text;
    int64_t position = 0;
    const auto append = [&](std::string_view key, const nlohmann::ordered_json& value) {
        text += (text.empty() ? "{" : ",") + nlohmann::json(key).dump() + ":" + value.dump();
    };
    try {
        if (!metadata.empty()) append(metadata_key, metadata);
        for (TensorRecord& t : tensors) {
            if (!names.insert(t.name).second) refuse(source, t, "the name is reserved or given twice", "rename it");
            t.begin = position;
            if (__builtin_add_overflow(position, storage_bytes(t, source), &position))
                refuse(source, t, "the tensors exceed 2^63 bytes", "split the file");
            t.end = position;
            append(t.name, {{"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {t.begin, t.end}}});
        }
    } catch (const nlohmann::json::exception&) {
        refuse(source, "a name or a metadata string is not UTF-8", "rename it");
    }
    text += text.empty() ? "{}" : "}";
    text.resize((text.size() + 7) / 8 * 8, ' ');
    if (int64_t(text.size()) > max_header_bytes)
        refuse(source, concat("a header of ", text.size(), " bytes exceeds 100 MB"), "split the file");
    return text;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const SafetensorsMetadata& metadata,
                                     const std::vector<TensorRecord>& tensors)
    : source_(path.string()), tensors_(tensors), header_(header_text(metadata, tensors_, source_)), file_(path) {
    const uint64_t length = header_.size();
    file_.write(&length, 8);
    file_.write(header_);
    header_ = {};
}

void SafetensorsWriter::write(std::string_view name, const void* data, int64_t bytes) {
    if (next_ == tensors_.size()) refuse(source_, in_quotes(name) + " written after the last tensor", caller_bug);
    const TensorRecord& t = tensors_[next_];
    if (name != t.name) refuse(source_, t, in_quotes(name) + " written in its place", caller_bug);
    if (bytes != t.bytes()) refuse(source_, t, concat(bytes, " bytes written instead of ", t.bytes()), caller_bug);
    file_.write(data, size_t(bytes));
    ++next_;
}

void SafetensorsWriter::commit() {
    if (next_ < tensors_.size()) refuse(source_, tensors_[next_], "commit before it was written", caller_bug);
    file_.commit();
}

}  // namespace tessera
