// tests/recorded.h - tables of losses that other programs gave, and with which flags.
#pragma once
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace tessera::testing_tools {

// Recorded tables, which lie beside the test programs.
inline std::filesystem::path reference_folder() {
    return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "reference";
}

struct Recorded {
    std::map<std::string, std::string> flags;                              // of each configuration
    std::map<std::string, std::vector<std::pair<double, double>>> losses;  // in f64, in f32
};
inline Recorded read_recorded(const std::string& name) {
    std::ifstream file(reference_folder() / name);
    Recorded r;
    for (std::string line; std::getline(file, line);) {
        if (const size_t colon = line.find(": --"); line.starts_with("# ") && colon != std::string::npos)
            r.flags[line.substr(2, colon - 2)] = line.substr(colon + 2);
        std::istringstream row(line);
        std::string config, step, reference_f64, pytorch_f32;
        if (line.starts_with("#") || !std::getline(row, config, ',') || config == "config") continue;
        std::getline(row, step, ','), std::getline(row, reference_f64, ','), std::getline(row, pytorch_f32);
        r.losses[config].emplace_back(std::stod(reference_f64), std::stod(pytorch_f32));
    }
    return r;
}

}  // namespace tessera::testing_tools
