#include "apps/found_schedules.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "core/random.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

// Raised with every change after which the same search finds other schedules.
constexpr uint64_t search_version = 2;

class Hash {
 public:
    void add(uint64_t value) { value_ = mix64(value_ ^ mix64(value)); }
    void add(double value) { add(std::bit_cast<uint64_t>(value)); }
    void add(const std::string& text) {
        add(uint64_t(text.size()));
        for (const char c : text) add(uint64_t(uint8_t(c)));
    }
    template <class T>
    void add(const std::vector<T>& values) {
        add(uint64_t(values.size()));
        for (const T& v : values) add(v);
    }
    void add(int value) { add(uint64_t(int64_t(value))); }
    uint64_t value() const { return value_; }

 private:
    uint64_t value_ = search_version;
};

std::string digits(uint64_t value) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
    return text;
}

// Also of the file's name, so that no file is taken for another.
std::string checksum(const fs::path& path, const std::string& text) {
    Hash h;
    h.add(path.filename().string()), h.add(text);
    return digits(h.value());
}

// What a file holds: a checksum of 16 digits, then CBOR (RFC 8949).
nlohmann::json read(const fs::path& path) {
    const std::vector<uint8_t> bytes = read_file(path, int64_t(1) << 28);
    const std::string text(bytes.begin(), bytes.end());
    constexpr size_t head = 16;
    if (text.size() < head || text.substr(0, head) != checksum(path, text.substr(head)))
        throw Error("'" + path.string() + "' is damaged");
    return nlohmann::json::from_cbor(text.begin() + head, text.end());
}

bool alike(const FoundSchedules::Times& a, const FoundSchedules::Times& b, double tolerance) {
    if (a.size() != b.size()) return false;
    double differ = 0, sum = 0;
    for (size_t k = 0; k < a.size(); ++k) {
        if (a[k].size() != b[k].size()) return false;
        for (size_t t = 0; t < a[k].size(); ++t) {
            if (std::isfinite(a[k][t]) != std::isfinite(b[k][t])) return false;
            if (!std::isfinite(a[k][t])) continue;
            differ += std::abs(a[k][t] - b[k][t]), sum += b[k][t];
        }
    }
    return differ <= tolerance * sum;
}

}  // namespace

uint64_t FoundSchedules::key(const Plan& plan, const Devices& d, bool ordered, int tries) {
    Hash h;
    h.add(int(ordered)), h.add(tries);
    h.add(d.kind), h.add(d.memory), h.add(d.latency_s), h.add(d.bytes_per_s), h.add(d.links);
    h.add(d.link_bytes_per_s), h.add(d.fetch_s);
    for (const PlanTile& tile : plan.tiles) h.add(uint64_t(tile.bytes));
    for (const TaskSpec& task : plan.tasks) {
        h.add(task.codelet->name), h.add(task.node);
        for (const TileUse& use : task.tiles) h.add(use.tile), h.add(int(use.access));
    }
    return h.value();
}

fs::path FoundSchedules::file(uint64_t key) const { return folder_ / digits(key); }

std::vector<TaskSchedule> FoundSchedules::find(uint64_t key, const Plan& plan, const Times& times) const {
    std::error_code none;
    const fs::path path = file(key);
    if (!fs::exists(path, none)) return {};
    try {
        const nlohmann::json all = read(path);
        Times made_for = all.at("times");
        for (auto& kind : made_for)
            for (double& t : kind) t = t < 0 ? INFINITY : t;
        if (!alike(times, made_for, tolerance_)) return {};
        std::vector<TaskSchedule> found;
        for (const auto& one : all.at("schedules")) {
            TaskSchedule& schedule = found.emplace_back();
            schedule.step_s = one.at("step_s");
            for (const auto& task : one.at("tasks"))
                schedule.tasks.push_back({task.at(0), task.at(1), task.at(2), task.at(3)});
            if (schedule.tasks.size() != plan.tasks.size()) return {};
        }
        fs::last_write_time(path, fs::file_time_type::clock::now(), none);  // used
        return found;
    } catch (const std::exception&) { return {}; }  // torn, of another version: searched again and written anew
}

void FoundSchedules::keep(uint64_t key, const std::vector<TaskSchedule>& schedules, const Times& times) const {
    nlohmann::json all = {{"times", times}, {"schedules", nlohmann::json::array()}};
    for (auto& kind : all["times"])
        for (auto& t : kind)
            if (!std::isfinite(t.get<double>())) t = -1;  // runs nowhere
    for (const TaskSchedule& schedule : schedules) {
        nlohmann::json tasks = nlohmann::json::array();
        for (const TaskSchedule::Task& t : schedule.tasks) tasks.push_back({t.place, t.turn, t.starts_s, t.takes_s});
        all["schedules"].push_back({{"step_s", schedule.step_s}, {"tasks", std::move(tasks)}});
    }
    const std::vector<uint8_t> bytes = nlohmann::json::to_cbor(all);
    const std::string text(bytes.begin(), bytes.end());
    try {
        fs::create_directories(folder_);
        write_file(file(key), checksum(file(key), text) + text);
        remove_stale_files(folder_);
        remove_old();
    } catch (const std::exception&) {}
}

void FoundSchedules::remove_old() const {
    std::vector<std::pair<fs::file_time_type, fs::path>> files;
    for (const auto& entry : fs::directory_iterator(folder_))
        if (entry.is_regular_file()) files.emplace_back(entry.last_write_time(), entry.path());
    std::sort(files.begin(), files.end());
    for (size_t i = 0; i + most_files < files.size(); ++i) fs::remove(files[i].second);
}

}  // namespace tessera
