// op_check.h - declare a case of an op once, get every check: each implementation against a reference in double, tiled
// against untiled, any allowed order of tasks, gradients against central differences, guards around every tile: of CPU
// bodies (op_test) and of CUDA bodies on an emulated device (op_emulated_test); on a real one (op_cuda_test), speed
// (op_test --perf) and calibration (op_test --calibrate).
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "codelets/ops.h"
#include "core/executor.h"
#include "interpreter.h"

namespace tessera::test {

// What a case's shapes are made of; every check runs several, with 1, primes and one more than a tile among them.
struct Extents {
    int64_t m = 1, n = 1, k = 1;
};

struct Input {
    Shape shape = {};
    double low = -1, high = 1;  // of the values; whole numbers for integer types, both ends included
    bool differentiable = true;
    double away_from_zero = 0;       // least magnitude, for formulas with a kink at 0
    std::optional<DType> type = {};  // the type of the case if there is none
    int cut_as = -1;                 // an earlier input whose tiles this one's must equal
    bool param = false;              // a Param; build may update it and return it
};

using Matrices = std::vector<Matrix>;

struct OpCase {
    std::string name = {};
    std::function<std::vector<Input>(Extents)> inputs = {};
    std::function<std::vector<Tensor>(Graph&, const std::vector<Tensor>& x)> build = {};
    std::function<Matrices(const Matrices& x)> reference = {};  // shares no code with the op
    std::vector<DType> types = {DType::f32, DType::f64, DType::bf16};
    int64_t taller_tiles = 1;  // rows of tiles are so many times what they are for other cases
    bool gradient = true;
    double tolerance_factor = 1;                                                     // 0: exact
    std::function<int64_t(Extents)> reduction = [](Extents) { return int64_t(1); };  // terms per sum, for the tolerance
    double scale = 0.1;  // errors are relative to the largest result, or to scale sqrt(reduction) if that is less
    int64_t steps = 1;
    std::function<Step(int64_t)> step = [](int64_t number) { return Step{number, 0, 0, nullptr}; };
    // Inputs of the gradient check are drawn again until this holds.
    std::function<bool(const Matrices& x)> suitable = [](const Matrices&) { return true; };
    Extents perf = {1024, 1024, 1024};
};

// `static const Declare relu{{.name = "relu", ...}};`
struct Declare {
    explicit Declare(OpCase);
};
const std::vector<OpCase>& all_cases();

// The seed of this run, which --seed N among the arguments sets, and a generator that depends on it and on `what` only.
uint64_t& run_seed();
void take_seed(int argc, char** argv);
std::mt19937_64 generator(const std::string& what);

// A case's graph with its inputs. Inputs are cut by `grid(shape)`, their values drawn from `random`.
struct Setup {
    std::unique_ptr<Params> params = std::make_unique<Params>();
    std::unique_ptr<Graph> graph;
    std::vector<Tensor> x, y;
    Matrices values;
};
using Tiling = std::function<Grid(Shape)>;
Matrices draw(const OpCase&, DType, Extents, std::mt19937_64& random);
Setup set_up(const OpCase&, DType, Extents, int64_t tile, const Tiling&, Matrices values);

// Adds the gradients of every output for the differentiable inputs, with the values of their seeds.
struct Gradients {
    std::vector<Tensor> seeds;
    Matrices seed_values;
    std::vector<std::vector<Tensor>> dx;  // [output][input], invalid where not differentiable
};
Gradients add_gradients(const OpCase&, Setup&, std::mt19937_64& random);

// "" if every |actual - expected| is within the tolerance, else what is wrong where.
std::string difference(const Matrix& actual, const Matrix& expected, double tolerance);
double tolerance(const OpCase&, DType, DType result, Extents, const Matrix& expected, bool gradient);

void register_tests();  // of the bodies that are interpreted
void register_cuda_tests(const Runtime&);

}  // namespace tessera::test
