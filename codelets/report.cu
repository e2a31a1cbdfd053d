// report: calls sink(step, value) with a [1 x 1] value when it is there: losses reach the progress line without a wait.
// What the sink throws stops the program like any failure inside a task. f32, f64.
#include "codelets/elementwise.h"
#include "codelets/ops.h"
#include "core/examples.h"

namespace tessera {
namespace {

struct ReportArgs {
    const Sink* sink;
    int64_t step;
};

template <class T>
struct Report {
    static constexpr auto name = "report", formula = "sink(step, value)";
    static constexpr DType dtype = dtype_of<T>;
    using Args = ReportArgs;
    static void at_step(Args& a, const Step& s) { a.step = s.number; }
    static Cost cost(Args, In<T> value) { return {0, bytes_of_views(value)}; }
    static void cpu(Args a, In<T> value) { (*a.sink)(a.step, double(value(0, 0))); }
    static void cuda(Args a, In<T> value, Stream stream);
};
#ifdef TESSERA_CUDA
template <class T>
void Report<T>::cuda(Args a, In<T> value, Stream stream) {
    T host;
    check(cudaMemcpyAsync(&host, value.data, sizeof(T), cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    (*a.sink)(a.step, double(host));
}
#endif
const Register<Report<float>, Report<double>> codelets;
const Example example(codelets, scalar_sizes, [](ExampleGraph& e, Shape s) {
    Sink& sink = e.shared<Sink>();
    sink = [](int64_t, double) {};
    report(e.input(s), sink);
});

}  // namespace

void report(Tensor value, const Sink& sink) {
    require(value.shape() == Shape{1, 1}, "report", "needs a [1 x 1] value", {value});
    require_type<float, double>(value.dtype(), "report");
    Node node;
    node.op = "report", node.inputs = {value}, node.effect = true;
    node.lower = [value, to = &sink](Lowering& lower) {
        dispatch<float, double>(value.dtype(), "report", [&]<class T>() {
            lower.task<Report<T>>({to, 0}, lower.tile(value, 0, 0));
        });
    };
    value.graph->add(std::move(node));
}

}  // namespace tessera
