// tests/data_fixture.h - what the data tests share: small files of every format, a temporary folder, expected errors.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <functional>

#include "core/error.h"
#include "core/file.h"
#include "data/dataset.h"

namespace tessera {

inline std::string bytes_of_u8(std::initializer_list<int> values) { return {values.begin(), values.end()}; }

// IDX as MNIST has it; pixel p of image i is (7 i + p) mod 256, label i mod 10.
inline std::string idx_images(int n, int h = 2, int w = 3) {
    std::string file = bytes_of_u8({0, 0, 8, 3, 0, 0, n >> 8, n & 255, 0, 0, 0, h, 0, 0, 0, w});
    for (int i = 0; i < n; ++i)
        for (int p = 0; p < h * w; ++p) file += char(7 * i + p);
    return file;
}
inline std::string idx_labels(int n) {
    std::string file = bytes_of_u8({0, 0, 8, 1, 0, 0, n >> 8, n & 255});
    for (int i = 0; i < n; ++i) file += char(i % 10);
    return file;
}

// Byte c * 1024 + p of record i is (i + 50 c + p) mod 256, label i mod 10.
inline std::string cifar_records(int n, bool coarse = false) {
    std::string file;
    for (int i = 0; i < n; ++i) {
        if (coarse) file += char(i % 20);
        file += char(i % 10);
        for (int c = 0; c < 3; ++c)
            for (int p = 0; p < 1024; ++p) file += char(i + 50 * c + p);
    }
    return file;
}

inline std::string gzipped(const std::string& bytes) {
    z_stream z{};
    deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    std::string out(deflateBound(&z, bytes.size()), '\0');
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data())), z.avail_in = uInt(bytes.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data()), z.avail_out = uInt(out.size());
    EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
    out.resize(z.total_out);
    deflateEnd(&z);
    return out;
}

// An npy file of version 1 with a header of our choice.
inline std::string npy(const std::string& dict, const std::string& data) {
    const std::string header = dict + "\n";
    return std::string("\x93NUMPY\x01", 7) + '\0' + char(header.size()) + '\0' + header + data;
}
inline std::string npy_of(const std::string& descr, const std::string& shape, const std::string& data) {
    return npy("{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }", data);
}
template <class T>
std::string raw(std::initializer_list<T> values) {
    return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

struct Data : testing::Test {
    const std::filesystem::path folder =
        std::filesystem::temp_directory_path() / ("tessera-data-" + std::to_string(getpid()));
    void SetUp() override { std::filesystem::create_directories(folder); }
    void TearDown() override { std::filesystem::remove_all(folder); }
    std::string put(const std::string& name, const std::string& bytes) {
        write_file(folder / name, bytes);
        return (folder / name).string();
    }
    void put_mnist(const std::string& half, int n) {
        put(half + "-images-idx3-ubyte.gz", gzipped(idx_images(n)));
        put(half + "-labels-idx1-ubyte", idx_labels(n));
    }
    std::string npy_source(const std::string& x, const std::string& y) {
        return "npy:" + put("x.npy", x) + "," + put("y.npy", y);
    }
};

template <class Failure = Error>
void expect_failure(const std::function<void()>& action, const std::vector<std::string>& parts) {
    try {
        action();
        ADD_FAILURE() << "no error; expected one with " << parts[0];
    } catch (const Failure& e) {
        const std::string what = e.what();
        for (const auto& part : parts) EXPECT_NE(what.find(part), std::string::npos) << what << "\nlacks " << part;
        EXPECT_EQ(what.find('\n'), std::string::npos) << what;
        EXPECT_FALSE(e.hint().empty()) << what << " has no hint";
    }
}

}  // namespace tessera
