// data/dataset.cpp - checks, slices and the sources behind load_data.
#include "data/dataset.h"

#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>

#include "core/error.h"
#include "core/random.h"
#include "data/cifar.h"
#include "data/digits.h"
#include "data/idx.h"
#include "data/npy.h"

namespace tessera {

Dataset Dataset::slice(int64_t first, int64_t last) const {
    if (first < 0 || last < first || last > count)
        throw Error(name + ": samples " + std::to_string(first) + " to " + std::to_string(last) + " of " +
                    std::to_string(count));
    const auto cut = [&](const auto& all, int64_t per_sample) {
        using Vector = std::decay_t<decltype(all)>;
        return all.empty() ? Vector() : Vector(all.begin() + first * per_sample, all.begin() + last * per_sample);
    };
    Dataset part{name, last - first, channels, height, width, classes, {}, {}, {}, mean, scale};
    part.bytes = cut(bytes, features());
    part.values = cut(values, features());
    part.labels = cut(labels, 1);
    return part;
}

uint32_t Dataset::checksum() const {
    uLong sum = crc32_z(0, nullptr, 0);
    const auto add = [&](const auto& of) {
        if (of.empty()) return;  // no address would begin anew
        sum = crc32_z(sum, reinterpret_cast<const Bytef*>(of.data()), of.size() * sizeof(of[0]));
    };
    add(bytes), add(values), add(labels);
    return uint32_t(sum);
}

void Dataset::check() const {
    const auto require = [&](bool ok, const std::string& what) {
        if (!ok) throw Error(name + ": " + what);
    };
    const auto text = [](int64_t n) { return std::to_string(n); };
    constexpr int64_t limit = int64_t(1) << 31;
    require(count > 0, "no samples");
    require(channels > 0 && height > 0 && width > 0 && channels < limit && height < limit / channels &&
                width < limit / channels / height,
            "a sample cannot be " + text(channels) + " x " + text(height) + " x " + text(width));
    require(bytes.empty() != values.empty(), "exactly one of bytes and values must be filled");
    const auto stored = int64_t(bytes.size() + values.size());
    require(stored % features() == 0 && stored / features() == count,
            text(stored) + " features for " + text(count) + " samples of " + text(features()));
    require(int64_t(labels.size()) == count, text(int64_t(labels.size())) + " labels for " + text(count) + " samples");
    const auto per_channel = bytes.empty() ? size_t(0) : size_t(channels);
    require(mean.size() == per_channel && scale.size() == per_channel,
            text(int64_t(mean.size())) + " means and " + text(int64_t(scale.size())) + " scales for " + text(channels) +
                " channels of " + (bytes.empty() ? "values" : "bytes"));
    for (int64_t i = 0; i < count; ++i)
        require(labels[i] >= 0 && labels[i] < classes,
                "sample " + text(i) + " has label " + text(labels[i]) + ", outside 0.." + text(classes - 1));
    for (int64_t i = 0; i < int64_t(values.size()); ++i)
        require(std::isfinite(values[i]), "sample " + text(i / features()) + ", feature " + text(i % features()) +
                                              " is " + std::to_string(values[i]));
}

static void check_fraction(double fraction) {
    if (!(fraction >= 0 && fraction < 1))
        throw UsageError("validation fraction " + std::to_string(fraction) + " is outside [0, 1)",
                         "0.1 holds out the last tenth of the training data");
}

void hold_out(Split& split, double fraction) {
    check_fraction(fraction);
    const int64_t count = split.train.count, held = std::llround(fraction * double(count));
    if (held == 0) return;
    if (held == count)
        throw UsageError(split.train.name + ": validation fraction " + std::to_string(fraction) + " of " +
                             std::to_string(count) + " samples leaves none to train on",
                         "take a smaller fraction");
    split.test = split.train.slice(count - held, count);
    split.train = split.train.slice(0, count - held);
    split.separate_test = false;
}

static Split load_npy(const std::string& argument) {
    const size_t comma = argument.find(',');
    if (comma == 0 || comma == std::string::npos || comma + 1 == argument.size() ||
        argument.find(',', comma + 1) != std::string::npos)
        throw UsageError("npy:" + argument + " does not name two files", "--data npy:features.npy,labels.npy");
    Split split;
    split.train = read_npy_dataset(argument.substr(0, comma), argument.substr(comma + 1));
    return split;
}

static int64_t digits_count(const std::string& argument) {
    constexpr int64_t most = 1'000'000;
    int64_t count = 10'000;
    if (argument.empty()) return count;
    const char* end = argument.data() + argument.size();
    const auto [stop, error] = std::from_chars(argument.data(), end, count);
    if (error != std::errc() || stop != end || count < 1 || count > most)
        throw UsageError("digits:" + argument + " is not a number of samples from 1 to " + std::to_string(most),
                         "--data digits:10000");
    return count;
}

static Split load_digits(const std::string& argument, uint64_t seed) {
    constexpr int64_t test_start = int64_t(1) << 40;  // two ranges of one endless sequence
    const int64_t count = digits_count(argument);
    Split split;
    split.train = make_digits(count, seed);
    split.test = make_digits(std::max<int64_t>(count / 5, 100), seed, test_start);
    split.separate_test = true;
    return split;
}

// Kind and argument of KIND:ARGUMENT.
static std::pair<std::string, std::string> parts_of(const std::string& source) {
    const size_t colon = std::min(source.find(':'), source.size());
    return {source.substr(0, colon), source.substr(std::min(colon + 1, source.size()))};
}

std::vector<std::string> files_of_data(const std::string& source) {
    const auto [kind, argument] = parts_of(source);
    if (kind == "mnist") return mnist_files(argument);
    if (kind == "cifar10") return cifar_files(argument, cifar10);
    if (kind == "cifar100") return cifar_files(argument, cifar100);
    if (kind != "npy") return {};
    const size_t comma = std::min(argument.find(','), argument.size());
    return {argument.substr(0, comma), argument.substr(std::min(comma + 1, argument.size()))};
}

Split load_data(const std::string& source, double validation, uint64_t seed) {
    const auto parts = parts_of(source);
    const std::string &kind = parts.first, &argument = parts.second;
    struct Kind {
        std::string name;
        std::function<Split()> load;
    };
    const std::vector<Kind> kinds = {{"digits", [&] { return load_digits(argument, seed); }},
                                     {"mnist", [&] { return load_mnist(argument); }},
                                     {"cifar10", [&] { return load_cifar(argument, cifar10); }},
                                     {"cifar100", [&] { return load_cifar(argument, cifar100); }},
                                     {"npy", [&] { return load_npy(argument); }}};
    std::vector<std::string> names;
    for (const auto& k : kinds) names.push_back(k.name);
    const auto found = std::find(names.begin(), names.end(), kind);
    if (found == names.end()) {
        const std::string close = suggestion(kind, names);
        throw UsageError("unknown data '" + source + "'", close.empty() ? "known are " + join(names) : close);
    }
    if (kind != "digits" && argument.empty())
        throw UsageError("data '" + source + "' names no " + (kind == "npy" ? "files" : "folder"),
                         "--data " + kind + (kind == "npy" ? ":X.npy,Y.npy" : ":FOLDER"));
    if (!(validation < 0)) check_fraction(validation);  // before a long read

    Split split = kinds[size_t(found - names.begin())].load();
    const int64_t there = split.train.count;
    hold_out(split, validation >= 0 ? validation : split.separate_test ? 0 : 0.1);
    if (split.tests_alone)
        split.note = "'" + argument + "' has no training images of " + kind + ": of its " + std::to_string(there) +
                     " test images " + std::to_string(split.train.count) + " are trained on, " +
                     std::to_string(there - split.train.count) + " held out";
    for (const Dataset* part : {&split.train, &split.test})
        if (part == &split.train || part->count > 0) part->check();
    return split;
}

// Grey noise and labels in turn: as good as images for everything but learning.
static Dataset made_up(const std::string& name, int64_t count, int64_t most, int64_t channels, int64_t side,
                       int64_t classes) {
    Dataset d{name, count, channels, side, side, classes, {}, {}, {}, {}, {}};
    d.mean.assign(size_t(channels), 0.5f), d.scale.assign(size_t(channels), 2.0f);
    const int64_t n = std::min(count, most);
    d.bytes.resize(size_t(n * d.features()));
    for (size_t i = 0; i < d.bytes.size(); ++i) d.bytes[i] = uint8_t(random_bits(1, 0, i));
    d.labels.resize(size_t(n));
    for (int64_t i = 0; i < n; ++i) d.labels[size_t(i)] = int32_t(i % classes);
    return d;
}

Split shape_of_data(const std::string& source, double validation, int64_t most) {
    const auto [kind, argument] = parts_of(source);
    if (kind == "npy") return load_data(source, validation, 1);
    struct Published {
        int64_t train, test, channels, side, classes;
    };
    const std::map<std::string, Published> known = {
        {"digits", {digits_count(kind == "digits" ? argument : ""), 0, 1, 28, 10}},
        {"mnist", {60'000, 10'000, 1, 28, 10}},
        {"cifar10", {50'000, 10'000, 3, 32, 10}},
        {"cifar100", {50'000, 10'000, 3, 32, 100}}};
    const auto found = known.find(kind);
    if (found == known.end()) return load_data(source, validation, 1);  // says what is wrong with it
    const Published& p = found->second;
    if (!(validation < 0)) check_fraction(validation);
    const int64_t test = kind == "digits" ? std::max<int64_t>(p.train / 5, 100) : p.test;
    const int64_t held = validation > 0 ? std::llround(validation * double(p.train)) : 0;
    Split split;
    split.train = made_up(kind, p.train - held, most, p.channels, p.side, p.classes);
    split.test = made_up(kind, held > 0 ? held : test, most, p.channels, p.side, p.classes);
    split.separate_test = held == 0;
    return split;
}

}  // namespace tessera
