// tests/data_test.cpp - data sets: every format there and back, splits, the generated digits.
#include <algorithm>
#include <limits>

#include "data/cifar.h"
#include "data/digits.h"
#include "data/gzip.h"
#include "data/npy.h"
#include "tests/data_fixture.h"

using namespace tessera;
namespace fs = std::filesystem;

TEST_F(Data, MnistOneHalfIsTrainingDataAndLosesItsLastTenth) {
    put_mnist("t10k", 300);
    const Split split = load_data("mnist:" + folder.string(), -1, 0);
    EXPECT_FALSE(split.separate_test);
    EXPECT_EQ(split.train.count, 270);
    EXPECT_EQ(split.test.count, 30);
    EXPECT_EQ(split.train.height, 2);
    EXPECT_EQ(split.train.width, 3);
    EXPECT_EQ(split.test.labels[7], 277 % 10);
    EXPECT_EQ(split.test.bytes[6 * 7 + 5], uint8_t(7 * 277 + 5));
    EXPECT_EQ(split.note,
              "'" + folder.string() +
                  "' has no training images of mnist: of its 300 test images 270 are trained on, 30 held out");
    const Split whole = load_data("mnist:" + folder.string(), 0, 0);
    EXPECT_EQ(whole.train.count, 300);
    EXPECT_NE(whole.note.find("300 are trained on, 0 held out"), std::string::npos) << whole.note;
    put_mnist("train", 50);
    EXPECT_EQ(load_data("mnist:" + folder.string(), -1, 0).note, "");
}

TEST_F(Data, CifarSaysWhichOfItsFilesAreNotThere) {
    const std::string source = "cifar10:" + folder.string();
    const auto note = [&] { return load_data(source, 0, 0).note; };
    put("test_batch.bin", cifar_records(4));
    EXPECT_EQ(note(), "'" + folder.string() +
                          "' has no training images of cifar10: of its 4 test images 4 are trained on, 0 held out");
    for (int i : {2, 3, 5}) put("data_batch_" + std::to_string(i) + ".bin", cifar_records(i));
    EXPECT_EQ(note(), "10 training images of cifar10, not 50000: '" + folder.string() +
                          "' has no data_batch_1.bin, data_batch_4.bin");
    for (int i : {1, 4}) put("data_batch_" + std::to_string(i) + ".bin", cifar_records(i));
    EXPECT_EQ(note(), "");
}

TEST_F(Data, MnistBothHalvesGiveASeparateTestSet) {
    put_mnist("train", 50);
    put_mnist("t10k", 20);
    const Split whole = load_data("mnist:" + folder.string(), -1, 0);
    EXPECT_TRUE(whole.separate_test);
    EXPECT_EQ(whole.train.count, 50);
    EXPECT_EQ(whole.test.count, 20);
    const Split cut = load_data("mnist:" + folder.string(), 0.25, 0);
    EXPECT_EQ(cut.train.count, 37);  // llround(12.5) = 13 held out
    EXPECT_EQ(cut.test.count, 13);   // in place of the 20
    EXPECT_EQ(cut.test.labels[0], 7);
    EXPECT_FALSE(cut.separate_test);
    EXPECT_TRUE(load_data("mnist:" + folder.string(), 0, 0).separate_test);
}

TEST_F(Data, CifarIsStoredChannelsLastInBatchOrder) {
    put("data_batch_10.bin", cifar_records(3));
    put("data_batch_2.bin", cifar_records(5));
    put("test_batch.bin", cifar_records(4));
    const Split split = load_data("cifar10:" + folder.string(), -1, 0);
    EXPECT_EQ(split.train.count, 8);
    EXPECT_EQ(split.test.count, 4);
    EXPECT_EQ(split.train.labels, (std::vector<int32_t>{0, 1, 2, 3, 4, 0, 1, 2}));
    for (int c = 0; c < 3; ++c) EXPECT_EQ(split.train.bytes[3072 * 4 + 3 * 700 + c], uint8_t(4 + 50 * c + 700));
    EXPECT_FLOAT_EQ(split.train.mean[2], 0.4465f);
    EXPECT_FLOAT_EQ(split.train.scale[0], 1 / 0.247f);
}

TEST_F(Data, Cifar100TakesTheFineLabel) {
    put("train.bin", cifar_records(12, true));
    const Split split = load_data("cifar100:" + folder.string(), 0.5, 0);
    EXPECT_EQ(split.train.classes, 100);
    EXPECT_EQ(split.train.count, 6);
    EXPECT_EQ(split.test.labels, (std::vector<int32_t>{6, 7, 8, 9, 0, 1}));
}

TEST_F(Data, NpyRoundTrip) {
    const std::vector<float> floats = {1, -2.5f, 3e-30f, 4, 5, 6};
    write_npy(folder / "f.npy", floats, {3, 2});
    const auto bytes = read_file(folder / "f.npy");
    EXPECT_EQ((bytes.size() - 24) % 64, 0u);  // elements are aligned
    const Npy array = parse_npy(bytes, "f.npy");
    EXPECT_EQ(array.shape, (std::vector<int64_t>{3, 2}));
    for (int i = 0; i < 6; ++i) EXPECT_EQ(array.at<float>(i), floats[i]);
    const std::vector<double> doubles = {0.1, std::numeric_limits<double>::infinity()};
    for (const auto& shape : {std::vector<int64_t>{2}, {1, 2, 1, 1}}) {
        write_npy(folder / "d.npy", doubles, shape);
        const auto again = read_file(folder / "d.npy");
        EXPECT_EQ(parse_npy(again, "d.npy").shape, shape);
        EXPECT_EQ(parse_npy(again, "d.npy").at<double>(1), doubles[1]);
    }
    EXPECT_THROW(write_npy(folder / "d.npy", doubles, {3}), std::invalid_argument);
}

TEST_F(Data, NpyDatasets) {
    const Split flat = load_data(npy_source(npy_of("<f8", "(3, 2)", raw<double>({1, 2, 3, 4, 5, 6})),
                                            npy_of("<i8", "(3,)", raw<int64_t>({4, 0, 2}))),
                                 -1, 0);
    EXPECT_EQ(flat.train.values, (std::vector<float>{1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(flat.train.labels, (std::vector<int32_t>{4, 0, 2}));
    EXPECT_EQ(flat.train.classes, 5);
    const Split images = load_data(npy_source(npy_of("|u1", "(1, 2, 1, 3)", bytes_of_u8({1, 2, 3, 11, 12, 13})),
                                              npy_of("|u1", "(1,)", bytes_of_u8({1}))),
                                   0, 0);
    EXPECT_EQ(images.train.bytes, (std::vector<uint8_t>{1, 11, 2, 12, 3, 13}));  // channels last
    EXPECT_EQ(images.train.channels, 2);
    EXPECT_EQ(images.train.scale.size(), 2u);
}

TEST_F(Data, GzipRoundTripMembersAndLimit) {
    std::string text(300'000, 'a');
    for (size_t i = 0; i < text.size(); i += 3) text[i] = char(i * i >> 3);
    const std::string once = gzipped(text), twice = once + once;
    const auto in = [](const std::string& s) {
        return std::span(reinterpret_cast<const uint8_t*>(s.data()), s.size());
    };
    const auto out = inflate(in(twice), 600'000, "g.gz");
    EXPECT_EQ(std::string(out.begin(), out.end()), text + text);
    expect_failure([&] { inflate(in(twice), 599'999, "g.gz"); }, {"g.gz", "more than the 599999"});
    expect_failure([&] { inflate(in(once + "tail"), 1 << 20, "g.gz"); }, {"g.gz", "4 bytes follow"});
    expect_failure([&] { inflate(in(once.substr(0, 500)), 1 << 20, "g.gz"); }, {"g.gz", "ends early"});
    expect_failure([&] { inflate(in("plain"), 1 << 20, "g.gz"); }, {"g.gz", "not a gzip file"});
    std::string damaged = once;
    damaged[damaged.size() - 6] ^= 1;  // the check sum
    expect_failure([&] { inflate(in(damaged), 1 << 20, "g.gz"); }, {"g.gz", "damaged gzip"});
}

TEST(Digits, AreBalancedReproducibleAndTheirSetsDisjoint) {
    const Dataset a = make_digits(1000, 7), b = make_digits(300, 7), part = make_digits(50, 7, 120);
    EXPECT_TRUE(std::equal(b.bytes.begin(), b.bytes.end(), a.bytes.begin()));
    EXPECT_EQ(part.bytes, a.slice(120, 170).bytes);
    EXPECT_EQ(part.labels, a.slice(120, 170).labels);
    for (int digit = 0; digit < 10; ++digit) EXPECT_EQ(std::count(a.labels.begin(), a.labels.end(), digit), 100);
    EXPECT_NE(make_digits(10, 8).bytes, a.slice(0, 10).bytes);
    uint64_t sum = 0;  // recorded: the same on every machine and compiler
    for (const uint8_t byte : a.bytes) sum = 31 * sum + byte;
    EXPECT_EQ(sum, 0x2c6c1149f97f53cbu);

    const Split split = load_data("digits:600", -1, 7);
    EXPECT_TRUE(split.separate_test);
    EXPECT_EQ(split.train.count, 600);
    EXPECT_EQ(split.test.count, 120);
    EXPECT_EQ(load_data("digits:5", -1, 7).test.count, 100);
    EXPECT_EQ(load_data("digits", 0.1, 7).test.count, 1000);
    for (int64_t i = 0; i < split.test.count; ++i)
        for (int64_t k = 0; k < split.train.count; ++k)
            EXPECT_FALSE(
                std::equal(&split.test.bytes[i * 784], &split.test.bytes[i * 784] + 784, &split.train.bytes[k * 784]));
}

TEST(Dataset, SlicesAndChecks) {
    const Dataset set = make_digits(20, 1);
    EXPECT_NO_THROW(set.check());
    EXPECT_EQ(set.slice(5, 5).count, 0);
    EXPECT_THROW(set.slice(5, 21), Error);
    EXPECT_THROW(set.slice(-1, 3), Error);
    EXPECT_EQ(set.checksum(), make_digits(20, 1).checksum());
    for (const auto& change : std::vector<std::function<void(Dataset&)>>{
             [](Dataset& d) { d.bytes.back() ^= 1; }, [](Dataset& d) { std::swap(d.labels[0], d.labels[1]); },
             [](Dataset& d) { d.bytes.resize(d.bytes.size() - 3); }}) {
        Dataset other = set;
        change(other);
        EXPECT_NE(set.checksum(), other.checksum());
    }
    const auto spoilt = [&](auto spoil) {
        Dataset bad = set;
        spoil(bad);
        EXPECT_THROW(bad.check(), Error);
    };
    spoilt([](Dataset& d) { d.bytes.pop_back(); });
    spoilt([](Dataset& d) { d.labels[3] = 10; });
    spoilt([](Dataset& d) { d.labels.pop_back(); });
    spoilt([](Dataset& d) { d.values = {1}; });
    spoilt([](Dataset& d) { d.mean.clear(); });
    spoilt([](Dataset& d) { d.channels = int64_t(1) << 62; });
    spoilt([](Dataset& d) { d.height = 0; });
}
