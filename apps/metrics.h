// apps/metrics.h - one JSON object per line: {"step", "loss", ...} for steps, {"epoch", ...} for epochs. A resumed run
// keeps the lines of the steps before its checkpoint and drops the rest, a torn last line among them.
#pragma once
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tessera {

class Metrics {
 public:
    // Keeps lines of steps below `keep_steps`. An empty path: writes nothing. Throws Error if it cannot be written.
    Metrics(const std::filesystem::path& path, int64_t keep_steps);
    ~Metrics();
    Metrics(const Metrics&) = delete;
    void line(const nlohmann::json&);
    const std::vector<nlohmann::json>& kept() const { return kept_; }  // of the run that this one resumes

 private:
    std::filesystem::path path_;
    std::FILE* file_ = nullptr;
    std::vector<nlohmann::json> kept_;
};

}  // namespace tessera
