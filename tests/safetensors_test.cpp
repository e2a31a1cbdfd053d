// safetensors: what is written comes back, and every kind of damage gives one clear line.
#include "data/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "core/error.h"
#include "core/file.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

class Safetensors : public testing::Test {
 protected:
    void SetUp() override {
        folder_ = fs::temp_directory_path() / ("tessera_safetensors_" + std::to_string(getpid()));
        fs::create_directories(folder_);
        path_ = folder_ / "model.safetensors";
    }
    void TearDown() override { fs::remove_all(folder_); }
    fs::path folder_, path_;
};

std::string file_of(const std::string& header, int64_t data_bytes, uint64_t length) {
    std::string file(8, '\0');
    memcpy(file.data(), &length, 8);
    return file + header + std::string(size_t(data_bytes), 'd');
}

std::span<const uint8_t> bytes_of(const std::string& text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

SafetensorsHeader parse(const std::string& header, int64_t data_bytes) {
    const std::string file = file_of(header, data_bytes, header.size());
    return parse_safetensors(bytes_of(file), int64_t(file.size()), "dir/model.safetensors");
}

// The error's line, or "" if there was none.
template <class Body>
std::string error_of(Body body) {
    try {
        body();
    } catch (const Error& e) {
        EXPECT_FALSE(e.hint().empty()) << e.what();
        EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
        return e.what();
    }
    return "";
}

TEST_F(Safetensors, RoundTrip) {
    const std::vector<float> weights{1, -2, 3.5f, 0, 5, 6};
    const double scalar = 2.75;
    const std::vector<uint64_t> state{1, ~uint64_t(0)};
    const std::map<std::string, std::string> metadata{{"step", "42"}, {"name", "a \"quoted\"\nü"}};
    SafetensorsWriter writer(path_, metadata,
                             {{"conv.weight", "F32", {2, 3}},
                              {"empty", "BF16", {0, 7}},
                              {"alpha", "F64", {}},
                              {"bytes", "U8", {3}},
                              {"état \"x\"", "U64", {2}}});
    writer.write("conv.weight", weights.data(), 24);
    writer.write("empty", nullptr, 0);
    writer.write("alpha", &scalar, 8);
    writer.write("bytes", "abc", 3);
    writer.write("état \"x\"", state.data(), 16);
    EXPECT_FALSE(fs::exists(path_));
    writer.commit();

    const SafetensorsReader reader(path_);
    EXPECT_EQ(reader.header().metadata, metadata);
    EXPECT_EQ(reader.header().data_start % 8, 0);
    ASSERT_EQ(reader.header().tensors.size(), 5u);
    EXPECT_EQ(reader.header().tensors[0].name, "conv.weight");
    EXPECT_EQ(reader.header().tensors[1].name, "empty");
    EXPECT_EQ(reader.find("nothing"), nullptr);

    std::vector<float> weights_back(6);
    ASSERT_NE(reader.find("conv.weight"), nullptr);
    EXPECT_EQ(reader.find("conv.weight")->shape, (std::vector<int64_t>{2, 3}));
    reader.read(*reader.find("conv.weight"), weights_back.data());
    EXPECT_EQ(weights_back, weights);
    EXPECT_EQ(reader.find("empty")->bytes(), 0);
    reader.read(*reader.find("empty"), nullptr);
    double scalar_back = 0;
    EXPECT_TRUE(reader.find("alpha")->shape.empty());
    reader.read(*reader.find("alpha"), &scalar_back);
    EXPECT_EQ(scalar_back, scalar);
    std::vector<uint64_t> state_back(2);
    reader.read(*reader.find("état \"x\""), state_back.data());
    EXPECT_EQ(state_back, state);
}

TEST_F(Safetensors, NothingAtAll) {
    SafetensorsWriter(path_, {}, {}).commit();
    const SafetensorsReader reader(path_);
    EXPECT_TRUE(reader.header().tensors.empty());
    EXPECT_EQ(fs::file_size(path_), 16u);
}

TEST_F(Safetensors, KeysStandInDataOrder) {
    SafetensorsWriter writer(path_, {{"format", "pt"}}, {{"z", "U8", {1}}, {"a", "U8", {1}}});
    writer.write("z", "z", 1);
    writer.write("a", "a", 1);
    writer.commit();
    const auto bytes = read_file(path_);
    const std::string text(bytes.begin(), bytes.end());
    EXPECT_LT(text.find("\"__metadata__\""), text.find("\"z\""));
    EXPECT_LT(text.find("\"z\""), text.find("\"a\""));
    EXPECT_EQ(text.substr(text.size() - 2), "za");
}

TEST_F(Safetensors, HeaderInAnyOrder) {
    const auto header = parse(R"({"b":{"data_offsets":[4,8],"shape":[1],"dtype":"I32"},)"
                              R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}, "__metadata__":{"k":"v"}}  )",
                              8);
    ASSERT_EQ(header.tensors.size(), 2u);
    EXPECT_EQ(header.tensors[0].name, "a");
    EXPECT_EQ(header.tensors[1].name, "b");
    EXPECT_EQ(header.metadata.at("k"), "v");
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

std::string two(const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
}

TEST_F(Safetensors, DamagedHeaders) {
    const std::string deep(1'000'000, '[');
    const struct {
        std::string header;
        int64_t data_bytes;
        std::string says;
    } cases[] = {
        {"", 0, "does not begin with '{'"},
        {" {}", 0, "does not begin with '{'"},
        {"{", 0, "not valid JSON at byte"},
        {"{}x", 0, "not valid JSON at byte 3"},
        {"{\"a\xff\":1}", 0, "not valid JSON"},
        {R"({"w":)" + deep, 0, "tensor 'w': an array instead of an object"},
        {R"({"w":{"shape":)" + deep, 0, "shape holds an array"},
        {R"({"__metadata__":{"k":)" + deep, 0, "metadata 'k' is an array instead of a string"},
        {R"({"w":{"dtype":{)", 0, "dtype is an object instead of a string"},
        {R"({"w":7})", 0, "the number 7 instead of an object"},
        {R"({"w":null})", 0, "null instead of an object"},
        {R"({"__metadata__":{"step":42}})", 0, "metadata 'step' is the number 42 instead of a string"},
        {R"({"__metadata__":{"k":"1","k":"2"}})", 0, "metadata 'k' appears twice"},
        {R"({"__metadata__":{},"__metadata__":{}})", 0, "'__metadata__' appears twice"},
        {one("F16", "[2]", "[0,4]"), 4, "unknown dtype 'F16'"},
        {one("F32", "[2,-1]", "[0,4]"), 4, "shape holds the number -1"},
        {one("F32", "[2.0]", "[0,8]"), 8, "shape holds the number '2.0'"},
        {one("F32", "[1e999]", "[0,8]"), 8, "not valid JSON"},
        {one("F32", "[9223372036854775808]", "[0,8]"), 8, "above 2^63 - 1"},
        {one("F32", "[4611686018427387904,4]", "[0,0]"), 0, "exceeds 2^63 bytes"},
        {one("F32", "[4611686018427387904,4,0]", "[0,0]"), 0, "exceeds 2^63 bytes"},
        {one("F32", "[2, 3]", "[0,20]"), 20, "tensor 'w': shape [2, 3] of F32 needs 24 bytes, its offsets span 20"},
        {one("F32", "[1]", "[0,4,8]"), 8, "3 data_offsets"},
        {one("F32", "[1]", "[0]"), 4, "1 data_offsets"},
        {one("F32", "\"[1]\"", "[0,4]"), 4, "shape is the string '[1]' instead of an array"},
        {one("F32", "[1]", "[4,0]"), 4, "run backwards"},
        {one("F32", "[1]", "[0,8]"), 4, "offsets [0, 8] end behind the file's 4 data bytes"},
        {one("F32", "[1]", "[0,9223372036854775807]"), 4, "end behind"},
        {one("F32", "[1]", "[0,4]"), 5, "the tensors end at byte 4 of 5 data bytes"},
        {two("[0,4]", "[2,6]"), 6, "tensor 'b': offsets [2, 6] overlap the tensor before, which ends at 4"},
        {two("[0,4]", "[0,4]"), 4, "overlap"},
        {two("[0,4]", "[5,9]"), 9, "tensor 'b': offsets [5, 9] leave a hole"},
        {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}})", 0, "the name 'a' appears twice"},
        {R"({"a":{"dtype":"U8","dtype":"U8"}})", 0, "'dtype' appears twice"},
        {R"({"a":{"dtype":"U8","shape":[0]}})", 0, "data_offsets is missing"},
        {R"({"a":{"type":"U8"}})", 0, "unknown field 'type'"},
        {R"({"line\nbreak":1})", 0, "tensor 'line?break'"},
    };
    for (const auto& c : cases) {
        const std::string what = error_of([&] { parse(c.header, c.data_bytes); });
        EXPECT_NE(what.find(c.says), std::string::npos) << c.header.substr(0, 80) << "\n got: " << what;
        EXPECT_EQ(what.rfind("safetensors file 'dir/model.safetensors': ", 0), 0u) << what;
    }
}

TEST_F(Safetensors, LyingLengths) {
    const struct {
        uint64_t length;
        std::string says;
    } cases[] = {{3, "header length 3 exceeds the file of 10 bytes"},
                 {99'999'999, "exceeds the file"},
                 {100'000'001, "exceeds 100 MB"},
                 {~uint64_t(0), "exceeds 100 MB"}};
    for (const auto& c : cases) {
        write_file(path_, file_of("{}", 0, c.length));
        EXPECT_NE(error_of([&] { SafetensorsReader reader(path_); }).find(c.says), std::string::npos) << c.length;
    }
    const std::string file = file_of(one("U8", "[1]", "[0,1]"), 0, 200);
    EXPECT_NE(error_of([&] { parse_safetensors(bytes_of(file), 300, "x"); }).find("ends in its header"),
              std::string::npos);
}

TEST_F(Safetensors, EveryTruncationIsRefused) {
    const std::string header = one("F32", "[2]", "[0,8]"), file = file_of(header, 8, header.size());
    for (size_t bytes = 0; bytes < file.size(); ++bytes) {
        write_file(path_, file.substr(0, bytes));
        EXPECT_NE(error_of([&] { SafetensorsReader reader(path_); }).find(path_.string()), std::string::npos) << bytes;
    }
    write_file(path_, file);
    SafetensorsReader reader(path_);
    fs::resize_file(path_, file.size() - 1);  // after the check
    float values[2];
    EXPECT_NE(error_of([&] { reader.read(reader.header().tensors[0], values); }).find("ended"), std::string::npos);
}

TEST_F(Safetensors, NotAFile) {
    EXPECT_THROW(SafetensorsReader(folder_ / "absent"), Error);
    EXPECT_THROW(SafetensorsReader reader(folder_), Error);
}

TEST_F(Safetensors, WriterRefusesMisuse) {
    const auto starts = [&](std::vector<TensorRecord> tensors) {
        return error_of([&] { SafetensorsWriter(path_, {}, tensors); });
    };
    EXPECT_NE(starts({{"a", "U8", {1}}, {"a", "U8", {1}}}).find("given twice"), std::string::npos);
    EXPECT_NE(starts({{"__metadata__", "U8", {1}}}).find("reserved"), std::string::npos);
    EXPECT_NE(starts({{"a", "Q4", {1}}}).find("unknown dtype"), std::string::npos);
    EXPECT_NE(starts({{"a", "U8", {-1}}}).find("negative"), std::string::npos);
    EXPECT_NE(starts({{"\xff", "U8", {1}}}).find("UTF-8"), std::string::npos);
    EXPECT_NE(starts({{"a", "U8", {INT64_MAX}}, {"b", "U8", {1}}}).find("2^63"), std::string::npos);

    SafetensorsWriter writer(path_, {}, {{"a", "U8", {2}}});
    EXPECT_NE(error_of([&] { writer.write("b", "xy", 2); }).find("in its place"), std::string::npos);
    EXPECT_NE(error_of([&] { writer.write("a", "x", 1); }).find("1 bytes written instead of 2"), std::string::npos);
    EXPECT_NE(error_of([&] { writer.commit(); }).find("before it was written"), std::string::npos);
    writer.write("a", "xy", 2);
    EXPECT_NE(error_of([&] { writer.write("a", "xy", 2); }).find("after the last"), std::string::npos);
}

TEST_F(Safetensors, WithoutCommitNoFile) {
    { SafetensorsWriter writer(path_, {}, {{"a", "U8", {2}}}); }
    EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace tessera
