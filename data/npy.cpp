// data/npy.cpp - .npy header parser, data sets from two arrays, writer.
#include "data/npy.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "core/error.h"
#include "core/file.h"

namespace tessera {
static_assert(std::endian::native == std::endian::little, "the elements are taken as they lie in the file");

namespace {
struct TypeName {
    NpyType type;
    std::string_view descr;
    int64_t bytes;
};
constexpr TypeName types[] = {{NpyType::f32, "<f4", 4},
                              {NpyType::f64, "<f8", 8},
                              {NpyType::i32, "<i4", 4},
                              {NpyType::i64, "<i8", 8},
                              {NpyType::u8, "|u1", 1}};
constexpr std::string_view magic = "\x93NUMPY";
// Features or labels: which of them a file holds is not known here.
std::string save_as(const std::string& type) {
    return "save it with numpy.save(file, numpy.ascontiguousarray(array, dtype=numpy." + type + "))";
}

// The header's dict: three keys, each once, in any order. Accepts no more of Python than numpy writes.
class HeaderParser {
 public:
    HeaderParser(std::string_view text, const std::string& file) : text_(text), file_(file) {}

    Npy parse() {
        Npy array{};
        bool has_type = false, has_order = false, has_shape = false;
        expect('{');
        while (!accept('}')) {
            const std::string_view key = word();
            expect(':');
            if (key == "descr" && !has_type) array.type = type(), has_type = true;
            else if (key == "fortran_order" && !has_order) c_order(), has_order = true;
            else if (key == "shape" && !has_shape) array.shape = shape(), has_shape = true;
            else fail("unexpected key");
            if (!accept(',')) {
                expect('}');
                break;
            }
        }
        skip_space();
        if (!text_.empty() || !has_type || !has_order || !has_shape) fail("needs descr, fortran_order and shape once");
        return array;
    }

 private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error("'" + file_ + "': damaged npy header: " + what, "save the file again");
    }
    void skip_space() { text_.remove_prefix(std::min(text_.find_first_not_of(" \n"), text_.size())); }
    bool accept(char c) {
        skip_space();
        if (text_.empty() || text_[0] != c) return false;
        text_.remove_prefix(1);
        return true;
    }
    void expect(char c) {
        if (!accept(c)) fail(std::string("no '") + c + "' where one is due");
    }
    std::string_view word() {
        skip_space();
        const char quote = accept('"') ? '"' : '\'';
        if (quote == '\'') expect('\'');
        const size_t end = text_.find(quote);
        if (end == std::string_view::npos) fail("a string does not end");
        const std::string_view found = text_.substr(0, end);
        text_.remove_prefix(end + 1);
        return found;
    }
    NpyType type() {
        skip_space();
        if (text_.substr(0, 1) == "[")
            throw Error("'" + file_ + "': structured types are not read", save_as("float32"));
        std::string name(word().substr(0, 20));
        for (const auto& t : types)
            if (t.descr == name) return t.type;
        for (char& c : name)
            if (c < ' ' || c > '~') c = '?';  // the message stays one line
        throw Error("'" + file_ + "': element type '" + name + "' is not read, only <f4, <f8, <i4, <i8 and |u1",
                    name.size() == 3 && std::strchr("biu", name[1])
                        ? save_as("int32") + "; features need float32 or uint8"
                        : save_as("float32"));
    }
    void c_order() {
        skip_space();
        const bool fortran = text_.substr(0, 4) == "True";
        if (!fortran && text_.substr(0, 5) != "False") fail("fortran_order is neither True nor False");
        if (fortran)
            throw Error("'" + file_ + "': the array is in Fortran order, not C order",
                        "save it with numpy.save(file, numpy.ascontiguousarray(array))");
        text_.remove_prefix(5);
    }
    std::vector<int64_t> shape() {
        std::vector<int64_t> extents;
        expect('(');
        while (!accept(')')) {
            if (extents.size() == 32) fail("more than 32 extents");
            extents.push_back(extent());
            if (!accept(',')) {
                if (extents.size() == 1) fail("a shape of one extent needs a comma");
                expect(')');
                break;
            }
        }
        return extents;
    }
    int64_t extent() {
        skip_space();
        int64_t value = 0;
        size_t digits = 0;
        for (; digits < text_.size() && text_[digits] >= '0' && text_[digits] <= '9'; ++digits) {
            if (digits == 18) fail("an extent has more than 18 digits");
            value = 10 * value + (text_[digits] - '0');
        }
        if (digits == 0) fail("an extent is not a number");
        text_.remove_prefix(digits);
        return value;
    }

    std::string_view text_;
    const std::string& file_;
};

std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text = "(";
    for (size_t d = 0; d < shape.size(); ++d) text += (d ? ", " : "") + std::to_string(shape[d]);
    return text + (shape.size() == 1 ? ",)" : ")");
}

template <class From>
From element(std::span<const uint8_t> data, int64_t i) {
    From value;
    memcpy(&value, data.data() + i * int64_t(sizeof value), sizeof value);
    return value;
}
}  // namespace

int64_t Npy::count() const { return int64_t(data.size()) / types[int(type)].bytes; }

template <class T>
T Npy::at(int64_t i) const {
    switch (type) {
        case NpyType::f32:
            return T(element<float>(data, i));
        case NpyType::f64:
            return T(element<double>(data, i));
        case NpyType::i32:
            return T(element<int32_t>(data, i));
        case NpyType::i64:
            return T(element<int64_t>(data, i));
        case NpyType::u8:
            break;
    }
    return T(element<uint8_t>(data, i));
}
template float Npy::at(int64_t) const;
template double Npy::at(int64_t) const;
template int64_t Npy::at(int64_t) const;

Npy parse_npy(std::span<const uint8_t> bytes, const std::string& file) {
    const auto require = [&](bool ok, const std::string& what) {
        if (!ok) throw Error("'" + file + "': " + what, "the file is damaged or cut short; save it again");
    };
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    require(text.substr(0, magic.size()) == magic, "not an npy file: it does not begin with \\x93NUMPY");
    require(text.size() >= 10, std::to_string(text.size()) + " bytes are too few for an npy file");
    const int version = bytes[6];
    require(version >= 1 && version <= 3, "npy version " + std::to_string(version) + " is not read, only 1 to 3");
    const size_t start = version == 1 ? 10 : 12;
    require(text.size() >= start, std::to_string(text.size()) + " bytes are too few for an npy file");
    const size_t length = version == 1 ? element<uint16_t>(bytes, 4) : element<uint32_t>(bytes, 2);  // at byte 8
    require(length <= text.size() - start, "the header of " + std::to_string(length) + " bytes goes past the end");

    Npy array = HeaderParser(text.substr(start, length), file).parse();
    const auto available = int64_t(text.size() - start - length), each = types[int(array.type)].bytes;
    const bool empty = std::count(array.shape.begin(), array.shape.end(), 0) > 0;
    int64_t elements = empty ? 0 : 1;  // at most `available`, so it cannot overflow
    for (const int64_t extent : array.shape) {
        require(empty || elements <= available / each / extent,
                "shape " + shape_text(array.shape) + " needs more than the " + std::to_string(available) +
                    " bytes that follow the header");
        elements *= empty ? 0 : extent;
    }
    require(elements * each == available, std::to_string(available) + " bytes follow the header, shape " +
                                              shape_text(array.shape) + " needs " + std::to_string(elements * each));
    array.data = bytes.subspan(start + length);
    return array;
}

std::string npy_header(NpyType type, const std::vector<int64_t>& shape) {
    std::string dict = "{'descr': '" + std::string(types[int(type)].descr) +
                       "', 'fortran_order': False, 'shape': " + shape_text(shape) + ", }";
    dict.append(63 - (10 + dict.size()) % 64, ' ') += '\n';
    if (dict.size() > UINT16_MAX) throw std::invalid_argument("npy: a shape of " + std::to_string(shape.size()));
    return std::string(magic) + '\x01' + '\0' + char(dict.size() & 0xff) + char(dict.size() >> 8) + dict;
}

template <class T>
static void write(const std::filesystem::path& path, NpyType type, std::span<const T> values,
                  const std::vector<int64_t>& shape) {
    int64_t elements = 1;
    for (const int64_t extent : shape)
        if (extent < 0 || __builtin_mul_overflow(elements, extent, &elements)) elements = -1;
    if (elements != int64_t(values.size()))
        throw std::invalid_argument("'" + path.string() + "': shape " + shape_text(shape) + " does not fit " +
                                    std::to_string(values.size()) + " values");
    AtomicFile file(path);
    file.write(npy_header(type, shape));
    file.write(values.data(), values.size_bytes());
    file.commit();
}
void write_npy(const std::filesystem::path& path, std::span<const float> values, const std::vector<int64_t>& shape) {
    write(path, NpyType::f32, values, shape);
}
void write_npy(const std::filesystem::path& path, std::span<const double> values, const std::vector<int64_t>& shape) {
    write(path, NpyType::f64, values, shape);
}

}  // namespace tessera
