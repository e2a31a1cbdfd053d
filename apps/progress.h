// Training progress on stderr: one redrawn line with a bar on a terminal, plain lines into a pipe.
#pragma once
#include <cmath>
#include <cstdint>
#include <functional>
#include <iostream>
#include <string>
#include <string_view>

namespace tessera {

// NaN: unknown, not shown. Epochs and steps count from 1; done_steps of total_steps is the whole run.
struct ProgressState {
    int64_t epoch = 0, epochs = 0, step = 0, steps_in_epoch = 0, done_steps = 0, total_steps = 0;
    double loss = NAN, accuracy = NAN;  // accuracy as a fraction of 1
    double samples_per_s = NAN, gflops = NAN, eta_s = NAN;
};

// What an epoch came to; `test_name` says on what test_accuracy was taken: "test" or "validation".
struct EpochSummary {
    int64_t epoch = 0, epochs = 0;
    double loss = NAN, accuracy = NAN, test_accuracy = NAN;
    std::string test_name = "test";
    double samples_per_s = NAN, gflops = NAN, seconds = NAN;
};

// The line in at most `width` columns: what matters least is left out first. width 0: no bar and no limit.
std::string progress_line(const ProgressState& state, int64_t width, bool utf8);
std::string epoch_line(const EpochSummary& summary);

bool locale_is_utf8();     // from LC_ALL, LC_CTYPE, LANG
int64_t terminal_width();  // of stderr, 80 if it has none

// Not for several threads at once. `seconds` is a clock for tests.
class Progress {
 public:
    Progress(bool quiet, bool terminal, std::ostream& out = std::cerr, std::function<double()> seconds = {});
    ~Progress() { finish(); }
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    void update(const ProgressState& state);  // drawn at most 10 times a second; piped: every 30 s
    void line(const EpochSummary& summary) { message(epoch_line(summary)); }
    void message(std::string_view text);  // one line that stays
    void finish();                        // takes the redrawn line away

 private:
    const bool quiet_, terminal_, utf8_;
    std::ostream& out_;
    std::function<double()> seconds_;
    double shown_at_;     // when the last output came
    bool drawn_ = false;  // the cursor is behind a redrawn line
};

}  // namespace tessera
