// core/error.h - how Tessera fails: one line that says what, with which values, and the likely fix.
#pragma once
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// Something outside the program's control failed (file, system, StarPU, CUDA). `hint` is the likely fix.
class Error : public std::runtime_error {
 public:
    explicit Error(const std::string& message, std::string hint = {})
        : std::runtime_error(message), hint_(std::move(hint)) {}
    const std::string& hint() const { return hint_; }

 private:
    std::string hint_;
};

// The command line or a TESSERA_* variable is wrong; programs exit with 2.
class UsageError : public Error {
 public:
    using Error::Error;
};

// Throws Error "<what>: <reason of errno>" if `ok` is false. For system calls.
void check_system(bool ok, const std::string& what, const std::string& hint = {});

// Throws Error if `code`, a StarPU return value (0 or -errno), is not zero.
void check_starpu(int code, std::string_view call, const std::string& hint = {});

// "did you mean 'x'?" for the known word closest to `word` (up to 3 edits, 2 of a short word), or an empty string.
std::string suggestion(std::string_view word, const std::vector<std::string>& known);
std::string suggestion_or_list(std::string_view word, const std::vector<std::string>& known);  // else "known: a, b"

// A name or value from a file, fit for one line of a message: in quotes, shortened, control characters as '?'.
std::string in_quotes(std::string_view text, size_t limit = 80);

// Joins with ", ".
std::string join(const std::vector<std::string>& words, std::string_view separator = ", ");

}  // namespace tessera
