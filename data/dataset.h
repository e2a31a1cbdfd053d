// data/dataset.h - labelled samples in memory, and where they come from (the flag --data).
// Features of a sample are stored H x W x C, channels last; samples follow each other in file order.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

struct Dataset {
    std::string name;
    int64_t count = 0, channels = 1, height = 1, width = 1, classes = 0;
    std::vector<uint8_t> bytes;      // images, count x features(); of bytes and values exactly one is filled
    std::vector<float> values;       // finite features, count x features(), used as they are
    std::vector<int32_t> labels;     // count, each in [0, classes)
    std::vector<float> mean, scale;  // with bytes, per channel c: feature = (byte / 255 - mean[c]) * scale[c]

    int64_t features() const { return channels * height * width; }

    // Samples first <= i < last, copied.
    Dataset slice(int64_t first, int64_t last) const;

    uint32_t checksum() const;  // CRC-32 of features and labels as they lie in memory

    // Throws Error naming the data set and the numbers that do not fit together.
    void check() const;
};

struct Split {
    Dataset train, test;         // test: what accuracy is taken on; may have count 0
    bool separate_test = false;  // `test` came with the source; else it is held out of the training data
    bool tests_alone = false;    // the source has test data only, which are trained on
    std::string note;            // a line on what of the source was not there, if training goes on without it
};

// Cuts the last llround(fraction * count) training samples off, in order; they are the test set, in place of one that
// came with the source. Throws UsageError if fraction is outside [0, 1) or leaves nothing to train on.
void hold_out(Split& split, double fraction);

// source        training data; test data                                                          held out by default
// digits[:N]    N (10,000) samples made by make_digits(seed); max(N/5, 100) more                  0
// mnist:DIR     train-{images,labels}*, t10k-* (IDX, plain or .gz); one alone is training data    0, if alone 0.1
// cifar10:DIR   data_batch_*.bin, of 5 as many as there are; test_batch.bin (likewise)            0, if alone 0.1
// cifar100:DIR  train.bin; test.bin (likewise), fine labels                                       0, if alone 0.1
// npy:X,Y       X (n, f) or (n, c, h, w), f32, f64 or u8; Y (n), i32, i64 or u8; none             0.1
// validation < 0 takes the default. Throws UsageError for a source that is not one of these, Error naming the file
// for data that is missing, damaged or inconsistent. Test data alone, or some of the training data, have a `note`.
Split load_data(const std::string& source, double validation, uint64_t seed);

// The files that load_data would read, as far as they are there. Throws nothing for a source that is none.
std::vector<std::string> files_of_data(const std::string& source);

// The shapes of the same without the data: published counts for mnist, cifar10 and cifar100, for digits what the flag
// says; an npy pair is read. `count` is that of the source, but contents, made up from the seed, are there for the
// first min(count, most) samples only. For simulation (most = 0) and calibration.
Split shape_of_data(const std::string& source, double validation, int64_t most);

}  // namespace tessera
