// core/codelet.h - turns a struct of static functions into a StarPU codelet. The signature of Op::cpu is the
// declaration: its parameter types give access modes, number of buffers and element types.
//
//   struct Op {
//     static constexpr auto name, formula;                  // name + dtype = codelet, performance model, trace
//     struct Args { ... };                                  // trivially copyable
//     static Cost cost(Args, In<T>, ..., Out<T>);           // flops and bytes, from the shapes alone
//     static void cpu(Args, In<T>, ..., Out<T>);
//     static void cuda(Args, In<T>, ..., Out<T>, Stream);   // declared always, defined where nvcc compiles
//     static uint32_t key(Args);                            // optional: flags that change speed
//     static void at_step(Args&, const Step&);              // optional: host scalars that change per step
//     static constexpr auto cpu_alternatives = std::tuple{Named{"label", &Op::other}, ...};   // optional; cuda_ too
//   };
#pragma once
#include <starpu.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/tile.h"

namespace tessera {

#if defined(STARPU_USE_CUDA) && defined(__CUDACC__)
#define TESSERA_CUDA 1  // this file is compiled with CUDA bodies
#endif
#ifdef TESSERA_CUDA
using Stream = cudaStream_t;
#else
using Stream = void*;
#endif

// What changes from step to step of one plan; read at submission.
struct Step {
    int64_t number = 0;  // counts from 0 over the whole training
    double learning_rate = 0;
    uint64_t seed = 0;
    const int64_t* batch = nullptr;  // sample indices of this step's batch
};

template <class F>
struct Named {
    const char* label;
    F function;
};
template <class F>
Named(const char*, F) -> Named<F>;

// A codelet as data: what records refer to. Lives as long as the program.
struct CodeletInfo {
    std::string name, op, formula;
    DType dtype;
    std::vector<Access> access;  // of the fixed parameters, in order
    int list_at = -1;            // position of an InList parameter, or -1
    size_t args_bytes = 0;
    Cost (*cost)(const void* args, const struct TileShape* tiles, int count) = nullptr;
    uint32_t (*key)(const void* args) = nullptr;
    void (*at_step)(void* args, const Step&) = nullptr;
    std::vector<std::string> cpu, cuda;  // labels of the implementations, number 0 first
    bool host_only = false;              // works for the host, as files do: no CUDA body, and no time worth a model
    starpu_codelet* starpu = nullptr;
    const char* source = "";  // file that registered it, "gemm.cu"
    const char* source_hash =
        "";  // of that file and what it includes of codelets/; empty if it is not the project's own
};

struct TileShape {
    int64_t rows, cols, ld;
    DType dtype;
};

// All codelets of the program, sorted by name. Throws std::logic_error if two share one name.
const std::vector<const CodeletInfo*>& all_codelets();
const CodeletInfo* find_codelet(std::string_view name);

namespace detail {

void register_codelet(const CodeletInfo*);
void register_source(const CodeletInfo&, const char* path);
void register_source_hash(const char* file, const char* hash);  // both live as long as the program

// Runs `body` for one task: skips it after a first error, catches what it throws, times it, looks for NaN.
void run_body(void* cl_arg, void** buffers, bool on_cuda, void (*body)(void** buffers, const void* args, int count));

template <class F>
struct Signature;
template <class A, class... V>
struct Signature<void (*)(A, V...)> {
    using Args = A;
    using Views = std::tuple<V...>;
    static constexpr int count = sizeof...(V);
};

// One StarPU interface as the view that the body asked for.
template <class V>
struct FromInterface;
template <class T, Access A>
struct FromInterface<View<T, A>> {
    static View<T, A> get(void** buffers, int) { return one(*buffers); }
    static View<T, A> one(void* buffer) {
        if (*static_cast<starpu_data_interface_id*>(buffer) == STARPU_VECTOR_INTERFACE_ID) {
            auto* v = static_cast<starpu_vector_interface*>(buffer);
            return {reinterpret_cast<T*>(v->ptr), 1, int64_t(v->nx), int64_t(v->nx)};
        }
        auto* m = static_cast<starpu_matrix_interface*>(buffer);
        return {reinterpret_cast<T*>(m->ptr), int64_t(m->ny), int64_t(m->nx), int64_t(m->ld)};
    }
};
template <class T>
struct FromInterface<InCsr<T>> {
    static InCsr<T> get(void** buffers, int) {
        auto* c = static_cast<starpu_csr_interface*>(*buffers);
        return {reinterpret_cast<const T*>(c->nzval), c->colind, c->rowptr, int64_t(c->nrow), int64_t(c->nnz)};
    }
};
template <class T>
struct FromInterface<InList<T>> {
    static InList<T> get(void** buffers, int count) {
        thread_local std::vector<In<T>> views;
        views.clear();
        for (int i = 0; i < count; ++i) views.push_back(FromInterface<In<T>>::one(buffers[i]));
        return {views.data(), count};
    }
};
template <class V>
struct FromShape {
    static V get(const TileShape* s, int) { return {nullptr, s->rows, s->cols, s->ld}; }
};
template <class T>
struct FromShape<InList<T>> {
    static InList<T> get(const TileShape* s, int count) {
        thread_local std::vector<In<T>> views;
        views.clear();
        for (int i = 0; i < count; ++i) views.push_back({nullptr, s[i].rows, s[i].cols, s[i].ld});
        return {views.data(), count};
    }
};

}  // namespace detail

template <class Op>
concept Kernel = requires {
    { Op::name } -> std::convertible_to<std::string>;
    { Op::formula } -> std::convertible_to<std::string>;
    &Op::cpu;
    &Op::cost;
};

template <Kernel Op>
class Codelet {
 public:
    using S = detail::Signature<decltype(&Op::cpu)>;
    using Args = typename S::Args;
    using Views = typename S::Views;
    static_assert(std::is_trivially_copyable_v<Args>, "codelet arguments travel as bytes");

    static const CodeletInfo& info() { return instance_.info_; }

 private:
    static constexpr int lists() { return lists_in(std::make_index_sequence<S::count>{}); }
    template <size_t... I>
    static constexpr int lists_in(std::index_sequence<I...>) {
        return (int(std::tuple_element_t<I, Views>::is_list) + ... + 0);
    }
    static_assert(lists() <= 1, "at most one InList parameter");
    template <size_t... I>
    static constexpr int list_position(std::index_sequence<I...>) {
        return ((std::tuple_element_t<I, Views>::is_list ? int(I) + 1 : 0) + ... + 0) - 1;
    }
    static constexpr int list_at = list_position(std::make_index_sequence<S::count>{});

    // Where parameter I starts among the buffers, and how many it takes, if the task has `total` buffers.
    static int offset(int i, int total) { return list_at >= 0 && i > list_at ? i + total - S::count : i; }
    static int extent(int i, int total) { return i == list_at ? total - S::count + 1 : 1; }

    template <class F, size_t... I>
    static void call(F function, void** buffers, const void* args, int n, std::index_sequence<I...>) {
        function(*static_cast<const Args*>(args),
                 detail::FromInterface<std::tuple_element_t<I, Views>>::get(buffers + offset(I, n), extent(I, n))...);
    }
    static constexpr auto sequence = std::make_index_sequence<S::count>{};

    static auto cpu_functions() {
        if constexpr (requires { Op::cpu_alternatives; })
            return std::tuple_cat(std::tuple{Named{first_label(), &Op::cpu}}, Op::cpu_alternatives);
        else return std::tuple{Named{first_label(), &Op::cpu}};
    }
    static constexpr const char* first_label() {
        if constexpr (requires { Op::cpu_label; }) return Op::cpu_label;
        else return "own";
    }
    static constexpr const char* first_cuda_label() {
        if constexpr (requires { Op::cuda_label; }) return Op::cuda_label;
        else return "own";
    }
#ifdef TESSERA_CUDA
    static auto cuda_functions() {
        if constexpr (requires { Op::cuda_alternatives; })
            return std::tuple_cat(std::tuple{Named{first_cuda_label(), &Op::cuda}}, Op::cuda_alternatives);
        else return std::tuple{Named{first_cuda_label(), &Op::cuda}};
    }
    template <size_t I>
    static void cuda_body(void* buffers[], void* cl_arg) {
        detail::run_body(cl_arg, buffers, true, [](void** b, const void* args, int n) {
            call_cuda(std::get<I>(cuda_functions()).function, b, args, n, sequence);
        });
    }
    template <class F, size_t... I>
    static void call_cuda(F function, void** buffers, const void* args, int n, std::index_sequence<I...>) {
        function(*static_cast<const Args*>(args),
                 detail::FromInterface<std::tuple_element_t<I, Views>>::get(buffers + offset(I, n), extent(I, n))...,
                 starpu_cuda_get_local_stream());
    }
    template <size_t... I>
    void add_cuda(std::index_sequence<I...>) {
        ((info_.cuda.push_back(std::get<I>(cuda_functions()).label)), ...);
        ((codelet_.cuda_funcs[I] = &cuda_body<I>, codelet_.cuda_flags[I] = STARPU_CUDA_ASYNC), ...);
    }
    void add_cuda() { add_cuda(std::make_index_sequence<std::tuple_size_v<decltype(cuda_functions())>>{}); }
#else
    // Where none is compiled the body is declared only; that it exists must still be known: simulation runs on models.
    void add_cuda() {
        info_.cuda.push_back(first_cuda_label());
#ifdef STARPU_SIMGRID
        codelet_.cuda_funcs[0] = reinterpret_cast<starpu_cuda_func_t>(1);
#endif
    }
#endif
    static constexpr size_t cpu_count() { return std::tuple_size_v<decltype(cpu_functions())>; }

    template <size_t I>
    static void cpu_body(void* buffers[], void* cl_arg) {
        detail::run_body(cl_arg, buffers, false, [](void** b, const void* args, int n) {
            call(std::get<I>(cpu_functions()).function, b, args, n, sequence);
        });
    }
    template <size_t... I>
    static Cost cost_of(const void* args, const TileShape* shapes, int n, std::index_sequence<I...>) {
        return Op::cost(*static_cast<const Args*>(args),
                        detail::FromShape<std::tuple_element_t<I, Views>>::get(shapes + offset(I, n), extent(I, n))...);
    }
    template <size_t... I>
    void add_cpu(std::index_sequence<I...>) {
        auto functions = cpu_functions();
        ((info_.cpu.push_back(std::get<I>(functions).label)), ...);
#ifdef STARPU_SIMGRID
        ((codelet_.cpu_funcs[I] = reinterpret_cast<starpu_cpu_func_t>(1)), ...);
#else
        ((codelet_.cpu_funcs[I] = &cpu_body<I>), ...);
#endif
    }
    template <size_t... I>
    void add_access(std::index_sequence<I...>) {
        ((info_.access.push_back(std::tuple_element_t<I, Views>::access)), ...);
    }

    Codelet() {
        info_.op = Op::name;
        info_.formula = Op::formula;
        info_.dtype = Op::dtype;
        info_.name = info_.op + "_" + std::string(name_of(Op::dtype));
        if constexpr (requires { Op::suffix; }) info_.name += Op::suffix;
        info_.list_at = list_at;
        info_.args_bytes = sizeof(Args);
        info_.cost = [](const void* args, const TileShape* s, int n) { return cost_of(args, s, n, sequence); };
        if constexpr (requires { &Op::key; })
            info_.key = [](const void* args) { return uint32_t(Op::key(*static_cast<const Args*>(args))); };
        if constexpr (requires { &Op::at_step; })
            info_.at_step = [](void* args, const Step& step) { Op::at_step(*static_cast<Args*>(args), step); };
        add_access(sequence);
        add_cpu(std::make_index_sequence<cpu_count()>{});
        if constexpr (requires { Op::host_only; }) info_.host_only = Op::host_only;
        if constexpr (requires { &Op::cuda; }) add_cuda();
        info_.starpu = &codelet_;
        detail::register_codelet(&info_);
    }

    CodeletInfo info_;
    starpu_codelet codelet_{};
    static Codelet instance_;
};
template <Kernel Op>
Codelet<Op> Codelet<Op>::instance_;

// `static const Register<Op<float>, Op<double>> codelets;` in an op's file: discovery sees every instance.
template <Kernel... Ops>
struct Register {
    Register(const char* file = __builtin_FILE()) { (detail::register_source(Codelet<Ops>::info(), file), ...); }
};

}  // namespace tessera
