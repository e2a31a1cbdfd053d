// models/model_file.cpp - reader and writer of StarPU's history models. A file is a sequence of lines of numbers;
// comments (#) and empty lines may stand anywhere between them.
#include "models/model_file.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <thread>

#include "core/error.h"
#include "core/file.h"

namespace tessera {
namespace {

constexpr int64_t version = 45;
constexpr int64_t device_types = 8;                // STARPU_NARCH
constexpr double least_us = 1e-6, most_us = 1e12;  // of a mean: no clock sees less, and it is a week
const char* const mend = "restore the file, or measure again: tessera calibrate ... --reset";

template <class T>
bool parse(std::string_view text, T& value, int base = 10) {
    const char* end = text.data() + text.size();
    std::from_chars_result r;
    if constexpr (std::is_floating_point_v<T>) r = std::from_chars(text.data(), end, value);
    else r = std::from_chars(text.data(), end, value, base);
    return r.ec == std::errc() && r.ptr == end;
}

class Parser {
 public:
    Parser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

    ModelFile parse_file() {
        if (text_.empty()) throw Error("'" + name_ + "' is empty", mend);
        if (const int64_t v = count("the version"); v != version)
            throw Error("'" + name_ + "' is of version " + std::to_string(v) + ", not " + std::to_string(version),
                        "it was written by another StarPU; measure again: tessera calibrate ... --reset");
        ModelFile file;
        for (int64_t left = count("the number of combinations"); left > 0; --left) combination(file);
        return file;
    }

 private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error("'" + name_ + "', line " + std::to_string(line_) + ": " + what, mend);
    }

    // The words of the next line that holds any. A line without an end is a file cut off.
    const std::vector<std::string_view>& next(const std::string& due) {
        for (words_.clear(); words_.empty();) {
            const size_t end = text_.find('\n');
            if (end == std::string_view::npos)
                throw Error("'" + name_ + "' is cut off: " + due + " should follow line " + std::to_string(line_),
                            mend);
            split(text_.substr(0, end));
            text_.remove_prefix(end + 1);
            ++line_;
        }
        return words_;
    }
    void split(std::string_view line) {
        const std::string_view space = " \t\r";
        for (size_t at = line.find_first_not_of(space); at != line.npos; at = line.find_first_not_of(space, at)) {
            if (words_.empty() && line[at] == '#') return;
            const size_t end = std::min(line.find_first_of(space, at), line.size());
            words_.push_back(line.substr(at, end - at));
            at = end;
        }
    }

    int64_t whole(std::string_view word, const std::string& what) const {
        int64_t value = 0;
        if (!parse(word, value) || value < 0)
            fail(what + " is '" + std::string(word.substr(0, 30)) + "', not a whole number");
        return value;
    }
    // A line of one count. Nothing is allocated from it: what it counts must be there.
    int64_t count(const std::string& what) {
        if (next(what).size() != 1) fail("one number is due, " + what);
        return whole(words_[0], what);
    }
    double number(std::string_view word, const std::string& what, bool may_be_nan) const {
        double value = 0;
        if (!parse(word, value) || (std::isnan(value) ? !may_be_nan : !std::isfinite(value)))
            fail(what + " is '" + std::string(word.substr(0, 30)) + "', not a number");
        return value;
    }

    void combination(ModelFile& file) {
        if (count("the number of devices") != 1)
            throw Error("'" + name_ + "', line " + std::to_string(line_) +
                            ": a model of several devices together (parallel workers) is not read",
                        "only models of single devices are");
        int64_t word[3];
        const char* const names[] = {"the type of a device", "the number of a device", "the number of cores"};
        for (int i = 0; i < 3; ++i)
            if (word[i] = count(names[i]); word[i] > 1 << 20) fail(std::string(names[i]) + " is too large");
        if (word[0] >= device_types)
            fail("the type of a device is " + std::to_string(word[0]) + ", and StarPU knows none beyond " +
                 std::to_string(device_types - 1));
        const ModelDevice device{int(word[0]), int(word[1]), int(word[2])};
        for (const ModelArch& other : file.archs)
            if (other.device == device) fail(name_of(device) + " was there before");
        ModelArch arch{device, {}};
        const int64_t implementations = count("the number of implementations");
        if (implementations < 1) fail("no implementation");
        for (int64_t i = 0; i < implementations; ++i) arch.implementations.push_back(implementation());
        file.archs.push_back(std::move(arch));
    }

    std::vector<ModelEntry> implementation() {
        const int64_t entries = count("the number of entries");
        regressions();
        std::vector<ModelEntry> all;
        for (int64_t i = 0; i < entries; ++i) all.push_back(entry(i, entries));
        return all;
    }

    // Power law (9 numbers), non-linear (3), multiple (their count first). Read for their form only.
    void regressions() {
        if (next("a regression").size() != 9) fail("a regression needs 9 numbers");
        for (size_t i = 0; i < 9; ++i) i < 6 ? (void)number(words_[i], "a sum", true) : (void)whole(words_[i], "n");
        const auto three = [this] {
            if (words_.size() != 3) fail("a non-linear regression needs 3 numbers");
            for (const auto& w : words_) number(w, "a coefficient", true);
        };
        // Some files that StarPU publishes have the third of these lines before the second.
        const bool swapped = next("a non-linear regression").size() == 1 && words_[0] == "0";
        if (!swapped) three();
        if (next("a multiple regression"); swapped) return three();
        const int64_t n = whole(words_[0], "the number of coefficients");
        if (n != int64_t(words_.size()) - 1)
            fail(std::to_string(n) + " coefficients are promised, " + std::to_string(words_.size() - 1) + " are there");
        for (size_t i = 1; i < words_.size(); ++i) number(words_[i], "a coefficient", true);
    }

    ModelEntry entry(int64_t index, int64_t of) {
        next("entry " + std::to_string(index + 1) + " of " + std::to_string(of));
        const size_t n = words_.size();
        if (n != 8 && n != 7) fail("an entry has 8 numbers, not " + std::to_string(n));  // old files: no flops
        ModelEntry e;
        if (words_[0].size() > 8 || !parse(words_[0], e.footprint, 16)) fail("the footprint is no 32-bit hash");
        e.bytes = whole(words_[1], "the size");
        if (n == 8) e.flops = number(words_[2], "flops", true);
        if (std::isnan(e.flops)) e.flops = 0;  // StarPU's mark where tasks of one footprint differed
        double* const values[] = {&e.mean_us, &e.deviation_us, &e.sum_us, &e.sum2_us2};
        const char* const names[] = {"the mean", "the deviation", "the sum", "the sum of squares"};
        for (size_t i = 0; i < 4; ++i) *values[i] = number(words_[n - 5 + i], names[i], false);
        if (std::min({e.flops, e.mean_us, e.deviation_us, e.sum_us, e.sum2_us2}) < 0) fail("a negative number");
        e.samples = whole(words_[n - 1], "the number of samples");
        if (e.samples > 0 && !(e.mean_us >= least_us && e.mean_us <= most_us))
            fail("the mean of " + std::to_string(e.samples) + " samples is '" + std::string(words_[n - 5]) +
                 "' us, which no task takes");
        if (e.samples > UINT32_MAX) fail("the number of samples does not fit StarPU's 32 bits");
        return e;
    }

    std::string_view text_;
    const std::string& name_;
    std::vector<std::string_view> words_;
    int64_t line_ = 0;
};

// StarPU's %-15e where that is exact, else as many digits as it takes.
std::string padded(double value) {
    char text[64];
    char* end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific, 6).ptr;
    double back = 0;
    if (!parse(std::string_view(text, size_t(end - text)), back) || back != value)
        end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific).ptr;
    std::string all(text, end);
    all.resize(std::max(all.size(), size_t(15)), ' ');
    return all;
}

std::string padded(int64_t value) {
    std::string text = std::to_string(value);
    text.resize(std::max(text.size(), size_t(15)), ' ');
    return text;
}

const char* kind_of(int type) { return type == 0 ? "cpu" : type == 1 ? "cuda" : type == 2 ? "opencl" : "device"; }

std::string implementation_text(const ModelDevice& device, const std::vector<ModelEntry>& entries,
                                const std::string& name) {
    std::string text = "#####\n# Model for " + std::string(kind_of(device.type)) + std::to_string(device.id) + "_" +
                       name + "\n# number of entries\n" + std::to_string(entries.size()) + "\n";
    text += "# sumlnx\tsumlnx2\t\tsumlny\t\tsumlnxlny\talpha\t\tbeta\t\tn\tminx\t\tmaxx\n";
    for (int i = 0; i < 4; ++i) text += padded(0.0) + "\t";
    text += "nan            \tnan            \t0\t" + padded(int64_t(0)) + "\t" + padded(int64_t(0)) + "\n";
    text += "# a\t\tb\t\tc\nnan            \tnan            \tnan            \n# not multiple-regression-base\n0\n";
    text += "# hash\t\tsize\t\tflops\t\tmean (us or J)\tdev (us or J)\tsum\t\tsum2\t\tn\n";
    for (const ModelEntry& e : entries) {
        text += footprint_text(e.footprint) + "\t" + padded(e.bytes) + "\t";
        for (const double v : {e.flops, e.mean_us, e.deviation_us, e.sum_us, e.sum2_us2}) text += padded(v) + "\t";
        text += std::to_string(e.samples) + "\n";
    }
    return text + "\n";
}

}  // namespace

std::string name_of(const ModelDevice& d) {
    std::string name = kind_of(d.type);
    if (d.type > 2) name += "-" + std::to_string(d.type);
    if (d.type != 0 || d.id != 0) name += " " + std::to_string(d.id);
    return d.cores == 1 ? name : name + " x" + std::to_string(d.cores);
}

std::optional<ModelDevice> parse_device(std::string_view name) {
    ModelDevice d;
    if (const size_t cores = name.find(" x"); cores != name.npos) {
        if (!parse(name.substr(cores + 2), d.cores) || d.cores < 0) return {};
        name = name.substr(0, cores);
    }
    const size_t space = name.find(' ');
    std::string_view kind = name.substr(0, space);
    if (kind.starts_with("device-")) {
        if (!parse(kind.substr(7), d.type) || d.type < 3) return {};
    } else if (kind == "cuda") d.type = 1;
    else if (kind == "opencl") d.type = 2;
    else if (kind != "cpu") return {};
    if (space == name.npos) return d.type == 0 ? std::optional(d) : std::nullopt;
    return parse(name.substr(space + 1), d.id) && d.id >= 0 ? std::optional(d) : std::nullopt;
}

std::string footprint_text(uint32_t footprint) {
    char text[16];
    std::snprintf(text, sizeof text, "%08x", unsigned(footprint));
    return text;
}

ModelEntry entry_of(uint32_t footprint, int64_t bytes, double flops, const std::vector<double>& times_us) {
    ModelEntry e{footprint, bytes, flops};
    e.samples = int64_t(times_us.size());
    for (const double t : times_us) e.sum_us += t, e.sum2_us2 += t * t;
    if (e.samples == 0) return e;
    e.mean_us = e.sum_us / double(e.samples);
    double squares = 0;  // around the mean: the difference of two large sums would lose its digits
    for (const double t : times_us) squares += (t - e.mean_us) * (t - e.mean_us);
    e.deviation_us = std::sqrt(squares / double(e.samples));
    return e;
}

ModelArch& ModelFile::arch(const ModelDevice& device) {
    for (ModelArch& a : archs)
        if (a.device == device) return a;
    return archs.emplace_back(ModelArch{device, std::vector<std::vector<ModelEntry>>(1)});
}

const ModelEntry* ModelFile::find(const ModelDevice& device, int implementation, uint32_t footprint) const {
    for (const ModelArch& a : archs) {
        if (a.device != device || implementation < 0 || implementation >= int(a.implementations.size())) continue;
        for (const ModelEntry& e : a.implementations[size_t(implementation)])
            if (e.footprint == footprint) return &e;
    }
    return nullptr;
}

double ModelFile::fastest_us(const ModelDevice& device, uint32_t footprint) const {
    double least = NAN;
    for (const ModelArch& a : archs)
        if (a.device == device)
            for (int k = 0; k < int(a.implementations.size()); ++k)
                if (const ModelEntry* e = find(device, k, footprint))
                    least = std::isnan(least) ? e->mean_us : std::min(least, e->mean_us);
    return least;
}

void ModelFile::set(const ModelDevice& device, int implementation, const ModelEntry& entry) {
    auto& all = arch(device).implementations;
    if (size_t(implementation) >= all.size()) all.resize(size_t(implementation) + 1);
    auto& entries = all[size_t(implementation)];
    const auto old = std::find_if(entries.begin(), entries.end(),
                                  [&](const ModelEntry& e) { return e.footprint == entry.footprint; });
    if (old == entries.end()) entries.push_back(entry);
    else *old = entry;
}

ModelFile parse_model(const std::string& text, const std::string& name) { return Parser(text, name).parse_file(); }

// StarPU rewrites its files in place when it ends: what cannot be read may be half written by another run. It is if it
// has just changed; and ext4 shows a file's new length milliseconds before its new time.
static bool just_changed(const std::filesystem::path& path) {
    std::error_code failure;
    const auto changed = std::filesystem::last_write_time(path, failure);
    return !failure && std::filesystem::file_time_type::clock::now() - changed < std::chrono::seconds(2);
}

ModelFile read_model(const std::filesystem::path& path) {
    using Clock = std::chrono::steady_clock;
    std::optional<Clock::time_point> patience_ends;
    for (;;) {
        try {
            const auto bytes = read_file(path, int64_t(1) << 28);
            return parse_model(std::string(bytes.begin(), bytes.end()), path.string());
        } catch (const Error&) {
            if (!patience_ends) patience_ends = Clock::now() + std::chrono::milliseconds(500);
            if (!just_changed(path) && Clock::now() > *patience_ends) throw;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}

std::string to_text(const ModelFile& file) {
    const std::string bar(20, '#');
    std::string text = "##################\n# Performance Model Version\n" + std::to_string(version) + "\n\n" + bar +
                       "\n# COMBs\n# number of combinations\n" + std::to_string(file.archs.size()) + "\n";
    for (size_t c = 0; c < file.archs.size(); ++c) {
        const ModelArch& arch = file.archs[c];
        const auto comb = std::to_string(c), device = bar + "\n# DEV_0\n# ";
        text += bar + "\n# COMB_" + comb + "\n# number of types devices\n1\n";
        text += device + "device type (CPU - 0, CUDA - 1, OPENCL - 2, MPI_MS - 5, TCPIP_MS - 6)\n" +
                std::to_string(arch.device.type) + "\n";
        text += device + "device id \n" + std::to_string(arch.device.id) + "\n";
        text += device + "number of cores \n" + std::to_string(arch.device.cores) + "\n";
        text += "##########\n# number of implementations\n" + std::to_string(arch.implementations.size()) + "\n";
        for (size_t i = 0; i < arch.implementations.size(); ++i)
            text += implementation_text(arch.device, arch.implementations[i],
                                        "impl" + std::to_string(i) + " (Comb" + comb + ")");
    }
    return text;
}

void write_model(const std::filesystem::path& path, const ModelFile& file) { write_file(path, to_text(file)); }

}  // namespace tessera
