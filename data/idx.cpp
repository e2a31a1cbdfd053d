// data/idx.cpp - IDX parser and the MNIST folder.
#include "data/idx.h"

#include "core/error.h"
#include "core/file.h"
#include "data/gzip.h"

namespace tessera {
namespace fs = std::filesystem;

static constexpr int64_t most_inflated_bytes = int64_t(1) << 30;  // MNIST inflates to 47 MB, its largest kin to 0.6 GB

Idx parse_idx(std::span<const uint8_t> bytes, const std::string& file) {
    const auto require = [&](bool ok, const std::string& what, const char* hint) {
        if (!ok) throw Error("'" + file + "': " + what, hint);
    };
    const auto size = int64_t(bytes.size());
    const char* again = "the file is damaged or cut short; fetch it again";
    require(size >= 4, std::to_string(size) + " bytes are too few for an IDX file", again);
    require(bytes[0] == 0 && bytes[1] == 0, "not an IDX file: it does not begin with two zero bytes", again);
    require(bytes[2] == 8, "IDX element type " + std::to_string(bytes[2]) + " is not read, only 8, unsigned bytes",
            "store the images and labels as unsigned bytes");
    const int64_t rank = bytes[3];
    require(rank >= 1 && rank <= 4, "an IDX array of rank " + std::to_string(rank) + " is not read, only 1 to 4",
            again);
    require(size >= 4 + 4 * rank, std::to_string(size) + " bytes are too few for the header of an IDX file", again);

    Idx array;
    const int64_t available = size - 4 - 4 * rank;
    int64_t elements = 1;  // at most `available`, so it cannot overflow
    for (int64_t d = 0; d < rank; ++d) {
        const auto* b = &bytes[size_t(4 + 4 * d)];
        const int64_t extent = int64_t(b[0]) << 24 | b[1] << 16 | b[2] << 8 | b[3];
        require(extent > 0, "extent " + std::to_string(d) + " is 0", again);
        array.shape.push_back(extent);
        require(elements <= available / extent,
                "the header promises more than the " + std::to_string(available) + " bytes that follow", again);
        elements *= extent;
    }
    require(elements == available,
            std::to_string(available) + " bytes follow the header, which promises " + std::to_string(elements), again);
    array.data = bytes.subspan(size_t(4 + 4 * rank));
    return array;
}

Dataset parse_mnist(std::span<const uint8_t> image_bytes, const std::string& images_file,
                    std::span<const uint8_t> label_bytes, const std::string& labels_file) {
    constexpr int64_t classes = 10;
    const Idx images = parse_idx(image_bytes, images_file), labels = parse_idx(label_bytes, labels_file);
    const auto rank = [](const Idx& array) { return std::to_string(array.shape.size()); };
    const char* swapped = "are the images and labels files swapped?";
    if (images.shape.size() != 3)
        throw Error("'" + images_file + "': images need rank 3 (count, height, width), not " + rank(images), swapped);
    if (labels.shape.size() != 1)
        throw Error("'" + labels_file + "': labels need rank 1, not " + rank(labels), swapped);
    if (images.shape[0] != labels.shape[0])
        throw Error("'" + images_file + "' has " + std::to_string(images.shape[0]) + " images, but '" + labels_file +
                        "' has " + std::to_string(labels.shape[0]) + " labels",
                    "take both files from the same set");
    for (size_t i = 0; i < labels.data.size(); ++i)
        if (labels.data[i] >= classes)
            throw Error("'" + labels_file + "': sample " + std::to_string(i) + " has label " +
                            std::to_string(labels.data[i]) + ", outside 0.." + std::to_string(classes - 1),
                        "the file is damaged, or its data has other classes than MNIST");
    Dataset set;
    set.name = "mnist";
    set.count = images.shape[0], set.height = images.shape[1], set.width = images.shape[2], set.classes = classes;
    set.bytes.assign(images.data.begin(), images.data.end());
    set.labels.assign(labels.data.begin(), labels.data.end());
    set.mean = {0}, set.scale = {1};
    return set;
}

// The file for `stem` under one of its usual names; empty if there is none.
static fs::path find_idx(const fs::path& folder, const std::string& stem, int rank) {
    const std::string type = "idx" + std::to_string(rank) + "-ubyte";
    for (const char* dot : {"-", "."})
        for (const char* suffix : {"", ".gz"})
            if (fs::path path = folder / (stem + dot + type + suffix); fs::exists(path)) return path;
    return {};
}

static std::vector<uint8_t> read_idx_bytes(const fs::path& path) {
    auto bytes = read_file(path);
    return is_gzip(bytes) ? inflate(bytes, most_inflated_bytes, path.string()) : bytes;
}

// One half of MNIST; count 0 if neither of its files is there.
static Dataset load_half(const fs::path& folder, const std::string& half) {
    const fs::path images = find_idx(folder, half + "-images", 3), labels = find_idx(folder, half + "-labels", 1);
    if (images.empty() && labels.empty()) return {};
    if (images.empty() || labels.empty())
        throw Error("'" + folder.string() + "' has no " + half + (images.empty() ? "-images-idx3" : "-labels-idx1") +
                        "-ubyte[.gz] beside '" + (images.empty() ? labels : images).string() + "'",
                    "tools/get-data mnist FOLDER fetches all four files");
    const auto image_bytes = read_idx_bytes(images), label_bytes = read_idx_bytes(labels);
    return parse_mnist(image_bytes, images.string(), label_bytes, labels.string());
}

std::vector<std::string> mnist_files(const fs::path& folder) {
    std::vector<std::string> files;
    for (const char* half : {"train", "t10k"})
        for (const auto& file :
             {find_idx(folder, half + std::string("-images"), 3), find_idx(folder, half + std::string("-labels"), 1)})
            if (!file.empty()) files.push_back(file.string());
    return files;
}

Split load_mnist(const fs::path& folder) {
    if (!fs::is_directory(folder))
        throw Error("'" + folder.string() + "' is not a folder", "tools/get-data mnist FOLDER fetches MNIST");
    Split split;
    split.train = load_half(folder, "train"), split.test = load_half(folder, "t10k");
    split.tests_alone = split.train.count == 0;
    if (split.tests_alone) std::swap(split.train, split.test);
    split.separate_test = split.test.count > 0;
    if (split.train.count == 0)
        throw Error(
            "'" + folder.string() + "' has neither train-images-idx3-ubyte[.gz] nor t10k-images-idx3-ubyte[.gz]",
            "tools/get-data mnist FOLDER fetches MNIST");
    if (split.separate_test && split.train.features() != split.test.features())
        throw Error("'" + folder.string() + "': training images have " + std::to_string(split.train.features()) +
                        " pixels, test images " + std::to_string(split.test.features()),
                    "take all four files from the same set");
    return split;
}

}  // namespace tessera
