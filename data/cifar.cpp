// data/cifar.cpp - CIFAR records and folders. Channels are standardised by CIFAR-10's means and deviations.
#include "data/cifar.h"

#include <algorithm>

#include "core/error.h"
#include "core/file.h"

namespace tessera {
namespace fs = std::filesystem;

static constexpr int64_t side = 32, channels = 3, pixels = side * side;

void parse_cifar(std::span<const uint8_t> bytes, const std::string& file, const Cifar& kind, Dataset& set) {
    const int64_t record = kind.label_bytes + channels * pixels, size = int64_t(bytes.size()), count = size / record;
    if (size == 0 || size % record != 0)
        throw Error("'" + file + "': " + std::to_string(size) + " bytes are not a whole number of " + kind.name +
                        " records of " + std::to_string(record),
                    "the file is damaged, cut short, or of the other CIFAR; fetch it again");
    const auto label = [&](int64_t i) { return bytes[size_t(i * record + kind.label_bytes - 1)]; };
    for (int64_t i = 0; i < count; ++i)
        if (label(i) >= kind.classes)
            throw Error("'" + file + "': sample " + std::to_string(i) + " has label " + std::to_string(label(i)) +
                            ", outside 0.." + std::to_string(kind.classes - 1),
                        "the file is damaged, or of the other CIFAR");
    set.name = kind.name;
    set.channels = channels, set.height = set.width = side, set.classes = kind.classes;
    set.mean = {0.4914f, 0.4822f, 0.4465f};
    set.scale = {1 / 0.2470f, 1 / 0.2435f, 1 / 0.2616f};
    set.bytes.resize(size_t((set.count + count) * channels * pixels));
    for (int64_t i = 0; i < count; ++i) {
        const uint8_t* from = &bytes[size_t(i * record + kind.label_bytes)];
        uint8_t* to = &set.bytes[size_t((set.count + i) * channels * pixels)];
        for (int64_t p = 0; p < pixels; ++p)
            for (int64_t c = 0; c < channels; ++c) to[p * channels + c] = from[c * pixels + p];
        set.labels.push_back(label(i));
    }
    set.count += count;
}

// Files PREFIX*.bin of a folder, in the order of their numbers (batch_2 before batch_10).
static std::vector<fs::path> find_batches(const fs::path& folder, const std::string& prefix) {
    std::vector<fs::path> found;
    std::error_code failure;  // without the folder there are none
    for (const auto& entry : fs::directory_iterator(folder, failure))
        if (entry.path().filename().string().rfind(prefix, 0) == 0 && entry.path().extension() == ".bin")
            found.push_back(entry.path());
    std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) {
        const auto &x = a.native(), &y = b.native();
        return x.size() != y.size() ? x.size() < y.size() : x < y;
    });
    return found;
}

static std::vector<std::string> missing_batches(const fs::path& folder, const Cifar& kind) {
    std::vector<std::string> missing;
    for (int64_t i = 1; i <= kind.batches; ++i)
        if (const auto name = kind.train_prefix + std::to_string(i) + ".bin"; !fs::exists(folder / name))
            missing.push_back(name);
    return missing;
}

std::vector<std::string> cifar_files(const fs::path& folder, const Cifar& kind) {
    std::vector<std::string> files;
    for (const auto& path : find_batches(folder, kind.train_prefix)) files.push_back(path.string());
    files.push_back((folder / kind.test_file).string());
    return files;
}

Split load_cifar(const fs::path& folder, const Cifar& kind) {
    const std::string fetch = "tools/get-data " + std::string(kind.name) + " FOLDER fetches it";
    if (!fs::is_directory(folder)) throw Error("'" + folder.string() + "' is not a folder", fetch);
    Split split;
    for (const auto& path : find_batches(folder, kind.train_prefix))
        parse_cifar(read_file(path), path.string(), kind, split.train);
    split.tests_alone = split.train.count == 0;
    if (const auto missing = missing_batches(folder, kind); !missing.empty() && !split.tests_alone)
        split.note = std::to_string(split.train.count) + " training images of " + kind.name + ", not " +
                     std::to_string(10'000 * kind.batches) + ": '" + folder.string() + "' has no " + join(missing);
    if (const fs::path path = folder / kind.test_file; fs::exists(path))
        parse_cifar(read_file(path), path.string(), kind, split.tests_alone ? split.train : split.test);
    if (split.train.count == 0)
        throw Error("'" + folder.string() + "' has neither " + kind.train_prefix + "*.bin nor " + kind.test_file,
                    fetch);
    split.separate_test = split.test.count > 0;
    return split;
}

}  // namespace tessera
