// tests/data_files_test.cpp - the real MNIST and CIFAR-10, from the folders mnist and cifar10 under $TESSERA_DATA.
// Whatever parts are there must have balanced labels, plausible pixels and the right splits. Ends with 77 without them.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "data/dataset.h"

using namespace tessera;
namespace fs = std::filesystem;

static int failures = 0;

static void expect(bool ok, const std::string& what) {
    std::printf("%s %s\n", ok ? "ok    " : "FAILED", what.c_str());
    failures += !ok;
}

// Every class within `tolerance` of an equal share, and the mean of all bytes within 10 % of the published one.
static void expect_balanced(const Dataset& set, double tolerance, double mean_byte) {
    std::vector<int64_t> histogram(size_t(set.classes), 0);
    for (const int32_t label : set.labels) ++histogram[size_t(label)];
    const auto [least, most] = std::minmax_element(histogram.begin(), histogram.end());
    const double share = double(set.count) / double(set.classes);
    expect(double(*least) >= (1 - tolerance) * share && double(*most) <= (1 + tolerance) * share,
           set.name + ": " + std::to_string(set.count) + " samples, " + std::to_string(*least) + " to " +
               std::to_string(*most) + " per class");
    double sum = 0;
    for (const uint8_t byte : set.bytes) sum += byte;
    const double mean = sum / double(set.bytes.size());
    expect(std::abs(mean / mean_byte - 1) < 0.1, set.name + ": mean byte " + std::to_string(mean));
}

static void test_folder(const std::string& source, double tolerance, double mean_byte) {
    const Split split = load_data(source, -1, 0);
    expect(split.test.count > 0, source + ": a test set");
    expect_balanced(split.train, tolerance, mean_byte);
    expect_balanced(split.test, 2 * tolerance, mean_byte);
    const Split all = load_data(source, 0, 0), tenth = load_data(source, 0.1, 0);
    const Dataset& held = tenth.test;
    expect(
        tenth.train.count + held.count == all.train.count && held.count == std::llround(0.1 * double(all.train.count)),
        source + ": a tenth is " + std::to_string(held.count) + " of " + std::to_string(all.train.count));
    expect(std::equal(held.bytes.rbegin(), held.bytes.rend(), all.train.bytes.rbegin()), source + ": the last tenth");
}

int main() {
    const char* data = std::getenv("TESSERA_DATA");
    if (!data || !fs::is_directory(fs::path(data) / "mnist") || !fs::is_directory(fs::path(data) / "cifar10")) {
        std::printf("skipped: TESSERA_DATA names no folder that holds mnist/ and cifar10/ (see tools/get-data)\n");
        return 77;
    }
    try {
        test_folder("mnist:" + (fs::path(data) / "mnist").string(), 0.15, 33.3);
        test_folder("cifar10:" + (fs::path(data) / "cifar10").string(), 0.05, 120.7);
    } catch (const Error& e) { expect(false, std::string(e.what()) + "; " + e.hint()); }
    return failures > 0;
}
