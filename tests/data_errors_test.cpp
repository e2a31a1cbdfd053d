// tests/data_errors_test.cpp - every bad data file and flag is one clear line that names the file and the numbers.
#include <cmath>
#include <limits>

#include "tests/data_fixture.h"

using namespace tessera;
namespace fs = std::filesystem;

TEST_F(Data, BadIdxFiles) {
    struct {
        const char* what;
        std::string images, labels;
        std::vector<std::string> message;
    } const cases[] = {
        {"empty", "", idx_labels(3), {"images", "0 bytes"}},
        {"wrong magic", "\x89PNG....", idx_labels(3), {"images", "not an IDX file"}},
        {"element type", bytes_of_u8({0, 0, 13, 1, 0, 0, 0, 1, 0, 0, 0, 0}), idx_labels(3), {"images", "type 13"}},
        {"rank 0", bytes_of_u8({0, 0, 8, 0}), idx_labels(3), {"images", "rank 0"}},
        {"rank 200", bytes_of_u8({0, 0, 8, 200}), idx_labels(3), {"images", "rank 200"}},
        {"half a header", idx_images(3).substr(0, 9), idx_labels(3), {"images", "9 bytes", "header"}},
        {"extent 0", bytes_of_u8({0, 0, 8, 1, 0, 0, 0, 0}), idx_labels(3), {"images", "extent 0 is 0"}},
        {"truncated", idx_images(3).substr(0, 33), idx_labels(3), {"images", "more than the 17 bytes"}},
        {"trailing", idx_images(3) + "x", idx_labels(3), {"images", "19 bytes follow", "promises 18"}},
        {"lying",
         bytes_of_u8({0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}),
         idx_labels(3),
         {"images", "more than the 1 bytes"}},
        {"counts", idx_images(3), idx_labels(4), {"images", "3 images", "labels", "4 labels"}},
        {"swapped", idx_labels(3), idx_images(3), {"images", "rank 3", "not 1"}},
        {"rank of labels", idx_images(3), idx_images(3), {"labels", "rank 1, not 3"}},
        {"label", idx_images(3), bytes_of_u8({0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 10}), {"labels", "sample 2", "label 10"}},
        {"gzip cut", gzipped(idx_images(99)).substr(0, 60), idx_labels(99), {"images", "ends early"}}};
    for (const auto& c : cases) {
        SCOPED_TRACE(c.what);
        const std::string images = put("train-images-idx3-ubyte", c.images);
        put("train-labels-idx1-ubyte", c.labels);
        expect_failure([&] { load_data("mnist:" + folder.string(), -1, 0); }, c.message);
    }
    fs::remove(folder / "train-labels-idx1-ubyte");
    expect_failure([&] { load_data("mnist:" + folder.string(), -1, 0); }, {"no train-labels-idx1", "images"});
    fs::remove(folder / "train-images-idx3-ubyte");
    expect_failure([&] { load_data("mnist:" + folder.string(), -1, 0); }, {folder.string(), "neither"});
    expect_failure([&] { load_data("mnist:" + folder.string() + "/none", -1, 0); }, {"none", "not a folder"});
}

TEST_F(Data, BadCifarFiles) {
    std::string wrong_label = cifar_records(2);
    wrong_label[3073] = 10;
    std::string wrong_fine = cifar_records(2, true);
    wrong_fine[3075] = 100;
    struct {
        const char *kind, *file;
        std::string bytes;
        std::vector<std::string> message;
    } const cases[] = {
        {"cifar10", "data_batch_1.bin", "", {"data_batch_1.bin", "0 bytes"}},
        {"cifar10", "data_batch_1.bin", cifar_records(2).substr(1), {"data_batch_1.bin", "6145 bytes", "3073"}},
        {"cifar10", "data_batch_1.bin", cifar_records(2) + "x", {"data_batch_1.bin", "6147 bytes"}},
        {"cifar10", "data_batch_1.bin", wrong_label, {"data_batch_1.bin", "sample 1", "label 10", "0..9"}},
        {"cifar100", "train.bin", cifar_records(2), {"train.bin", "6146 bytes", "3074"}},
        {"cifar100", "train.bin", wrong_fine, {"train.bin", "sample 1", "label 100", "0..99"}}};
    for (const auto& c : cases) {
        put(c.file, c.bytes);
        expect_failure([&] { load_data(std::string(c.kind) + ":" + folder.string(), -1, 0); }, c.message);
        fs::remove(folder / c.file);
    }
    expect_failure([&] { load_data("cifar10:" + folder.string(), -1, 0); }, {folder.string(), "neither"});
    expect_failure([&] { load_data("cifar100:" + folder.string() + "/none", -1, 0); }, {"none", "not a folder"});
}

TEST_F(Data, BadNpyFiles) {
    const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
    const std::string x = npy_of("<f4", "(2, 2)", raw<float>({1, 2, 3, 4})),
                      y = npy_of("<i4", "(2,)", raw<int>({0, 1}));
    const std::string four = raw<float>({1, 2, 3, 4});
    struct {
        const char* what;
        std::string x, y;
        std::vector<std::string> message;
    } const cases[] = {
        {"empty", "", y, {"x.npy", "not an npy file"}},
        {"only magic", x.substr(0, 7), y, {"x.npy", "7 bytes"}},
        {"version", std::string(x).replace(6, 1, "\x09"), y, {"x.npy", "version 9"}},
        {"header past the end", x.substr(0, 30), y, {"x.npy", "goes past the end"}},
        {"truncated", x.substr(0, x.size() - 1), y, {"x.npy", "(2, 2)", "15 bytes"}},
        {"trailing", x + "x", y, {"x.npy", "17 bytes follow", "needs 16"}},
        {"lying", npy_of("<f4", "(999999999999999999, 9999999999)", four), y, {"x.npy", "16 bytes that follow"}},
        {"extent overflow", npy_of("<f4", "(99999999999999999999, 1)", four), y, {"x.npy", "18 digits"}},
        {"negative extent", npy_of("<f4", "(-2, 2)", four), y, {"x.npy", "not a number"}},
        {"no tuple", npy_of("<f4", "(4)", four), y, {"x.npy", "comma"}},
        {"missing key", npy("{'descr': '<f4', 'shape': (2, 2)}", four), y, {"x.npy", "fortran_order"}},
        {"key twice", npy("{'descr': '<f4', 'descr': '<f4'}", four), y, {"x.npy", "unexpected key"}},
        {"not a dict", npy("(2, 2)", four), y, {"x.npy", "damaged npy header"}},
        {"fortran", npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2)}", four), y, {"x.npy", "Fortran"}},
        {"big endian", npy_of(">f4", "(2, 2)", four), y, {"x.npy", "'>f4'"}},
        {"new line in type", npy_of("a\nb", "(2, 2)", four), y, {"x.npy", "'a?b'"}},
        {"structured", npy("{'descr': [('a', '<f4')]}", four), y, {"x.npy", "structured"}},
        {"integer features", npy_of("<i4", "(2, 2)", four), y, {"x.npy", "integers"}},
        {"rank 3", npy_of("<f4", "(2, 2, 1)", four), y, {"x.npy", "rank", "not 3"}},
        {"no sample", npy_of("<f4", "(0, 2)", ""), y, {"x.npy", "empty"}},
        {"NaN", npy_of("<f4", "(2, 2)", raw<float>({1, 2, nan, 4})), y, {"x.npy", "sample 1, feature 0", "nan"}},
        {"Inf", npy_of("<f4", "(2, 2)", raw<float>({1, -inf, 3, 4})), y, {"x.npy", "sample 0, feature 1", "-inf"}},
        {"beyond f32", npy_of("<f8", "(2, 1)", raw<double>({1, 1e39})), y, {"x.npy", "sample 1, feature 0"}},
        {"float labels", x, npy_of("<f4", "(2,)", raw<float>({0, 1})), {"y.npy", "floating"}},
        {"one-hot", x, npy_of("|u1", "(2, 2)", four.substr(0, 4)), {"y.npy", "rank 1, not 2"}},
        {"negative", x, npy_of("<i4", "(2,)", raw<int>({0, -1})), {"y.npy", "sample 1", "label -1"}},
        {"huge", x, npy_of("<i8", "(2,)", raw<int64_t>({int64_t(1) << 40, 1})), {"y.npy", "label 1099511627776"}},
        {"counts", x, npy_of("|u1", "(1,)", raw<char>({1})), {"x.npy", "2 samples", "y.npy", "1 labels"}}};
    for (const auto& c : cases) {
        SCOPED_TRACE(c.what);
        expect_failure([&] { load_data(npy_source(c.x, c.y), -1, 0); }, c.message);
    }
    EXPECT_NO_THROW(load_data(npy_source(x, y), 0, 0));
    fs::remove(folder / "y.npy");
    EXPECT_THROW(load_data("npy:" + put("x.npy", x) + "," + (folder / "y.npy").string(), 0, 0), Error);
}

TEST_F(Data, BadFlags) {
    const auto usage = [](const std::string& source, double validation, const std::vector<std::string>& message) {
        expect_failure<UsageError>([&] { load_data(source, validation, 0); }, message);
    };
    usage("", -1, {"unknown data ''"});
    usage("imagenet:x", -1, {"unknown data 'imagenet:x'"});
    usage("mnits:x", -1, {"mnits"});
    usage("mnist", -1, {"names no folder"});
    usage("npy:", -1, {"names no files"});
    for (const char* pair : {"npy:x.npy", "npy:x.npy,", "npy:,y.npy", "npy:a,b,c"})
        usage(pair, -1, {"two files", pair});
    for (const char* size : {"0", "-5", "5x", "1e4", "99999999999999999999"})
        usage(std::string("digits:") + size, -1, {size, "1000000"});
    usage("digits:10", 1, {"1.0", "outside [0, 1)"});
    usage("digits:10", std::nan(""), {"nan"});
    usage("digits:10", 0.99, {"leaves none"});
    put_mnist("t10k", 1);
    usage("mnist:" + folder.string(), 0.6, {"1 samples leaves none"});
}
