// Lines are made of ranked pieces, so that a narrow terminal loses the least important ones.
#include "apps/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "apps/table.h"

namespace tessera {
namespace {

// A piece of a line; the greatest `rank` is left out first, 0 stays.
struct Piece {
    std::string text;
    int rank;
};

std::string of(int64_t part, int64_t whole) {
    const std::string total = std::to_string(whole);
    return pad_left(std::to_string(part), int64_t(total.size())) + "/" + total;
}

std::string loss_text(double loss) {
    const double size = std::abs(loss);
    const bool plain = loss == 0 || (size >= 1e-3 && size < 1e4) || !std::isfinite(loss);
    return pad_left(plain ? fixed(loss, 4) : scientific(loss, 2), 9);
}

void add(std::vector<Piece>& pieces, int rank, std::string_view before, double value, const std::string& text,
         std::string_view after = "") {
    if (!std::isnan(value)) pieces.push_back({std::string(before) + text + std::string(after), rank});
}

// Left out where unknown. A loss that is NaN ends a training with an error.
std::vector<Piece> measures(double loss, double accuracy, double samples_per_s, double gflops) {
    std::vector<Piece> pieces;
    add(pieces, 1, "loss ", loss, loss_text(loss));
    add(pieces, 3, "accuracy ", accuracy, pad_left(fixed(100 * accuracy, 2), 6), " %");
    add(pieces, 5, "", samples_per_s, pad_left(human_count(samples_per_s), 5), " samples/s");
    const bool tera = gflops >= 9999.5;
    add(pieces, 6, "", gflops, pad_left(tera ? fixed(gflops / 1000, 1) : fixed(gflops, gflops < 99.95 ? 1 : 0), 4),
        tera ? " TFLOP/s" : " GFLOP/s");
    return pieces;
}

std::string joined(const std::vector<Piece>& pieces) {
    std::string line;
    for (const Piece& p : pieces) line += (line.empty() ? "" : "  ") + p.text;
    return line;
}

std::string bar(double fraction, int64_t cells, bool utf8) {
    const char* const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const int64_t filled = int64_t(fraction * double(cells) * 8), full = filled / 8;
    std::string text;
    for (int64_t i = 0; i < full; ++i) text += utf8 ? "█" : "#";
    if (utf8) text += eighths[filled % 8];
    return utf8 ? "▕" + pad_right(text, cells) + "▏" : "[" + pad_right(text, cells) + "]";
}

}  // namespace

std::string progress_line(const ProgressState& state, int64_t width, bool utf8) {
    const double whole = double(std::max<int64_t>(1, state.total_steps));
    const double fraction = std::clamp(double(state.done_steps) / whole, 0.0, 1.0);
    const std::string percent = pad_left(fixed(std::floor(100 * fraction), 0), 3) + " %";
    std::vector<Piece> pieces = measures(state.loss, state.accuracy, state.samples_per_s, state.gflops);
    pieces.insert(pieces.begin(), {{"epoch " + of(state.epoch, state.epochs), 0},
                                   {"step " + of(state.step, state.steps_in_epoch), 4},
                                   {percent + " of all", 0}});
    add(pieces, 2, "ETA ", state.eta_s, human_seconds(state.eta_s));
    if (width <= 0) return joined(pieces);

    const int64_t least_bar = 10, frame = 4;  // two spaces and two ends
    const auto used = [&] { return display_width(joined(pieces)); };
    while (used() + least_bar + frame > width) {
        const auto last = std::max_element(pieces.begin(), pieces.end(),
                                           [](const Piece& a, const Piece& b) { return a.rank < b.rank; });
        if (last->rank <= 1) break;
        // Beside the epoch, not its steps, it is plain what the share is of.
        if (last->text.starts_with("step ")) std::next(last)->text = percent;
        pieces.erase(last);
    }
    const int64_t cells = std::min<int64_t>(40, width - used() - frame);
    if (cells >= least_bar) pieces.insert(pieces.begin() + 1, {bar(fraction, cells, utf8), 0});
    return joined(pieces).substr(0, size_t(cells >= least_bar ? std::string::npos : width));
}

std::string epoch_line(const EpochSummary& s) {
    std::vector<Piece> pieces = measures(s.loss, s.accuracy, s.samples_per_s, s.gflops);
    pieces.insert(pieces.begin(), {"epoch " + of(s.epoch, s.epochs), 0});
    if (!std::isnan(s.test_accuracy)) {
        const auto at = pieces.begin() + 1 + !std::isnan(s.loss) + !std::isnan(s.accuracy);
        pieces.insert(at, {s.test_name + " " + pad_left(fixed(100 * s.test_accuracy, 2), 6) + " %", 0});
    }
    add(pieces, 0, "", s.seconds, human_seconds(s.seconds));
    return joined(pieces);
}

bool locale_is_utf8() {
    for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
        const char* value = std::getenv(name);
        if (!value || !*value) continue;
        std::string text(value);
        for (char& c : text) c = char(std::tolower(uint8_t(c)));
        return text.find("utf-8") != std::string::npos || text.find("utf8") != std::string::npos;
    }
    return false;
}

int64_t terminal_width() {
    winsize size{};
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static double steady_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Progress::Progress(bool quiet, bool terminal, std::ostream& out, std::function<double()> seconds)
    : quiet_(quiet),
      terminal_(terminal),
      utf8_(locale_is_utf8()),
      out_(out),
      seconds_(seconds ? std::move(seconds) : steady_seconds),
      shown_at_(terminal ? -INFINITY : seconds_()) {}

void Progress::update(const ProgressState& state) {
    const double now = seconds_();
    const bool complete = terminal_ && state.done_steps >= state.total_steps;
    if (quiet_ || (now - shown_at_ < (terminal_ ? 0.1 : 30.0) && !complete)) return;
    shown_at_ = now;
    if (!terminal_) {
        out_ << progress_line(state, 0, utf8_) << std::endl;
        return;
    }
    // One column stays free: a full line would wrap on some terminals, and \r no longer reach its start.
    out_ << '\r' << progress_line(state, std::max<int64_t>(1, terminal_width() - 1), utf8_) << "\033[K" << std::flush;
    drawn_ = true;
}

void Progress::message(std::string_view text) {
    if (quiet_) return;
    finish();
    out_ << text << std::endl;
    shown_at_ = terminal_ ? -INFINITY : seconds_();
}

void Progress::finish() {
    if (drawn_) out_ << "\r\033[K" << std::flush;
    drawn_ = false;
}

}  // namespace tessera
