#include "core/model_files.h"

#include <system_error>

#include "core/error.h"

namespace tessera {
namespace fs = std::filesystem;

template <class F>
static void each_model(const fs::path& folder, F&& f) {
    std::error_code failure;
    for (const auto& version : fs::directory_iterator(folder / "codelets", failure))
        for (const auto& entry : fs::directory_iterator(version.path(), failure)) {
            const auto time = entry.last_write_time(failure);
            if (!failure && entry.is_regular_file(failure)) f(entry.path(), time);
        }
}

ModelFiles::ModelFiles(fs::path folder) : folder_(std::move(folder)), lock_(std::make_unique<FolderLock>(folder_)) {}

void ModelFiles::started() {
    each_model(folder_, [&](const fs::path& path, auto time) { at_start_[path] = time; });
    lock_.reset();
}

void ModelFiles::ends() {
    lock_ = std::make_unique<FolderLock>(folder_);
    each_model(folder_, [&](const fs::path& path, auto time) {
        const auto before = at_start_.find(path);
        if (before != at_start_.end() && before->second == time) return;
        try {
            const auto bytes = read_file(path, int64_t(1) << 28);
            of_others_[path].assign(bytes.begin(), bytes.end());
        } catch (const Error&) {}  // it went meanwhile
    });
}

ModelFiles::~ModelFiles() {
    for (const auto& [path, text] : of_others_) try {
            write_file(path, text);
        } catch (const Error&) {}  // a full disk: StarPU's file stays as it is
}

}  // namespace tessera
