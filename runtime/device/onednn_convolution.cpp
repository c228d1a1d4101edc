// SPDX-License-Identifier: MIT
// Convolution on the host through oneDNN. Activations are NHWC, weights are reordered to whatever layout the primitive
// likes. Large 3x3 convolutions of stride 1 take Winograd's algorithm where oneDNN has it (CPUs with AVX-512): it works
// on activations in blocks of sixteen channels, and even with them rearranged there and back it takes half the time. A
// value that is not finite then spreads over the whole 4x4 cells of its tile.
#include <omp.h>

#include <array>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "kernels/convolution/bias_activation.h"
#include "kernels/convolution/conv2d.h"
#include "kernels/elementwise.h"
#include "runtime/device/context.h"

namespace gradlibra {

namespace {

using dnnl::algorithm;
using dnnl::memory;
using kernels::Activation;
using kernels::ConvShape;

// Everything a primitive depends on.
struct Key {
  std::array<int64_t, 12> fields;
  friend auto operator<=>(const Key&, const Key&) = default;  // NOLINT(modernize-use-nullptr): the 0 of <=> itself
};

// Every size of a convolution, in oneDNN's words.
struct Geometry : kernels::ConvDims {
  Geometry(const char* op, const Shape& x, const Shape& weight, const Shape& y, const ConvShape& shape)
      : ConvDims(kernels::conv_dims(op, x, weight, y, shape)) {}

  [[nodiscard]] Key key(int64_t kind) const { return {{kind, N, H, W, C, K, R, S, stride, padding, dilation, 0}}; }
  [[nodiscard]] memory::desc x_desc(algorithm a = algorithm::convolution_direct) const {
    return {{N, C, H, W}, memory::data_type::f32, activations(a)};
  }
  [[nodiscard]] memory::desc y_desc(algorithm a = algorithm::convolution_direct) const {
    return {{N, K, P, Q}, memory::data_type::f32, activations(a)};
  }
  [[nodiscard]] memory::desc bias_desc() const { return {{K}, memory::data_type::f32, memory::format_tag::x}; }
  [[nodiscard]] memory::desc weight_desc() const {
    return {{K, C, R, S}, memory::data_type::f32, memory::format_tag::ohwi};
  }
  [[nodiscard]] memory::desc any_weight() const {
    return {{K, C, R, S}, memory::data_type::f32, memory::format_tag::any};
  }
  [[nodiscard]] int64_t x_stride() const { return H * W * C; }  // of an image
  [[nodiscard]] int64_t y_stride() const { return P * Q * K; }
  [[nodiscard]] memory::dims strides() const { return {stride, stride}; }
  [[nodiscard]] memory::dims dilates() const { return {dilation - 1, dilation - 1}; }
  [[nodiscard]] memory::dims padding_begin() const { return {padding, padding}; }
  // oneDNN wants the right and bottom padding that makes the sizes agree.
  [[nodiscard]] memory::dims padding_end() const {
    return {(P - 1) * stride + dilation * (R - 1) + 1 - H - padding,
            (Q - 1) * stride + dilation * (S - 1) + 1 - W - padding};
  }

  // Winograd's F(4x4, 3x3) (Lavin and Gray, arXiv:1509.09308, section 4.2) multiplies a quarter as often as a direct
  // convolution, but transforms every weight in each call: it pays off from some tiles on (docs/benchmarks.md has
  // where). Forward, each image is a call of its own: how oneDNN splits a sum follows from the size of the batch, and
  // an image must have the same bits in every batch. Backward, calls are as small as is fast, if the batch
  // divides so: each tile takes memory.
  struct Way {
    algorithm by;
    int64_t images;  // of a call
  };
  [[nodiscard]] Way forward_way(bool has_winograd) const {
    if (has_winograd && is_for_winograd() && tiles() >= 25) return {algorithm::convolution_winograd, 1};
    return {algorithm::convolution_direct, N};
  }
  [[nodiscard]] Way backward_way(bool has_winograd) const {
    if (!has_winograd || !is_for_winograd() || N * tiles() < 32) return {algorithm::convolution_direct, N};
    int64_t images = 1;
    while (images < N && (N % images != 0 || images * tiles() < 128)) ++images;
    return {algorithm::convolution_winograd, images};
  }
  [[nodiscard]] Geometry part(int64_t images) const {
    Geometry result = *this;
    result.N = images;
    return result;
  }

 private:
  [[nodiscard]] int64_t tiles() const { return ((P + 3) / 4) * ((Q + 3) / 4); }
  [[nodiscard]] bool is_for_winograd() const {
    return R == 3 && S == 3 && stride == 1 && dilation == 1 && padding == 1 && C % 16 == 0 && K % 16 == 0 && C >= 32 &&
           K >= 32;
  }
  static memory::format_tag activations(algorithm a) {
    return a == algorithm::convolution_winograd ? memory::format_tag::nChw16c : memory::format_tag::nhwc;
  }
};

class OneDnnConvolution final : public Convolution {
 public:
  explicit OneDnnConvolution(Context& context)
      : context_(context),
        plain_(make_plain_convolution(context)),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_) {
    const Geometry sample("conv2d", {1, 32, 32, 32}, {32, 3, 3, 32}, {1, 32, 32, 32}, {.stride = 1, .padding = 1});
    has_winograd_ = bool(describe_forward(sample, algorithm::convolution_winograd, false, {}));
  }

  void forward(const Forward& call) override {
    const View<const float> x = call.x.view(), weight = call.weight.view(), bias = call.bias_view<float>();
    const View<float> y = call.y.view();
    const ConvShape& shape = call.shape;
    // The residual is added behind the primitive, and the ReLU with it.
    const bool has_residual = !call.residual.empty();
    const Activation activation = has_residual ? Activation::none : call.activation;
    const Geometry g("conv2d", x.shape(), weight.shape(), y.shape(), shape);
    if (y.size() == 0) return;
    use_threads();
    const bool has_bias = bias.data() != nullptr;
    const Geometry::Way way = g.forward_way(has_winograd_);
    const Geometry part = g.part(way.images);
    auto& plan = forward_[part.key((has_bias ? 1 : 0) + (activation == Activation::relu ? 2 : 0))];
    if (!plan.primitive) {
      dnnl::primitive_attr attr = base_attr();
      if (activation == Activation::relu) {
        dnnl::post_ops ops;
        ops.append_eltwise(1.0f, algorithm::eltwise_relu, 0.0f, 0.0f);
        attr.set_post_ops(ops);
      }
      plan = make_plan<dnnl::convolution_forward>(
          part, way.by, [&](algorithm a) { return describe_forward(part, a, has_bias, attr); });
    }
    const Tensor scratch = scratchpad(plan.scratchpad);
    const memory weights = reordered(weight.data(), g.weight_desc(), plan.weights);
    for (int64_t n = 0; n < g.N; n += way.images) {
      const Input source = arranged(part.x_desc(), x.data() + n * g.x_stride(), plan.x);
      const Output target = output(part.y_desc(), y.data() + n * g.y_stride(), plan.y, Accumulate::overwrite);
      std::unordered_map<int, memory> args{{DNNL_ARG_SRC, source.data},
                                           {DNNL_ARG_WEIGHTS, weights},
                                           {DNNL_ARG_DST, target.data},
                                           {DNNL_ARG_SCRATCHPAD, wrap(plan.scratchpad, scratch.data())}};
      if (has_bias) args.emplace(DNNL_ARG_BIAS, wrap(g.bias_desc(), bias.data()));
      execute(plan.primitive, args);
      deliver(target);
    }
    if (!has_residual) return;
    context_.run([&](auto& device) {
      kernels::bias_activation<float>(device, y, {}, call.residual.view(), call.activation, y);
    });
  }

  void backward_data(ConstMap grad_y_map, ConstMap weight_map, const ConvShape& shape, Map grad_x_map,
                     Accumulate mode) override {
    const View<const float> grad_y = grad_y_map.view(), weight = weight_map.view();
    const View<float> grad_x = grad_x_map.view();
    const Geometry g("conv2d_backward_data", grad_x.shape(), weight.shape(), grad_y.shape(), shape);
    if (grad_x.size() == 0) return;
    use_threads();
    const Geometry::Way way = g.backward_way(has_winograd_);
    const Geometry part = g.part(way.images);
    auto& plan = backward_data_[part.key(0)];
    if (!plan.primitive) {
      using Primitive = dnnl::convolution_backward_data;
      plan = make_plan<Primitive>(part, way.by, [&](algorithm a) {
        const Primitive::desc desc(a, part.x_desc(a), part.any_weight(), part.y_desc(a), part.strides(), part.dilates(),
                                   part.padding_begin(), part.padding_end());
        return describe_backward<Primitive>(part, a, desc);
      });
    }
    const Tensor scratch = scratchpad(plan.scratchpad);
    const memory weights = reordered(weight.data(), g.weight_desc(), plan.weights);
    for (int64_t n = 0; n < g.N; n += way.images) {
      const Input source = arranged(part.y_desc(), grad_y.data() + n * g.y_stride(), plan.y);
      const Output target = output(part.x_desc(), grad_x.data() + n * g.x_stride(), plan.x, mode);
      execute(plan.primitive, {{DNNL_ARG_DIFF_DST, source.data},
                               {DNNL_ARG_WEIGHTS, weights},
                               {DNNL_ARG_DIFF_SRC, target.data},
                               {DNNL_ARG_SCRATCHPAD, wrap(plan.scratchpad, scratch.data())}});
      deliver(target);
    }
  }

  void backward_weight(ConstMap x_map, ConstMap grad_y_map, const ConvShape& shape, Map grad_weight_map,
                       View<float> grad_bias, Accumulate mode) override {
    const View<const float> x = x_map.view(), grad_y = grad_y_map.view();
    const View<float> grad_weight = grad_weight_map.view();
    const Geometry g("conv2d_backward_weight", x.shape(), grad_weight.shape(), grad_y.shape(), shape);
    const bool has_bias = grad_bias.data() != nullptr;
    if (grad_y.size() == 0) {
      context_.run([&](auto& device) {
        if (mode == Accumulate::overwrite) kernels::fill(device, grad_weight, 0.0f);
        if (mode == Accumulate::overwrite && has_bias) kernels::fill(device, grad_bias, 0.0f);
      });
      return;
    }
    if (overruns_workspace(g)) {
      plain_->backward_weight(x, grad_y, shape, grad_weight, grad_bias, mode);
      return;
    }
    use_threads();
    const Geometry::Way way = g.backward_way(has_winograd_);
    const Geometry part = g.part(way.images);
    auto& plan = backward_weight_[part.key(has_bias)];
    if (!plan.primitive) {
      using Primitive = dnnl::convolution_backward_weights;
      plan = make_plan<Primitive>(part, way.by, [&](algorithm a) {
        using Desc = Primitive::desc;
        const Desc desc = has_bias ? Desc(a, part.x_desc(a), part.any_weight(), part.bias_desc(), part.y_desc(a),
                                          part.strides(), part.dilates(), part.padding_begin(), part.padding_end())
                                   : Desc(a, part.x_desc(a), part.any_weight(), part.y_desc(a), part.strides(),
                                          part.dilates(), part.padding_begin(), part.padding_end());
        return describe_backward<Primitive>(part, a, desc);
      });
    }
    const Tensor scratch = scratchpad(plan.scratchpad);
    Tensor bias_sum;
    if (has_bias) bias_sum = context_.empty(grad_bias.shape());
    for (int64_t n = 0; n < g.N; n += way.images) {
      const Accumulate part_mode = n == 0 ? mode : Accumulate::add;
      const Input source = arranged(part.x_desc(), x.data() + n * g.x_stride(), plan.x),
                  grad = arranged(part.y_desc(), grad_y.data() + n * g.y_stride(), plan.y);
      const Output target = output(g.weight_desc(), grad_weight.data(), plan.weights, part_mode);
      std::unordered_map<int, memory> args{{DNNL_ARG_SRC, source.data},
                                           {DNNL_ARG_DIFF_DST, grad.data},
                                           {DNNL_ARG_DIFF_WEIGHTS, target.data},
                                           {DNNL_ARG_SCRATCHPAD, wrap(plan.scratchpad, scratch.data())}};
      if (has_bias) args.emplace(DNNL_ARG_DIFF_BIAS, wrap(g.bias_desc(), bias_sum.view().data()));
      execute(plan.primitive, args);
      deliver(target);
      if (!has_bias) continue;
      context_.run([&](auto& device) { kernels::copy(device, std::as_const(bias_sum).view(), grad_bias, part_mode); });
    }
  }

  void weights_changed() override { reordered_.clear(); }
  void weight_changed(const void* weight) override { reordered_.erase(static_cast<const float*>(weight)); }

 private:
  // A primitive and the layouts that it works on.
  struct Plan {
    dnnl::primitive primitive;
    memory::desc x, weights, y, scratchpad;
  };
  // What a primitive reads: where it lies, or rearranged in a buffer.
  struct Input {
    memory data;
    Tensor buffer;
  };
  // What it writes: in its place, or in a buffer from which it is delivered to `place`.
  struct Output {
    memory data, place;
    Tensor buffer;
    Accumulate mode;
  };
  struct Reordered {
    Tensor storage;
    memory::desc layout;
  };

  // The weight gradient of a strided 1x1 convolution gathers x into a workspace that oneDNN makes too small when x has
  // fewer channels than a vector has floats (github.com/uxlfoundation/oneDNN/issues/6035): it crashes, hangs, or
  // returns nonsense.
  static bool overruns_workspace(const Geometry& g) { return g.R == 1 && g.S == 1 && g.stride > 1 && g.C < 16; }

  // Our own scratch memory: oneDNN's would be allocated anew in every call.
  static dnnl::primitive_attr base_attr() {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return attr;
  }

  // `describe` gives the description of the primitive for an algorithm; empty where oneDNN has no Winograd for it.
  template <class Primitive, class Describe>
  static Plan make_plan(const Geometry& g, algorithm a, const Describe& describe) {
    typename Primitive::primitive_desc pd = describe(a);
    if (!pd) pd = describe(a = algorithm::convolution_direct);
    memory::desc weights;
    if constexpr (std::is_same_v<Primitive, dnnl::convolution_backward_weights>)
      weights = pd.diff_weights_desc();
    else
      weights = pd.weights_desc();
    return {Primitive(pd), g.x_desc(a), weights, g.y_desc(a), pd.scratchpad_desc()};
  }

  [[nodiscard]] dnnl::convolution_forward::primitive_desc describe_forward(const Geometry& g, algorithm a,
                                                                           bool has_bias,
                                                                           const dnnl::primitive_attr& attr) const {
    using Desc = dnnl::convolution_forward::desc;
    constexpr auto kTraining = dnnl::prop_kind::forward_training;
    const Desc desc = has_bias ? Desc(kTraining, a, g.x_desc(a), g.any_weight(), g.bias_desc(), g.y_desc(a),
                                      g.strides(), g.dilates(), g.padding_begin(), g.padding_end())
                               : Desc(kTraining, a, g.x_desc(a), g.any_weight(), g.y_desc(a), g.strides(), g.dilates(),
                                      g.padding_begin(), g.padding_end());
    return {desc, attr, engine_, may_lack(a)};
  }

  // A backward pass is described beside its forward pass.
  template <class Primitive>
  [[nodiscard]] typename Primitive::primitive_desc describe_backward(const Geometry& g, algorithm a,
                                                                     const typename Primitive::desc& desc) const {
    const auto forward = describe_forward(g, a, false, {});
    if (!forward) return {};
    return {desc, base_attr(), engine_, forward, may_lack(a)};
  }

  static bool may_lack(algorithm a) { return a == algorithm::convolution_winograd; }

  [[nodiscard]] memory wrap(const memory::desc& desc, const void* data) const {
    return memory(desc, engine_, const_cast<void*>(data));
  }

  Tensor scratchpad(const memory::desc& desc) {
    return context_.empty({static_cast<int64_t>(std::max<size_t>(desc.get_size(), 1))}, DType::u8);
  }

  // oneDNN takes OpenMP's thread count, and splits its work by it when a primitive is made as well as when it runs.
  void use_threads() {
    context_.run([&](auto& device) {
      if constexpr (std::is_same_v<std::decay_t<decltype(device)>, Cpu>) omp_set_num_threads(device.threads());
    });
  }

  void execute(dnnl::primitive& primitive, const std::unordered_map<int, memory>& args) {
    primitive.execute(stream_, args);
    stream_.wait();
  }

  Input arranged(const memory::desc& from, const float* data, const memory::desc& to) {
    if (from == to) return {wrap(from, data), {}};
    Tensor buffer = context_.empty({static_cast<int64_t>(to.get_size() / sizeof(float))});
    Input result{wrap(to, buffer.view().data()), std::move(buffer)};
    run_reorder(wrap(from, data), result.data, false);
    return result;
  }

  Output output(const memory::desc& ours, float* data, const memory::desc& theirs, Accumulate mode) {
    const memory place = wrap(ours, data);
    if (ours == theirs && mode == Accumulate::overwrite) return {place, place, {}, mode};
    Tensor buffer = context_.empty({static_cast<int64_t>(theirs.get_size() / sizeof(float))});
    return {wrap(theirs, buffer.view().data()), place, std::move(buffer), mode};
  }

  void deliver(const Output& output) {
    if (!output.buffer.empty()) run_reorder(output.data, output.place, output.mode == Accumulate::add);
  }

  // The weight in a primitive's layout, kept until weights_changed(): a head's convolutions run once per pyramid level.
  memory reordered(const float* weight, const memory::desc& from, const memory::desc& to) {
    if (from == to) return wrap(from, weight);
    auto& entries = reordered_[weight];
    for (Reordered& entry : entries)
      if (entry.layout == to) return wrap(to, entry.storage.view().data());
    entries.push_back({context_.empty({static_cast<int64_t>(to.get_size() / sizeof(float))}), to});
    memory result = wrap(to, entries.back().storage.view().data());
    run_reorder(wrap(from, weight), result, false);
    return result;
  }

  void run_reorder(const memory& from, const memory& to, bool add) {
    dnnl::primitive_attr attr;
    if (add) {
      dnnl::post_ops ops;
      ops.append_sum(1.0f);
      attr.set_post_ops(ops);
    }
    dnnl::reorder reorder(dnnl::reorder::primitive_desc(from, to, attr));
    memory source = from, target = to;
    reorder.execute(stream_, source, target);
    stream_.wait();
  }

  Context& context_;
  std::unique_ptr<Convolution> plain_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  bool has_winograd_ = false;
  std::map<Key, Plan> forward_, backward_data_, backward_weight_;
  std::unordered_map<const float*, std::vector<Reordered>> reordered_;
};

}  // namespace

std::unique_ptr<Convolution> make_onednn_convolution(Context& context) {
  return make_widening_convolution(context, std::make_unique<OneDnnConvolution>(context));
}

}  // namespace gradlibra
