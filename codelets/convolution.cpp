#include "codelets/convolution.h"

#include <omp.h>

#include <map>
#include <oneapi/dnnl/dnnl.hpp>

namespace tessera::convolution {

using Dims = dnnl::memory::dims;
using Desc = dnnl::memory::desc;
constexpr auto f32 = dnnl::memory::data_type::f32;

static const dnnl::engine& cpu() {
    static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    return engine;
}

// oneDNN wants the weights in blocks of its own: they are reordered before, or their gradient after, in the workspace.
class Prepared {
 public:
    explicit Prepared(const Problem&);
    bool fast() const { return fast_; }
    int64_t workspace_bytes() const { return packed_bytes_ + scratch_bytes_; }
    // Arguments under oneDNN's numbers; `weights` are the user's.
    void run(std::initializer_list<std::pair<int, const float*>> maps, int weights_number, const float* weights);

 private:
    template <class PrimitiveDesc>
    void take(const PrimitiveDesc&, const Desc& packed, const Desc& plain, bool add);
    dnnl::memory& bound(int number, const void* data) {
        memory_.at(number).set_data_handle(const_cast<void*>(data));
        return memory_.at(number);
    }

    bool fast_ = false, writes_weights_ = false;
    int64_t packed_bytes_ = 0, scratch_bytes_ = 0;
    dnnl::primitive primitive_;
    dnnl::reorder reorder_;
    dnnl::memory plain_, packed_;
    std::unordered_map<int, dnnl::memory> memory_;  // by oneDNN's argument numbers
    dnnl::stream stream_{cpu()};
};

namespace {

Desc maps_desc(int64_t images, int64_t channels, Extent2d e) {
    return {{images, channels, e.height, e.width}, f32, dnnl::memory::format_tag::nhwc};
}
Dims weights_dims(const Problem& p) {
    const ConvShape& s = p.shape;
    if (s.groups == 1) return {p.filters, p.channels, s.kernel.height, s.kernel.width};
    return {s.groups, p.filters / s.groups, p.channels / s.groups, s.kernel.height, s.kernel.width};
}
Dims weights_steps(const Problem& p) {
    const int64_t row = p.shape.kernel.width * p.tap_step;
    if (p.shape.groups == 1) return {p.filter_step, 1, row, p.tap_step};
    return {p.filters / p.shape.groups * p.filter_step, p.filter_step, 1, row, p.tap_step};
}
// What is left of the last window's padding; negative where the last pixels are not seen.
int64_t padding_after(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
    return (out - 1) * stride + dilation * (kernel - 1) + 1 - in - padding;
}

}  // namespace

template <class PrimitiveDesc>
void Prepared::take(const PrimitiveDesc& desc, const Desc& packed, const Desc& plain, bool add) {
    const std::string name = desc.impl_info_str();
    fast_ = name.find("ref") == std::string::npos && name.find("gemm:") == std::string::npos;
    if (!fast_) return;
    const auto unbound = [](const Desc& d) { return dnnl::memory(d, cpu(), nullptr); };
    scratch_bytes_ = int64_t(desc.scratchpad_desc().get_size());
    memory_[DNNL_ARG_SCRATCHPAD] = unbound(desc.scratchpad_desc());
    primitive_ = dnnl::primitive(desc);
    plain_ = unbound(plain);
    if (packed == plain && !add) return;
    packed_bytes_ = aligned(int64_t(packed.get_size()));
    packed_ = unbound(packed);
    if (!writes_weights_) {
        reorder_ = dnnl::reorder(dnnl::reorder::primitive_desc(cpu(), plain, cpu(), packed));
        return;
    }
    dnnl::primitive_attr attributes;
    dnnl::post_ops sum;
    sum.append_sum(1);
    if (add) attributes.set_post_ops(sum);
    reorder_ = dnnl::reorder(dnnl::reorder::primitive_desc(cpu(), packed, cpu(), plain, attributes));
}

Prepared::Prepared(const Problem& p) {
    const ConvShape& s = p.shape;
    const Desc x = maps_desc(p.images, p.channels, s.in), y = maps_desc(p.images, p.filters, s.out);
    const Desc any(weights_dims(p), f32, dnnl::memory::format_tag::any), plain(weights_dims(p), f32, weights_steps(p));
    const Desc bias({p.filters}, f32, dnnl::memory::format_tag::x);
    const Dims stride{s.stride.height, s.stride.width}, dilation{s.dilation.height - 1, s.dilation.width - 1};
    const Dims before{s.padding.height, s.padding.width};
    const Dims after{
        padding_after(s.in.height, s.out.height, s.kernel.height, s.stride.height, s.padding.height, s.dilation.height),
        padding_after(s.in.width, s.out.width, s.kernel.width, s.stride.width, s.padding.width, s.dilation.width)};
    constexpr auto direct = dnnl::algorithm::convolution_direct;
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    dnnl::post_ops sum;
    sum.append_sum(1);
    if (p.add && p.pass == Pass::forward) attributes.set_post_ops(sum);
    using Forward = dnnl::convolution_forward;
    const Forward::desc forward(dnnl::prop_kind::forward_training, direct, x, any, p.bias ? bias : Desc(), y, stride,
                                dilation, before, after);
    const Forward::primitive_desc hint(forward, attributes, cpu());
    const auto maps = [&](int number, const Desc& d) { memory_[number] = dnnl::memory(d, cpu(), nullptr); };
    if (p.pass == Pass::forward) {
        maps(DNNL_ARG_SRC, x), maps(DNNL_ARG_DST, y);
        if (p.bias) maps(DNNL_ARG_BIAS, bias);
        take(hint, hint.weights_desc(), plain, false);
    } else if (p.pass == Pass::data) {
        using Backward = dnnl::convolution_backward_data;
        const Backward::primitive_desc desc({direct, x, any, y, stride, dilation, before, after}, attributes, cpu(),
                                            hint);
        maps(DNNL_ARG_DIFF_SRC, x), maps(DNNL_ARG_DIFF_DST, y);
        take(desc, desc.weights_desc(), plain, false);
    } else {
        using Backward = dnnl::convolution_backward_weights;
        const Backward::primitive_desc desc({direct, x, any, y, stride, dilation, before, after}, attributes, cpu(),
                                            hint);
        maps(DNNL_ARG_SRC, x), maps(DNNL_ARG_DIFF_DST, y);
        writes_weights_ = true;
        take(desc, desc.diff_weights_desc(), plain, p.add);
    }
}

void Prepared::run(std::initializer_list<std::pair<int, const float*>> maps, int weights_number, const float* weights) {
    auto* memory = static_cast<char*>(workspace(workspace_bytes()));
    std::unordered_map<int, dnnl::memory> arguments{
        {DNNL_ARG_SCRATCHPAD, bound(DNNL_ARG_SCRATCHPAD, memory + packed_bytes_)}};
    for (const auto& [number, data] : maps)
        if (data) arguments.emplace(number, bound(number, data));
    plain_.set_data_handle(const_cast<float*>(weights));
    if (packed_) packed_.set_data_handle(memory);
    arguments.emplace(weights_number, packed_ ? packed_ : plain_);
    if (packed_ && !writes_weights_) reorder_.execute(stream_, plain_, packed_);
    primitive_.execute(stream_, arguments);
    if (packed_ && writes_weights_) reorder_.execute(stream_, packed_, plain_);
    stream_.wait();
}

std::shared_ptr<Prepared> prepare(const Problem& p) {
    using Key = std::array<int64_t, 21>;
    constexpr size_t most_kept = 512;
    thread_local std::map<Key, std::shared_ptr<Prepared>> kept;
    thread_local const bool one_thread = (omp_set_num_threads(1), true);  // belongs to the calling thread
    (void)one_thread;
    const auto n = p.shape.numbers();
    Key key{int64_t(p.pass), p.images, p.channels, p.filters, p.filter_step, p.tap_step, p.bias, p.add};
    static_assert(std::tuple_size_v<decltype(n)> + 8 == std::tuple_size_v<Key>);
    std::copy(n.begin(), n.end(), key.begin() + 8);
    auto found = kept.find(key);
    if (found == kept.end()) {
        std::shared_ptr<Prepared> made;
        try {
            made = std::make_shared<Prepared>(p);
        } catch (const dnnl::error& e) {
            if (e.status != dnnl_unimplemented && e.status != dnnl_invalid_arguments) throw Error(e.what());
        }
        if (kept.size() >= most_kept) kept.clear();
        found = kept.emplace(key, made && made->fast() ? made : nullptr).first;
    }
    const auto& result = found->second;
    return result && result->workspace_bytes() <= workspace_limit() ? result : nullptr;
}

// What oneDNN throws becomes an error of ours.
template <class F>
static void checked(const char* what, F&& f) {
    try {
        f();
    } catch (const dnnl::error& e) { throw Error(std::string(what) + " failed in oneDNN: " + e.what()); }
}

void forward(Prepared& p, const float* x, const float* w, const float* bias, float* out) {
    checked("conv2d", [&] {
        p.run({{DNNL_ARG_SRC, x}, {DNNL_ARG_BIAS, bias}, {DNNL_ARG_DST, out}}, DNNL_ARG_WEIGHTS, w);
    });
}
void data_gradient(Prepared& p, const float* dz, const float* w, float* out) {
    checked("conv2d_backward_data", [&] {
        p.run({{DNNL_ARG_DIFF_DST, dz}, {DNNL_ARG_DIFF_SRC, out}}, DNNL_ARG_WEIGHTS, w);
    });
}
void weight_gradient(Prepared& p, const float* x, const float* dz, float* out) {
    checked("conv2d_backward_weights", [&] {
        p.run({{DNNL_ARG_SRC, x}, {DNNL_ARG_DIFF_DST, dz}}, DNNL_ARG_DIFF_WEIGHTS, out);
    });
}

}  // namespace tessera::convolution
