#include "apps/metrics.h"

#include <fstream>

#include "core/error.h"
#include "core/file.h"

namespace tessera {

Metrics::Metrics(const std::filesystem::path& path, int64_t keep_steps) : path_(path) {
    if (path.empty()) return;
    require_writable(path, "--metrics");
    std::string kept;
    if (keep_steps > 0) {
        std::ifstream old(path);
        for (std::string line; std::getline(old, line);) {
            const auto j = nlohmann::json::parse(line, nullptr, false);
            if (!j.is_object() || !j.contains("step") || !j["step"].is_number_integer()) continue;
            if (j["step"].get<int64_t>() < keep_steps) kept += line + "\n", kept_.push_back(j);
        }
    }
    write_file(path, kept);
    file_ = std::fopen(path.c_str(), "ae");
    check_system(file_ != nullptr, "cannot write '" + path.string() + "'");
}

Metrics::~Metrics() {
    if (file_) std::fclose(file_);
}

void Metrics::line(const nlohmann::json& j) {
    if (!file_) return;
    const std::string text = j.dump() + "\n";
    const bool written = std::fwrite(text.data(), 1, text.size(), file_) == text.size() && std::fflush(file_) == 0;
    check_system(written, "cannot write '" + path_.string() + "'", "checkpoints written so far are whole");
}

}  // namespace tessera
