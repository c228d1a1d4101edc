// SPDX-License-Identifier: MIT
// Convolution on the host through oneDNN: activations stay NHWC, weights are reordered to whatever layout the primitive
// likes.
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
  [[nodiscard]] memory::desc x_desc() const { return {{N, C, H, W}, memory::data_type::f32, memory::format_tag::nhwc}; }
  [[nodiscard]] memory::desc y_desc() const { return {{N, K, P, Q}, memory::data_type::f32, memory::format_tag::nhwc}; }
  [[nodiscard]] memory::desc bias_desc() const { return {{K}, memory::data_type::f32, memory::format_tag::x}; }
  [[nodiscard]] memory::desc weight_desc() const {
    return {{K, C, R, S}, memory::data_type::f32, memory::format_tag::ohwi};
  }
  [[nodiscard]] memory::desc any_weight() const {
    return {{K, C, R, S}, memory::data_type::f32, memory::format_tag::any};
  }
  [[nodiscard]] memory::dims strides() const { return {stride, stride}; }
  [[nodiscard]] memory::dims dilates() const { return {dilation - 1, dilation - 1}; }
  [[nodiscard]] memory::dims padding_begin() const { return {padding, padding}; }
  // oneDNN wants the right and bottom padding that makes the sizes agree.
  [[nodiscard]] memory::dims padding_end() const {
    return {(P - 1) * stride + dilation * (R - 1) + 1 - H - padding,
            (Q - 1) * stride + dilation * (S - 1) + 1 - W - padding};
  }
};

class OneDnnConvolution final : public Convolution {
 public:
  explicit OneDnnConvolution(Context& context)
      : context_(context),
        plain_(make_plain_convolution(context)),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_) {}

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
    auto& plan = forward_[g.key((has_bias ? 1 : 0) + (activation == Activation::relu ? 2 : 0))];
    if (!plan.primitive) {
      dnnl::primitive_attr attr = base_attr();
      if (activation == Activation::relu) {
        dnnl::post_ops ops;
        ops.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
        attr.set_post_ops(ops);
      }
      const auto desc =
          has_bias
              ? dnnl::convolution_forward::desc(dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct,
                                                g.x_desc(), g.any_weight(), g.bias_desc(), g.y_desc(), g.strides(),
                                                g.dilates(), g.padding_begin(), g.padding_end())
              : dnnl::convolution_forward::desc(dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct,
                                                g.x_desc(), g.any_weight(), g.y_desc(), g.strides(), g.dilates(),
                                                g.padding_begin(), g.padding_end());
      const dnnl::convolution_forward::primitive_desc pd(desc, attr, engine_);
      plan = {dnnl::convolution_forward(pd), pd.weights_desc(), pd.scratchpad_desc()};
    }
    const Tensor scratch = scratchpad(plan.scratchpad);
    std::unordered_map<int, memory> args{{DNNL_ARG_SRC, wrap(g.x_desc(), x.data())},
                                         {DNNL_ARG_WEIGHTS, reordered(weight.data(), g.weight_desc(), plan.weights)},
                                         {DNNL_ARG_DST, wrap(g.y_desc(), y.data())},
                                         {DNNL_ARG_SCRATCHPAD, wrap(plan.scratchpad, scratch.data())}};
    if (has_bias) args.emplace(DNNL_ARG_BIAS, wrap(g.bias_desc(), bias.data()));
    execute(plan.primitive, args);
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
    auto& plan = backward_data_[g.key(0)];
    if (!plan.primitive) {
      const dnnl::convolution_backward_data::desc desc(dnnl::algorithm::convolution_direct, g.x_desc(), g.any_weight(),
                                                       g.y_desc(), g.strides(), g.dilates(), g.padding_begin(),
                                                       g.padding_end());
      const dnnl::convolution_backward_data::primitive_desc pd(desc, base_attr(), engine_, hint(g));
      plan = {dnnl::convolution_backward_data(pd), pd.weights_desc(), pd.scratchpad_desc()};
    }
    Tensor sum;  // oneDNN overwrites
    View<float> target = grad_x;
    if (mode == Accumulate::add) {
      sum = context_.empty(grad_x.shape());
      target = sum.view();
    }
    const Tensor scratch = scratchpad(plan.scratchpad);
    execute(plan.primitive, {{DNNL_ARG_DIFF_DST, wrap(g.y_desc(), grad_y.data())},
                             {DNNL_ARG_WEIGHTS, reordered(weight.data(), g.weight_desc(), plan.weights)},
                             {DNNL_ARG_DIFF_SRC, wrap(g.x_desc(), target.data())},
                             {DNNL_ARG_SCRATCHPAD, wrap(plan.scratchpad, scratch.data())}});
    if (mode == Accumulate::add)
      context_.run([&](auto& device) { kernels::copy(device, target, grad_x, Accumulate::add); });
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
    auto& plan = backward_weight_[g.key(has_bias)];
    if (!plan.primitive) {
      const auto desc = has_bias ? dnnl::convolution_backward_weights::desc(
                                       dnnl::algorithm::convolution_direct, g.x_desc(), g.any_weight(), g.bias_desc(),
                                       g.y_desc(), g.strides(), g.dilates(), g.padding_begin(), g.padding_end())
                                 : dnnl::convolution_backward_weights::desc(
                                       dnnl::algorithm::convolution_direct, g.x_desc(), g.any_weight(), g.y_desc(),
                                       g.strides(), g.dilates(), g.padding_begin(), g.padding_end());
      const dnnl::convolution_backward_weights::primitive_desc pd(desc, base_attr(), engine_, hint(g));
      plan = {dnnl::convolution_backward_weights(pd), pd.diff_weights_desc(), pd.scratchpad_desc()};
    }
    const bool direct = plan.weights == g.weight_desc() && mode == Accumulate::overwrite;
    Tensor blocked, bias_sum;
    if (!direct) blocked = context_.empty({static_cast<int64_t>(plan.weights.get_size() / sizeof(float))});
    const memory diff_weights = wrap(plan.weights, direct ? grad_weight.data() : blocked.view().data());
    const Tensor scratch = scratchpad(plan.scratchpad);
    std::unordered_map<int, memory> args{{DNNL_ARG_SRC, wrap(g.x_desc(), x.data())},
                                         {DNNL_ARG_DIFF_DST, wrap(g.y_desc(), grad_y.data())},
                                         {DNNL_ARG_DIFF_WEIGHTS, diff_weights},
                                         {DNNL_ARG_SCRATCHPAD, wrap(plan.scratchpad, scratch.data())}};
    if (has_bias) {
      bias_sum = context_.empty(grad_bias.shape());
      args.emplace(DNNL_ARG_DIFF_BIAS, wrap(g.bias_desc(), bias_sum.view().data()));
    }
    execute(plan.primitive, args);
    if (!direct) {
      run_reorder(diff_weights, wrap(g.weight_desc(), grad_weight.data()), mode == Accumulate::add);
    }
    if (has_bias)
      context_.run([&](auto& device) { kernels::copy(device, std::as_const(bias_sum).view(), grad_bias, mode); });
  }

  void weights_changed() override { reordered_.clear(); }
  void weight_changed(const void* weight) override { reordered_.erase(static_cast<const float*>(weight)); }

 private:
  struct Plan {
    dnnl::primitive primitive;
    memory::desc weights, scratchpad;
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

  dnnl::convolution_forward::primitive_desc hint(const Geometry& g) const {
    const dnnl::convolution_forward::desc desc(dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct,
                                               g.x_desc(), g.any_weight(), g.y_desc(), g.strides(), g.dilates(),
                                               g.padding_begin(), g.padding_end());
    return {desc, engine_};
  }

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
  std::map<Key, Plan> forward_, backward_data_, backward_weight_;
  std::unordered_map<const float*, std::vector<Reordered>> reordered_;
};

}  // namespace

std::unique_ptr<Convolution> make_onednn_convolution(Context& context) {
  return make_widening_convolution(context, std::make_unique<OneDnnConvolution>(context));
}

}  // namespace gradlibra
