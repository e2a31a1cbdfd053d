// core/config.h - TESSERA_* variables, parsed strictly from one typed table (docs/environment.md is generated from it),
// and sizes written as people write them.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

struct Config {
    bool check_nan = false;
    int64_t steps_in_flight = 3;
    int64_t workspace_bytes = int64_t(256) << 20;
    int64_t stall_s = 120;        // 0: wait for ever
    std::filesystem::path cache;  // StarPU's files, generated data
};

// Reads every TESSERA_* of `environment` (null-terminated "NAME=value" strings). Throws UsageError for an unknown name
// (with a suggestion) or a bad value.
Config read_config(char** environment);

// This machine's name as StarPU's files have it: STARPU_HOSTNAME or the host's.
std::string machine_name();
// It becomes part of files' names and of tables: letters, digits, ".", "-" and "_", up to 64, the first a letter, a
// digit or "_".
bool is_machine_name(std::string_view);
inline constexpr auto machine_names = "letters, digits, '.', '-' and '_', up to 64 of them";
// Where this machine's bus and models are kept unless StarPU's variables name another folder.
std::filesystem::path model_folder(const Config&);

// The table as a markdown page.
std::string environment_page();

// "4096", "250M", "4G" (binary multiples K M G T) to bytes; throws UsageError naming `what`.
int64_t parse_size(const std::string& text, const std::string& what);
// The least such size in M, as which limits are given, that holds so many bytes: "12M".
std::string whole_mebibytes(int64_t bytes);

}  // namespace tessera
