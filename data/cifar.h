// data/cifar.h - the binary format of CIFAR-10 and CIFAR-100.
// Layout: records of label bytes (CIFAR-10: label; CIFAR-100: coarse, fine), then 3 x 32 x 32 bytes, channel-major.
#pragma once
#include <filesystem>
#include <span>

#include "data/dataset.h"

namespace tessera {

struct Cifar {
    const char* name;
    int64_t label_bytes, classes;  // the last label byte is the class
    const char *train_prefix, *test_file;
    int64_t batches;  // published files PREFIX1.bin and so on, of 10,000 training images each; 0: it is one, PREFIX.bin
};
inline constexpr Cifar cifar10{"cifar10", 1, 10, "data_batch_", "test_batch.bin", 5};
inline constexpr Cifar cifar100{"cifar100", 2, 100, "train", "test.bin", 0};

// Appends the records to `set`, channels last. Throws Error naming `file` for a size that is no whole number of
// records and for labels outside the classes; `set` is then unchanged.
void parse_cifar(std::span<const uint8_t> bytes, const std::string& file, const Cifar& kind, Dataset& set);

// What is there of training batches (sorted) and test batch in `folder`; see load_data.
Split load_cifar(const std::filesystem::path& folder, const Cifar& kind);
std::vector<std::string> cifar_files(const std::filesystem::path& folder, const Cifar& kind);

}  // namespace tessera
