#include "core/model_files.h"

#include <charconv>
#include <cstdio>
#include <fstream>
#include <optional>
#include <system_error>

#include "core/error.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

template <class F>
void each_model(const fs::path& folder, F&& f) {
    std::error_code failure;
    for (const auto& version : fs::directory_iterator(folder / "codelets", failure))
        for (const auto& entry : fs::directory_iterator(version.path(), failure)) {
            const auto time = entry.last_write_time(failure);
            if (!failure && entry.is_regular_file(failure)) f(entry.path(), time);
        }
}

std::optional<std::string> text_of(const fs::path& path) {
    try {
        const auto bytes = read_file(path, int64_t(1) << 28);
        return std::string(bytes.begin(), bytes.end());
    } catch (const Error&) { return {}; }  // it went meanwhile
}

// In place: a full disk has no room for a second file, but what the first one held was freed.
bool write_in_place(const fs::path& path, const std::string& text) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << text;
    return bool(file.flush());
}

// Lines that are neither empty nor comments.
class Lines {
 public:
    explicit Lines(std::string_view text) : text_(text) {}
    bool skip(int64_t n) {
        for (; n > 0; --n)
            if (!next()) return false;
        return true;
    }
    // A line of one whole number; nothing if it is none.
    std::optional<int64_t> count() {
        int64_t value = 0;
        const auto line = next();
        if (!line || std::from_chars(line->data(), line->data() + line->size(), value).ec != std::errc() || value < 0 ||
            value > 1 << 20)
            return {};
        return value;
    }

 private:
    std::optional<std::string_view> next() {
        for (size_t end; (end = text_.find('\n')) != text_.npos;) {
            const std::string_view line = text_.substr(0, end);
            text_.remove_prefix(end + 1);
            if (const size_t at = line.find_first_not_of(" \t\r"); at != line.npos && line[at] != '#')
                return line.substr(at);
        }
        return {};
    }
    std::string_view text_;
};

}  // namespace

bool is_whole_model(std::string_view text) {
    constexpr int64_t device = 3, regressions = 3;  // lines of each
    Lines lines(text);
    const auto version = lines.count(), combinations = lines.count();
    if (!version || !combinations) return false;
    for (int64_t c = 0; c < *combinations; ++c) {
        const auto devices = lines.count();
        if (!devices || !lines.skip(device * *devices)) return false;
        const auto implementations = lines.count();
        if (!implementations) return false;
        for (int64_t i = 0; i < *implementations; ++i) {
            const auto entries = lines.count();
            if (!entries || !lines.skip(regressions + *entries)) return false;
        }
    }
    return true;
}

ModelFiles::ModelFiles(fs::path folder) : folder_(std::move(folder)), lock_(std::make_unique<FolderLock>(folder_)) {}

void ModelFiles::started() {
    each_model(folder_, [&](const fs::path& path, auto time) { at_start_[path] = time; });
    lock_.reset();
}

void ModelFiles::ends() {
    lock_ = std::make_unique<FolderLock>(folder_);
    each_model(folder_, [&](const fs::path& path, auto time) {
        auto text = text_of(path);
        if (!text) return;
        before_[path] = std::move(*text);
        const auto start = at_start_.find(path);
        if (start == at_start_.end() || start->second != time) of_others_.insert(path);
    });
}

// Is a file cut off that was not before?
bool ModelFiles::torn() const {
    bool found = false;
    each_model(folder_, [&](const fs::path& path, auto) {
        const auto text = text_of(path);
        const auto before = before_.find(path);
        if (!text || is_whole_model(*text) || (before != before_.end() && *text == before->second)) return;
        found = true;
    });
    return found;
}

// All of them, whole or not: what they held before has room in what they hold now.
void ModelFiles::put_back() const {
    std::vector<fs::path> new_ones;
    each_model(folder_, [&](const fs::path& path, auto) {
        if (!before_.contains(path)) new_ones.push_back(path);
    });
    std::error_code failure;
    for (const fs::path& path : new_ones) fs::remove(path, failure);
    std::vector<const decltype(before_)::value_type*> changed;
    for (const auto& file : before_)
        if (text_of(file.first) != file.second) changed.push_back(&file);
    for (const auto* file : changed) fs::resize_file(file->first, 0, failure);
    int64_t lost = 0;
    for (const auto* file : changed)
        if (!write_in_place(file->first, file->second)) ++lost;
    const std::string of = "no room in '" + folder_.string() + "' for what this run learned of task times: ";
    if (lost == 0) std::fprintf(stderr, "note: %sthe performance models are as they were\n", of.c_str());
    else
        std::fprintf(stderr, "note: %s%lld performance models are cut off, the next run measures them again\n",
                     of.c_str(), static_cast<long long>(lost));
}

ModelFiles::~ModelFiles() {
    if (torn()) {
        put_back();
        return;
    }
    for (const fs::path& path : of_others_) try {
            if (const std::string& text = before_.at(path); text_of(path) != text) write_file(path, text);
        } catch (const Error&) {}  // a full disk: StarPU's file stays as it is
}

}  // namespace tessera
