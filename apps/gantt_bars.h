// Bars of one row of a Gantt chart: many thin tasks become few bars, whose colours and white keep their shares.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

class BarRow {
 public:
    // Bars narrower than `thinnest` pixels are joined with their neighbours. Colours are numbers below `colors`.
    BarRow(int colors, double thinnest) : thinnest_(thinnest), owed_(size_t(colors)) {}

    // In order of `from`, which is not before the last `to`; pixels.
    void add(double from, double to, int color);
    void finish() { join(); }
    size_t size() const { return bars_.size(); }

    // Paths around the line y = 0 in hundredths of a pixel along x; `height` in pixels.
    std::string svg(double height, const std::vector<std::string>& colors) const;

 private:
    struct Bar {
        int64_t from, to;  // hundredths of a pixel
        int color;
    };
    void join();
    void push(double from, double to, int color);

    double thinnest_;
    std::vector<Bar> bars_;
    double joined_from_ = 0, joined_width_ = 0;  // of the thin ones that wait for their bar
    std::vector<double> owed_;  // width of each colour that came in thin bars, less what it was drawn with
};

// Bytes per time over the columns of one row: events that overlap a column in part count in part.
class RateRow {
 public:
    explicit RateRow(int columns) : bytes_(size_t(columns)) {}
    void add(double from, double to, double bytes);  // columns; outside is ignored
    double highest() const;                          // bytes per column
    // One filled path that stands on y = 0; `full` bytes per column have `height` pixels.
    std::string svg(double full, double height, const std::string& color) const;

 private:
    std::vector<double> bytes_;
};

}  // namespace tessera
