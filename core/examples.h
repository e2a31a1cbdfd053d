// core/examples.h - small graphs with an op at declared sizes: what `tessera calibrate --all` measures. An op's file
// declares its own beside its kernels, and nothing else needs to name the op:
//   const Example example(codelets, relu);  // y = relu(x) and its gradient, at activation_sizes
//   const Example example(codelets, logit_sizes, [](ExampleGraph& e, Shape s) { e.keep(argmax(e.input(s))); });
#pragma once
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <typeindex>
#include <vector>

#include "core/codelet.h"
#include "core/graph.h"

namespace tessera {

// --- the declared sizes ---
// A tile of the batch has 64 rows where two cores share 128 samples, and 256 on a GPU. An op needs three sizes at
// least: from three on, models/regression.h estimates what is between and beyond them.
inline constexpr Shape activation_sizes[] = {{64, 128}, {64, 512}, {256, 1024}};
inline constexpr Shape logit_sizes[] = {{64, 10}, {128, 100}, {256, 1000}};
inline constexpr Shape scalar_sizes[] = {{1, 1}};
inline constexpr int64_t square_sizes[] = {256, 512, 1024};  // rows and columns of a product
struct LayerSize {
    int64_t rows, inputs, outputs;
};
inline constexpr LayerSize layer_sizes[] = {{64, 784, 512}, {64, 512, 512}, {64, 512, 10}, {256, 1024, 1024}};
template <size_t n>
constexpr std::array<Shape, 2 * n> weights_of(const LayerSize (&layers)[n]) {
    std::array<Shape, 2 * n> all{};
    for (size_t i = 0; i < n; ++i) {
        all[2 * i] = {layers[i].outputs, layers[i].inputs};
        all[2 * i + 1] = {1, layers[i].outputs};
    }
    return all;
}
inline constexpr auto weight_sizes = weights_of(layer_sizes);  // and biases: what optimizers update
struct PictureSize {
    int64_t rows, pixels, channels;
};
inline constexpr PictureSize picture_sizes[] = {{64, 28 * 28, 1}, {128, 32 * 32, 1}, {256, 32 * 32, 3}};
// The step that examples are measured with has `example_batch` indices, all below `example_samples`.
inline constexpr int64_t example_batch = 256, example_samples = 2048;

// --- what an example's function is given ---

// The one object of each type that examples share, made when it is first asked for.
class ExampleObjects {
 public:
    template <class T>
    T& get() {
        auto& object = all_[typeid(T)];
        if (!object) object = std::make_shared<T>();
        return *static_cast<T*>(object.get());
    }

 private:
    std::map<std::type_index, std::shared_ptr<void>> all_;
};

// A graph to which the function adds nodes for one element type and one size; what it keeps is measured.
class ExampleGraph {
 public:
    using Sum = std::function<Tensor(Tensor, Tensor)>;  // adds two gradients: core knows no op
    ExampleGraph(DType t, Sum sum, ExampleObjects& objects) : type(t), sum_(std::move(sum)), objects_(objects) {}

    Graph graph;
    const DType type;

    // Values that come from nowhere: a measured task gets some in [0.1, 0.9), or integers that are 0.
    Tensor input(Shape s) { return input(s, type); }
    Tensor input(Shape s, DType t) { return graph.value("x", s, t); }
    Tensor input(Shape s, Grid grid) { return graph.value("x", s, type, std::move(grid)); }

    void keep(Tensor y) { graph.keep(y); }
    void keep_with_gradients(Tensor y, const std::vector<Tensor>& wrt);

    // For what tasks point to (samples, a sink, Params): lives as long as the plans of all examples, which share it.
    template <class T>
    T& shared() {
        return objects_.get<T>();
    }

 private:
    Sum sum_;
    ExampleObjects& objects_;
};

// --- the declaration ---

// One graph per size and per type: the types are those of the codelets. Lives as long as the program.
struct Example {
    template <Kernel... Ops, class Sizes, class F>
    Example(const Register<Ops...>&, const Sizes& sizes, F f, const char* file = __builtin_FILE())
        : Example({Ops::dtype...}, sizes, f, file) {}
    // y = f(x) and y = f(a, b), and their gradients.
    template <Kernel... Ops>
    Example(const Register<Ops...>& codelets, Tensor (*f)(Tensor), const char* file = __builtin_FILE())
        : Example(
              codelets, activation_sizes,
              [f](ExampleGraph& e, Shape s) {
                  const Tensor x = e.input(s);
                  e.keep_with_gradients(f(x), {x});
              },
              file) {}
    template <Kernel... Ops>
    Example(const Register<Ops...>& codelets, Tensor (*f)(Tensor, Tensor), const char* file = __builtin_FILE())
        : Example(
              codelets, activation_sizes,
              [f](ExampleGraph& e, Shape s) {
                  const Tensor a = e.input(s), b = e.input(s);
                  e.keep_with_gradients(f(a, b), {a, b});
              },
              file) {}
    // For some of the types only.
    template <class Sizes, class F>
    Example(std::vector<DType> of, const Sizes& sizes, F f, const char* path = __builtin_FILE()) : Example(of, path) {
        for (const auto& size : sizes) builds.push_back([f, size](ExampleGraph& e) { f(e, size); });
    }
    Example(const Example&) = delete;

    std::string file;                                        // that declares it, "relu.cu"
    std::vector<DType> types;                                // each once
    std::vector<std::function<void(ExampleGraph&)>> builds;  // one per size

 private:
    Example(const std::vector<DType>& of, const char* path);  // makes it known
};

// All examples of the program, sorted by file, those of one file as they stand there.
std::vector<const Example*> all_examples();

}  // namespace tessera
