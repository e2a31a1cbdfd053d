// tests/matrix_file_test.cpp - matrices in files: what is written comes back, whatever the blocks; damaged headers,
// full disks and lost files are one clear line and leave nothing behind.
#include "data/matrix_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <thread>

#include "core/random.h"
#include "data/npy.h"
#include "tests/data_fixture.h"

namespace tessera {
namespace {
namespace fs = std::filesystem;

struct MatrixFile : Data {};

// Element (i, j) of every matrix here; small enough to be exact in f32.
double value(int64_t i, int64_t j) { return double(i * 1000 + j) / 4; }

template <class T>
void put_block(MatrixWriter& writer, int64_t row, int64_t col, int64_t rows, int64_t cols, int64_t ld) {
    std::vector<T> block(size_t(rows * ld + 1), T(-1));
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j) block[size_t(i * ld + j)] = T(value(row + i, col + j));
    writer.write(row, col, rows, cols, block.data(), ld);
}

// The block is right and the gaps between its rows are untouched.
template <class T>
bool right(const MatrixReader& reader, int64_t row, int64_t col, int64_t rows, int64_t cols, int64_t ld) {
    std::vector<T> block(size_t(rows * ld + 1), T(-1));
    reader.read(row, col, rows, cols, block.data(), ld);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < ld; ++j)
            if (block[size_t(i * ld + j)] != (j < cols ? T(value(row + i, col + j)) : T(-1))) return false;
    return block.back() == T(-1);
}

template <class T>
void round_trip(const fs::path& path, int64_t rows, int64_t cols, uint64_t seed) {
    uint64_t index = 0;
    const auto up_to = [&](int64_t most) { return int64_t(random_bits(seed, 1, index++) % uint64_t(most + 1)); };
    MatrixWriter writer(path, dtype_of<T>, rows, cols);
    const int64_t row = up_to(rows), col = up_to(cols);  // four blocks
    put_block<T>(writer, 0, 0, row, cols, cols);
    put_block<T>(writer, row, 0, rows - row, col, col + up_to(3));
    put_block<T>(writer, row, col, rows - row, cols - col, cols - col + up_to(3));
    EXPECT_FALSE(fs::exists(path));
    writer.finish();
    EXPECT_THROW(writer.finish(), std::logic_error);
    EXPECT_THROW(writer.write(0, 0, 0, 0, nullptr, 0), std::logic_error);

    const MatrixReader reader(path);
    EXPECT_EQ(reader.rows(), rows);
    EXPECT_EQ(reader.cols(), cols);
    EXPECT_EQ(reader.dtype(), dtype_of<T>);
    EXPECT_TRUE(right<T>(reader, 0, 0, rows, cols, cols));
    for (int block = 0; block < 10; ++block) {
        const int64_t r = up_to(rows), c = up_to(cols), h = up_to(rows - r), w = up_to(cols - c);
        EXPECT_TRUE(right<T>(reader, r, c, h, w, w + up_to(5))) << h << " x " << w << " at " << r << ", " << c;
    }
    const auto bytes = read_file(path);
    const Npy whole = parse_npy(bytes, path.string());  // NumPy's view of it
    EXPECT_EQ(whole.shape, (std::vector<int64_t>{rows, cols}));
    ASSERT_EQ(whole.count(), rows * cols);
    for (int64_t e = 0; e < whole.count(); ++e) ASSERT_EQ(whole.at<double>(e), value(e / cols, e % cols));
}

TEST_F(MatrixFile, RoundTripInBlocks) {
    uint64_t seed = 0;
    for (const int64_t rows : {0, 1, 7, 65, 130})
        for (const int64_t cols : {0, 1, 7, 65, 131}) {
            SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols));
            const fs::path path = folder / ("m" + std::to_string(++seed) + ".npy");
            if (seed % 2) round_trip<float>(path, rows, cols, seed);
            else round_trip<double>(path, rows, cols, seed);
        }
    for (const auto& entry : fs::directory_iterator(folder)) EXPECT_EQ(entry.path().extension(), ".npy");
}

TEST_F(MatrixFile, BlocksOutsideAreRefused) {
    MatrixWriter writer(folder / "m.npy", DType::f32, 4, 5);
    writer.finish();
    const MatrixReader reader(folder / "m.npy");
    float to[64];
    const int64_t most = INT64_MAX;
    for (const auto& [row, col, rows, cols, ld] : std::initializer_list<std::array<int64_t, 5>>{{-1, 0, 1, 1, 1},
                                                                                                {0, -1, 1, 1, 1},
                                                                                                {0, 0, 5, 5, 5},
                                                                                                {4, 0, 1, 5, 5},
                                                                                                {0, 1, 4, 5, 5},
                                                                                                {0, 0, 2, 5, 4},
                                                                                                {0, 0, -1, 5, 5},
                                                                                                {most, 0, 1, 1, 1},
                                                                                                {1, 0, most, 1, 1},
                                                                                                {0, 2, 1, most, most}})
        EXPECT_THROW(reader.read(row, col, rows, cols, to, ld), std::invalid_argument) << row << " " << rows;
    reader.read(0, 0, 4, 5, to, 5);  // preallocated, never written
    for (int i = 0; i < 20; ++i) EXPECT_EQ(to[i], 0);
}

TEST_F(MatrixFile, ThreadsShareOneFile) {
    constexpr int64_t n = 400, tile = 50;
    MatrixWriter writer(folder / "m.npy", DType::f32, n, n);
    std::atomic<int> wrong = 0;
    const auto in_threads = [](auto body) {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 4; ++t) threads.emplace_back(body, t);
    };
    in_threads([&](int t) {
        for (int64_t i = 0; i < n / tile; ++i)
            for (int64_t j = t; j < n / tile; j += 4)
                put_block<float>(writer, i * tile, j * tile, tile, tile, tile + t);
    });
    writer.finish();
    const MatrixReader reader(folder / "m.npy");
    in_threads([&](int t) {
        for (int64_t i = 0; i < n / tile; ++i)
            for (int64_t j = 0; j < n / tile; ++j)
                wrong += !right<float>(reader, i * tile, j * tile, tile, tile, tile + t);
    });
    EXPECT_EQ(wrong, 0);
}

TEST_F(MatrixFile, BadHeaders) {
    const std::string six(24, 'x'), text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    const struct {
        std::string name, bytes, says;
    } cases[] = {
        {"empty", "", "not an npy file"},
        {"text", "1 2 3\n4 5 6\n", "not an npy file"},
        {"half_a_header", npy(text, "").substr(0, 40), "goes past the end"},
        {"rank0", npy_of("<f4", "()", "1234"), "shape () is no matrix; two extents"},
        {"rank1", npy_of("<f4", "(6,)", six), "shape (6) is no matrix; two extents"},
        {"rank3", npy_of("<f4", "(1, 2, 3)", six), "shape (1, 2, 3) is no matrix; two extents"},
        {"i32", npy_of("<i4", "(2, 3)", six), "type i32; f32 (<f4) or f64 (<f8) is wanted"},
        {"i64", npy_of("<i8", "(1, 3)", six), "type i64; f32 (<f4) or f64 (<f8) is wanted"},
        {"u8", npy_of("|u1", "(4, 6)", six), "type u8; f32 (<f4) or f64 (<f8) is wanted"},
        {"f16", npy_of("<f2", "(4, 3)", six), "'<f2' is not read, only <f4, <f8"},
        {"big_endian", npy_of(">f4", "(2, 3)", six), "'>f4' is not read, only <f4, <f8"},
        {"fortran", npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", six),
         "Fortran order, not C order"},
        {"truncated", npy_of("<f4", "(2, 3)", six.substr(1)), "needs more than the 23 bytes"},
        {"oversized", npy_of("<f4", "(2, 3)", six + "y"), "25 bytes follow the header, shape (2, 3) needs 24"},
        {"empty_but_not", npy_of("<f4", "(0, 3)", six), "24 bytes follow the header, shape (0, 3) needs 0"},
        {"overflow", npy_of("<f8", "(4294967296, 4294967296)", six), "needs more than the 24 bytes"},
        {"overflow2", npy_of("<f8", "(999999999999999999, 999999999999999999)", six), "needs more than the 24 bytes"},
        {"digits", npy_of("<f8", "(9999999999999999999, 1)", six), "more than 18 digits"},
        {"negative", npy_of("<f8", "(-2, 3)", six), "an extent is not a number"},
    };
    for (const auto& c : cases) {
        const std::string path = put(c.name, c.bytes);
        expect_failure([&] { MatrixReader reader(path); }, {"'" + path + "'", c.says});
    }
    expect_failure([&] { MatrixReader reader(folder / "absent.npy"); }, {"absent.npy", "No such file"});
    expect_failure([&] { MatrixReader reader(folder); }, {folder.string(), "not a regular file"});
    ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
    expect_failure([&] { MatrixReader reader(folder / "pipe"); }, {"pipe", "not a regular file"});

    // Nothing to read, so no product of extents can hurt.
    const MatrixReader flat(put("flat", npy_of("<f8", "(0, 999999999999999999)", "")));
    EXPECT_EQ(flat.cols(), 999999999999999999);
    flat.read(0, 0, 0, flat.cols(), nullptr, flat.cols());
}

TEST_F(MatrixFile, AFileThatShrinksIsAnError) {
    const std::string path = put("m.npy", npy_of("<f4", "(2, 3)", std::string(24, 'x')));
    const MatrixReader reader(path);
    fs::resize_file(path, fs::file_size(path) - 4);
    float to[6];
    reader.read(0, 0, 1, 3, to, 3);
    expect_failure([&] { reader.read(0, 0, 2, 3, to, 3); }, {path, "it ended at byte"});
    expect_failure([&] { reader.read(1, 2, 1, 1, to, 1); }, {path, "it ended at byte"});
}

// No file of this process may grow beyond `bytes`; writes fail with EFBIG instead of a signal.
class FileSizeLimit {
 public:
    explicit FileSizeLimit(rlim_t bytes) : handler_(signal(SIGXFSZ, SIG_IGN)) {
        EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &before_), 0);
        const rlimit limit{bytes, before_.rlim_max};
        EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    }
    ~FileSizeLimit() {
        setrlimit(RLIMIT_FSIZE, &before_);
        signal(SIGXFSZ, handler_);
    }

 private:
    rlimit before_{};
    void (*handler_)(int);
};

TEST_F(MatrixFile, NoSpaceLeavesNothing) {
    const fs::path path = folder / "m.npy";
    const std::string huge = "1152921504606847104 bytes are needed";  // with the header's 128
    expect_failure([&] { MatrixWriter writer(path, DType::f64, int64_t(1) << 28, int64_t(1) << 29); },
                   {path.string(), "No space left", huge, "are free"});
    expect_failure([&] { MatrixWriter writer(path, DType::f64, int64_t(1) << 32, int64_t(1) << 32); },
                   {path.string(), "4294967296 x 4294967296 elements of f64", "exceed 2^63 bytes"});
    expect_failure([&] { MatrixWriter writer(path, DType::f32, -1, 2); }, {"-1 x 2 elements"});
    EXPECT_THROW(MatrixWriter(path, DType::bf16, 1, 1), std::invalid_argument);
    expect_failure([&] { SwapFile swap(folder, int64_t(1) << 60); },
                   {folder.string(), "No space left", "1152921504606846976 bytes are needed", "are free"});
    {
        const FileSizeLimit limit(1 << 16);
        expect_failure([&] { MatrixWriter writer(path, DType::f32, 128, 128); }, {path.string(), "File too large"});
        expect_failure([&] { SwapFile swap(folder, (1 << 16) + 1); }, {folder.string(), "File too large"});
    }
    EXPECT_TRUE(fs::is_empty(folder));
}

TEST_F(MatrixFile, WithoutFinishTheOldFileStays) {
    const std::string path = put("m.npy", "old");
    {
        MatrixWriter writer(path, DType::f64, 7, 3);
        put_block<double>(writer, 0, 0, 7, 3, 3);
    }
    EXPECT_EQ(read_file(path).size(), 3u);
    fs::create_symlink("m.npy", folder / "link.npy");  // its target is meant
    MatrixWriter writer(folder / "link.npy", DType::f64, 7, 3);
    put_block<double>(writer, 0, 0, 7, 3, 3);
    writer.finish();
    EXPECT_TRUE(fs::is_symlink(folder / "link.npy"));
    EXPECT_TRUE(right<double>(MatrixReader(path), 0, 0, 7, 3, 3));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 2);
    expect_failure([&] { MatrixWriter lost(folder / "absent" / "m.npy", DType::f32, 1, 1); }, {"No such file"});
}

struct Aligned {  // `shift` bytes behind a multiple of the alignment
    explicit Aligned(int64_t bytes)
        : data(static_cast<uint8_t*>(std::aligned_alloc(
                   SwapFile::alignment,
                   size_t(bytes + 2 * SwapFile::alignment) / SwapFile::alignment * SwapFile::alignment)),
               &std::free) {}
    std::unique_ptr<uint8_t, decltype(&std::free)> data;
};

TEST_F(MatrixFile, SwapRoundTrip) {
    constexpr int64_t slot = 80 * 4096;  // above what stays in the cache where I/O is not direct
    for (const fs::path& place : {folder, fs::path("/dev/shm")}) {
        if (!fs::is_directory(place) || access(place.c_str(), W_OK) != 0) continue;
        SwapFile swap(place, 10 * slot - 5);
        EXPECT_EQ(swap.bytes(), 10 * slot);
        EXPECT_TRUE(fs::is_empty(folder));  // no name, so a killed run leaves nothing
        const int64_t sizes[] = {slot, 1, 0, 4095, 4096, 4097, slot - 1, 3 * 4096, 70 * 4096 + 9, slot - 5};
        const auto byte = [](int64_t t, int64_t i) {
            return uint8_t(random_bits(7, uint64_t(t), uint64_t(i / 64)) + uint64_t(i));
        };
        for (int64_t t = 0; t < 10; ++t) {
            const Aligned tile(sizes[t]);
            for (int64_t i = 0; i < sizes[t]; ++i) tile.data.get()[i] = byte(t, i);
            swap.write(t * slot, sizes[t], tile.data.get());
        }
        int64_t wrong = 0;
        for (int64_t t = 9; t >= 0; --t) {
            const Aligned tile(sizes[t]);
            tile.data.get()[sizes[t]] = 77;
            swap.read(t * slot, sizes[t], tile.data.get());
            for (int64_t i = 0; i < sizes[t]; ++i) wrong += tile.data.get()[i] != byte(t, i);
            EXPECT_EQ(tile.data.get()[sizes[t]], 77) << "behind tile " << t;
        }
        EXPECT_EQ(wrong, 0) << place << (swap.direct() ? " direct" : " buffered");
    }
}

TEST_F(MatrixFile, SwapMisuse) {
    SwapFile swap(folder, 8192);
    const Aligned tile(8192);
    EXPECT_THROW(swap.read(1, 100, tile.data.get()), std::invalid_argument);
    EXPECT_THROW(swap.read(0, 100, tile.data.get() + 8), std::invalid_argument);
    EXPECT_THROW(swap.write(4096, 4097, tile.data.get()), std::invalid_argument);
    EXPECT_THROW(swap.write(-4096, 4096, tile.data.get()), std::invalid_argument);
    EXPECT_THROW(swap.write(0, -1, tile.data.get()), std::invalid_argument);
    EXPECT_THROW(SwapFile(folder, -1), std::invalid_argument);
    EXPECT_THROW(SwapFile(folder, INT64_MAX), std::invalid_argument);
    SwapFile none(folder, 0);
    none.write(0, 0, tile.data.get());
    expect_failure([&] { SwapFile lost(folder / "absent", 1); }, {"absent", "No such file"});
    expect_failure([&] { SwapFile lost(put("file", "x"), 1); }, {"file", "Not a directory"});
    const fs::path read_only = geteuid() == 0 ? fs::path("/sys") : folder;
    if (geteuid() != 0) fs::permissions(folder, fs::perms::owner_read | fs::perms::owner_exec);
    EXPECT_THROW(SwapFile(read_only, 1), Error);
    fs::permissions(folder, fs::perms::owner_all);
}

}  // namespace
}  // namespace tessera
