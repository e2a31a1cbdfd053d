// data/npy_dataset.cpp - a data set from two .npy arrays, features and labels.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/file.h"
#include "data/npy.h"

namespace tessera {

static constexpr int64_t most_classes = int64_t(1) << 20;

static std::string text(int64_t n) { return std::to_string(n); }

// Calls put(to, from) for every feature: from counts the file's (n, c, h, w), to counts (n, h, w, c).
template <class Put>
static void to_channels_last(const Dataset& set, Put put) {
    const int64_t pixels = set.height * set.width, features = set.features();
    for (int64_t i = 0; i < set.count; ++i)
        for (int64_t c = 0; c < set.channels; ++c)
            for (int64_t p = 0; p < pixels; ++p)
                put(i * features + p * set.channels + c, i * features + c * pixels + p);
}

static void take_features(const Npy& x, const std::string& file, Dataset& set) {
    if (x.type == NpyType::i32 || x.type == NpyType::i64)
        throw Error("'" + file + "': features cannot be integers of 4 or 8 bytes", "save them as float32 or uint8");
    if (x.shape.size() != 2 && x.shape.size() != 4)
        throw Error("'" + file + "': features need rank 2 (samples, features) or 4 (samples, channels, height, width)" +
                        ", not " + text(int64_t(x.shape.size())),
                    "reshape the array before saving it");
    if (x.count() == 0) throw Error("'" + file + "': the array is empty", "it needs at least one sample and feature");
    set.count = x.shape[0];
    if (x.shape.size() == 4) set.channels = x.shape[1], set.height = x.shape[2];
    set.width = x.shape.back();
    if (x.type == NpyType::u8) {
        set.bytes.resize(x.data.size());
        set.mean.assign(size_t(set.channels), 0.0f);
        set.scale.assign(size_t(set.channels), 1.0f);
        to_channels_last(set, [&](int64_t to, int64_t from) { set.bytes[to] = x.data[from]; });
        return;
    }
    set.values.resize(size_t(x.count()));
    to_channels_last(set, [&](int64_t to, int64_t from) {
        const float value = set.values[to] = x.at<float>(from);
        if (!std::isfinite(value))
            throw Error("'" + file + "': sample " + text(from / set.features()) + ", feature " +
                            text(from % set.features()) + " is " + std::to_string(x.at<double>(from)) +
                            ", not a finite 32-bit float",
                        "clean or rescale the features before saving them");
    });
}

static void take_labels(const Npy& y, const std::string& file, Dataset& set) {
    if (y.type == NpyType::f32 || y.type == NpyType::f64)
        throw Error("'" + file + "': labels cannot be floating-point", "save them as int32, int64 or uint8");
    if (y.shape.size() != 1)
        throw Error("'" + file + "': labels need rank 1, not " + text(int64_t(y.shape.size())),
                    "save class numbers, not one-hot rows");
    set.labels.reserve(size_t(y.count()));
    for (int64_t i = 0; i < y.count(); ++i) {
        const auto label = y.at<int64_t>(i);
        if (label < 0 || label >= most_classes)
            throw Error("'" + file + "': sample " + text(i) + " has label " + text(label) + ", outside 0.." +
                            text(most_classes - 1),
                        "labels number the classes from 0");
        set.labels.push_back(int32_t(label));
        set.classes = std::max(set.classes, label + 1);
    }
}

Dataset parse_npy_dataset(std::span<const uint8_t> x, const std::string& x_file, std::span<const uint8_t> y,
                          const std::string& y_file) {
    Dataset set;
    set.name = "npy";
    take_features(parse_npy(x, x_file), x_file, set);
    take_labels(parse_npy(y, y_file), y_file, set);
    if (int64_t(set.labels.size()) != set.count)
        throw Error("'" + x_file + "' has " + text(set.count) + " samples, but '" + y_file + "' has " +
                        text(int64_t(set.labels.size())) + " labels",
                    "save both from the same samples");
    return set;
}

Dataset read_npy_dataset(const std::filesystem::path& x, const std::filesystem::path& y) {
    return parse_npy_dataset(read_file(x), x.string(), read_file(y), y.string());
}

}  // namespace tessera
