// The harness must see what it is there for: ops that are wrong in each way that it looks for.
#include <gtest/gtest.h>

#include "core/codelet.h"
#include "plain.h"

namespace tessera::test {
namespace {

enum class Fault { none, past_end, in_padding, before_start, changes_input, reads_output, reads_padding, throws };

struct Broken {
    static constexpr auto name = "broken", formula = "y = x, with a fault";
    static constexpr DType dtype = DType::f32;
    struct Args {
        Fault fault;
    };
    static Cost cost(Args, In<float>, Out<float>) { return {}; }
    static void cpu(Args a, In<float> x, Out<float> y) {
        for (int64_t i = 0; i < y.rows; ++i)
            for (int64_t j = 0; j < y.cols; ++j) y(i, j) = x(i, j) + (a.fault == Fault::reads_output ? 0 * y(i, j) : 0);
        if (a.fault == Fault::past_end) y(y.rows - 1, y.cols) = 0;
        if (a.fault == Fault::in_padding) y(0, y.cols) = 0;
        if (a.fault == Fault::before_start) y.data[-1] = 0;
        if (a.fault == Fault::changes_input) const_cast<float&>(x(0, 0)) += 1;
        if (a.fault == Fault::reads_padding) y(0, 0) += 0 * x.data[x.cols];
        if (a.fault == Fault::throws) throw std::runtime_error("a reason");
    }
    static void cuda(Args, In<float>, Out<float>, Stream);
};
// Adds one to its output; which is first, the graph below may forget to say.
struct AddOne {
    static constexpr auto name = "broken_add_one", formula = "y += 1";
    static constexpr DType dtype = DType::f32;
    static Cost cost(NoArgs, Acc<float>) { return {}; }
    static void cpu(NoArgs, Acc<float> y) { y(0, 0) += 1; }
    static void cuda(NoArgs, Acc<float>, Stream);
};
#ifdef TESSERA_CUDA
void Broken::cuda(Args, In<float>, Out<float>, Stream) {}
void AddOne::cuda(NoArgs, Acc<float>, Stream) {}
#endif

// The message that running this fault gives, or what y is.
std::string outcome(Fault fault) {
    Graph g;
    Tensor x = g.value("x", {3, 5}, DType::f32), y = g.value("y", {3, 5}, DType::f32);
    Node node;
    node.op = "broken", node.inputs = {x}, node.outputs = {y};
    node.lower = [=](Lowering& to) { to.task<Broken>({fault}, to.tile(x, 0, 0), to.tile(y, 0, 0)); };
    g.add(std::move(node));
    g.keep(y);
    Interpreter run(g);
    run.write(x, Matrix(3, 5, 2));
    try {
        run.run();
    } catch (const std::runtime_error& e) { return e.what(); }
    return difference(run.read(y), Matrix(3, 5, 2), 0);
}
void expect_words(const std::string& text, const std::string& words) {
    EXPECT_NE(text.find(words), std::string::npos) << text;
}

TEST(Harness, SeesFaults) {
    EXPECT_EQ(outcome(Fault::none), "");
    for (Fault f : {Fault::past_end, Fault::in_padding, Fault::before_start})
        expect_words(outcome(f), "wrote outside of tile y(0,0)");
    expect_words(outcome(Fault::changes_input), "changed its input x(0,0)");
    expect_words(outcome(Fault::reads_output), "nan");
    expect_words(outcome(Fault::reads_padding), "nan");
    expect_words(outcome(Fault::throws), "a reason");
}

TEST(Harness, SeesTilesThatNothingWrote) {
    Graph g;
    Tensor y = g.value("y", {1, 1}, DType::f32);
    Node node;
    node.op = "add_one", node.outputs = {y};
    node.lower = [=](Lowering& to) { to.task<AddOne>({}, to.tile(y, 0, 0)); };
    g.add(std::move(node));
    g.keep(y);
    Interpreter run(g);
    EXPECT_THROW(run.read(y), std::runtime_error);
    try {
        run.run();
        ADD_FAILURE();
    } catch (const std::runtime_error& e) { expect_words(e.what(), "reads y(0,0), which nothing has written"); }
    run.write(y, Matrix(1, 1, 41));
    run.run();
    EXPECT_EQ(run.read(y)(0, 0), 42);
}

TEST(Harness, ShuffleKeepsDependencies) {
    std::mt19937_64 random = generator("shuffle");
    Graph g(1, 1);
    Tensor a = g.value("a", {4, 4}, DType::f64), b = g.value("b", {4, 4}, DType::f64);
    Tensor y = add(gemm(a, b), gemm(relu(a), b));
    g.keep(y);
    for (int i = 0; i < 20; ++i) {
        Interpreter run(g, {.shuffle = &random});
        run.write(a, Matrix(4, 4, 1)), run.write(b, Matrix(4, 4, 2));
        run.run();
        EXPECT_EQ(difference(run.read(y), Matrix(4, 4, 16), 0), "");
    }
}

TEST(Harness, NanIsNeverWithinTolerance) {
    EXPECT_NE(difference(Matrix(1, 1, NAN), Matrix(1, 1, 0), 1e300), "");
    EXPECT_NE(difference(Matrix(1, 1, 0), Matrix(1, 1, NAN), 1e300), "");
    EXPECT_NE(difference(Matrix(1, 2), Matrix(2, 1), 1e300), "");
    EXPECT_EQ(difference(Matrix(1, 1, 1), Matrix(1, 1, 1.5), 0.5), "");
}

// A gradient that is wrong by a percent fails in every type whose digits can tell.
TEST(Harness, WrongGradientIsBeyondTolerance) {
    const auto& all = all_cases();
    const auto gelu = std::find_if(all.begin(), all.end(), [](auto& c) { return c.name == "gelu"; });
    ASSERT_NE(gelu, all.end());
    for (DType t : {DType::f32, DType::f64}) {
        const double allowed = tolerance(*gelu, t, t, {1, 1, 1}, Matrix(1, 1, 1), true);
        EXPECT_LT(allowed, 0.001);
        EXPECT_GT(allowed, 0);
    }
}

}  // namespace
}  // namespace tessera::test
