// interpreter.h - runs a plan's bodies one after another, without StarPU's runtime. Every tile lies alone between
// guards, in rows that may be longer than the tile; everything that a body must not touch is checked after each task.
#pragma once
#include <random>
#include <vector>

#include "core/body.h"
#include "core/plan.h"

namespace tessera::test {

struct Matrix {
    int64_t rows = 0, cols = 0;
    std::vector<double> v;
    Matrix() = default;
    Matrix(int64_t rows, int64_t cols, double value = 0) : rows(rows), cols(cols), v(size_t(rows * cols), value) {}
    double& operator()(int64_t i, int64_t j) { return v[size_t(i * cols + j)]; }
    double operator()(int64_t i, int64_t j) const { return v[size_t(i * cols + j)]; }
    Shape shape() const { return {rows, cols}; }
};

// What an element type makes of a value.
double rounded(double value, DType);

// Whose bodies are run: those for CPUs unless the program says otherwise, which then has CUDA bodies compiled for the
// emulated device. Ops that work for the host, and tests' own, have CPU bodies only.
enum class Bodies { cpu, cuda };
Bodies& interpreted();
size_t implementations(const CodeletInfo&);  // of those bodies

struct InterpreterOptions {
    int implementation = 0;              // number 0 where a codelet has no such one
    int64_t padding = 3;                 // elements between the rows of a tile
    std::mt19937_64* shuffle = nullptr;  // tasks in a random order that their dependencies allow
    bool checks = true;                  // guards, poison, untouched inputs
};

class Interpreter {
 public:
    explicit Interpreter(const Graph&, InterpreterOptions = {});

    void write(Tensor, const Matrix&);
    Matrix read(Tensor) const;
    // One step. Throws std::runtime_error for an error that a body reports, a tile read before it is written, a change
    // of a guard, of row padding or of a tile that is only read.
    void run(const Step& = {});

    const Plan& plan() const { return plan_; }
    // Seconds spent in each task's body during the last run.
    const std::vector<double>& seconds() const { return seconds_; }

 private:
    struct Buffer {
        std::vector<std::byte> bytes;
        int64_t start = 0, ld = 0;  // first element's byte; elements per row
        bool written = false;
    };
    std::byte* row(int tile, int64_t i);
    const std::byte* row(int tile, int64_t i) const { return const_cast<Interpreter*>(this)->row(tile, i); }
    int64_t row_bytes(int tile) const;
    void poison(int tile);
    void run_task(int task, const Step&);
    void call(int task, const Step&);
    void check_guards(int tile) const;
    std::vector<int> order() const;
    [[noreturn]] void fail(int task, const std::string& what) const;

    Plan plan_;
    InterpreterOptions options_;
    std::vector<Buffer> buffers_;
    std::vector<double> seconds_;
    RunState run_;
    PlanState state_;
};

}  // namespace tessera::test
