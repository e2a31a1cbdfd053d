// models/model_file.h - StarPU's file of one codelet's history model, version 45: what each implementation took on each
// kind of device, per footprint. Text; read strictly, written whole or not at all.
#pragma once
#include <compare>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// A device as StarPU's models name it.
struct ModelDevice {
    int type = 0;  // 0 CPU core, 1 CUDA
    int id = 0;    // number among the devices of its type; all CPU cores are number 0
    int cores = 1;
    auto operator<=>(const ModelDevice&) const = default;
};
std::string name_of(const ModelDevice&);  // "cpu", "cuda 1"
std::optional<ModelDevice> parse_device(std::string_view name);

// What a row needs before StarPU uses it.
inline constexpr int64_t least_samples = 10;

struct ModelEntry {
    uint32_t footprint = 0;
    int64_t bytes = 0;  // of all tiles
    double flops = 0;   // 0: unknown
    double mean_us = 0, deviation_us = 0, sum_us = 0, sum2_us2 = 0;
    int64_t samples = 0;  // 0: StarPU saw the task once and left that time out
    bool operator==(const ModelEntry&) const = default;
};
std::string footprint_text(uint32_t);  // as the files have it: 8 hexadecimal digits
// From times in microseconds: mean, standard deviation, sums.
ModelEntry entry_of(uint32_t footprint, int64_t bytes, double flops, const std::vector<double>& times_us);

struct ModelArch {
    ModelDevice device;
    std::vector<std::vector<ModelEntry>> implementations;  // at least one
    bool operator==(const ModelArch&) const = default;
};

struct ModelFile {
    std::vector<ModelArch> archs;
    ModelArch& arch(const ModelDevice&);                                                       // made if absent
    const ModelEntry* find(const ModelDevice&, int implementation, uint32_t footprint) const;  // or nullptr
    // Mean microseconds of the fastest implementation there, NaN where none was measured.
    double fastest_us(const ModelDevice&, uint32_t footprint) const;
    void set(const ModelDevice&, int implementation, const ModelEntry&);  // replaces the entry of that footprint
    bool operator==(const ModelFile&) const = default;
};

// Throws Error naming the file, and the line where it can: not version 45, truncated, a number that is none, counts
// that lie. Combinations of several devices (parallel workers) are refused. Rows of regressions are checked and left
// out: the models here are histories. What follows the last counted combination is passed over, as StarPU does.
ModelFile parse_model(const std::string& text, const std::string& name);
ModelFile read_model(const std::filesystem::path&);
std::string to_text(const ModelFile&);  // as StarPU writes it, with more digits where seven are too few
void write_model(const std::filesystem::path&, const ModelFile&);

}  // namespace tessera
