// SPDX-License-Identifier: MIT
#include "models/layers.h"

#include <cmath>

#include "kernels/elementwise.h"

namespace gradlibra {

namespace {
Var var(Parameter* parameter) { return parameter == nullptr ? Var() : Var(&parameter->node); }
}  // namespace

ConvLayer::ConvLayer(ParameterStore& store, std::string layer_name, int in, int out, const Options& options)
    : name(std::move(layer_name)), shape(options.shape) {
  weight = &store.add(name + ".weight", {out, options.kernel, options.kernel, in}, options.weight_init,
                      Role::convolution_weight, options.trainable);
  weight->classifier = options.classifier;
  if (!options.bias) return;
  bias = &store.add(name + ".bias", {out}, options.bias_init, Role::bias, options.trainable);
  bias->classifier = options.classifier;
}

Var ConvLayer::operator()(Tape& tape, Var x, ops::Activation activation) const {
  const Var y = ops::conv2d(tape, x, var(weight), var(bias), shape, activation);
  add_cost(tape, y);
  return y;
}

void ConvLayer::add_cost(Tape& tape, Var y) const {
  tape.add_cost(name, y.dim(0) * y.dim(1) * y.dim(2) * weight->node.value.size());
}

Var ConvLayer::deformable(Tape& tape, Var x, Var offsets, ops::Activation activation,
                          const ops::SamplePoints& points) const {
  const Var y = ops::deform_conv2d(tape, x, offsets, var(weight), activation, points);
  const int64_t cells = y.dim(0) * y.dim(1) * y.dim(2), taps = weight->node.value.dim(1) * weight->node.value.dim(2);
  tape.add_cost(name, cells * weight->node.value.size());
  tape.add_cost(name + "#sampling", cells * taps * x.dim(3) * 4);  // four bilinear corners per tap and channel
  return y;
}

Var ConvLayer::modulated(Tape& tape, Var x, Var prediction, ops::Activation activation) const {
  const Var y = ops::modulated_deform_conv2d(tape, x, prediction, var(weight), var(bias), activation);
  const int64_t cells = y.dim(0) * y.dim(1) * y.dim(2), taps = weight->node.value.dim(1) * weight->node.value.dim(2);
  add_cost(tape, y);
  tape.add_cost(name + "#sampling", cells * taps * x.dim(3) * 5);  // four bilinear corners and the mask
  return y;
}

BatchNormLayer::BatchNormLayer(ParameterStore& store, const std::string& name, int channels, bool trainable,
                               double weight_init)
    : weight(
          &store.add(name + ".weight", {channels}, {Init::Kind::constant, weight_init}, Role::norm_scale, trainable)),
      bias(&store.add(name + ".bias", {channels}, {}, Role::norm_shift, trainable)),
      running_mean(&store.add_buffer(name + ".running_mean", {channels}, {}, Role::running_mean)),
      running_var(
          &store.add_buffer(name + ".running_var", {channels}, {Init::Kind::constant, 1}, Role::running_variance)) {}

Var BatchNormLayer::after(const ConvLayer& conv, Tape& tape, Var x, NormStatistics mode, Var residual,
                          ops::Activation activation, const ops::FoldedNorm& folded) const {
  ops::BatchNormBuffers statistics{&running_mean->node, &running_var->node};
  if (mode == NormStatistics::stored) {
    Node shifted;
    if (conv.bias != nullptr) {
      // conv + bias - mean is conv - (mean - bias): a norm about another mean.
      require(!tape.recording() && !folded.weight, "BatchNormLayer", "a bias before stored statistics does not train");
      shifted.value = tape.buffer(running_mean->node.value.shape());
      tape.run([&](auto& device) {
        kernels::copy(device, std::as_const(running_mean->node.value).view(), shifted.value.view(),
                      Accumulate::overwrite);
        kernels::scale(device, std::as_const(conv.bias->node.value).view(), -1, shifted.value.view(), Accumulate::add);
      });
      statistics.running_mean = &shifted;
    }
    const Var y = ops::conv2d_batch_norm(tape, {.x = x,
                                                .weight = var(conv.weight),
                                                .gamma = var(weight),
                                                .beta = var(bias),
                                                .buffers = statistics,
                                                .shape = conv.shape,
                                                .residual = residual,
                                                .activation = activation,
                                                .folded = folded});
    conv.add_cost(tape, y);
    return y;
  }
  const Var y = ops::batch_norm(tape, conv(tape, x), var(weight), var(bias), statistics,
                                residual ? ops::Activation::none : activation);
  if (!residual) return y;
  require(activation == ops::Activation::relu, "BatchNormLayer", "a residual comes before a ReLU");
  return ops::add_relu(tape, y, residual);
}

ops::FoldedNorm BatchNormLayer::folded_into(const ConvLayer& conv, Tape& tape) const {
  return ops::fold_batch_norm(tape, var(conv.weight), var(weight), var(bias), {&running_mean->node, &running_var->node},
                              tape.context().map_dtype());
}

ScaleLayer::ScaleLayer(ParameterStore& store, const std::string& name)
    : scale(&store.add(name + ".scale", {}, {Init::Kind::constant, 1})) {}

Var ScaleLayer::operator()(Tape& tape, Var x, kernels::ScaledActivation f) const {
  return ops::scaled_activation(tape, x, var(scale), f);
}

void check_groups(const std::string& section, const std::string& norm, int norm_groups, const std::string& channels_key,
                  int channels) {
  if (norm != "group" || (norm_groups > 0 && channels % norm_groups == 0)) return;
  throw std::invalid_argument(section + ".norm_groups is " + std::to_string(norm_groups) + ", expected a divisor of " +
                              section + "." + channels_key + " (" + std::to_string(channels) + ")");
}

GroupNormLayer::GroupNormLayer(ParameterStore& store, const std::string& name, int channels, int group_count)
    : weight(&store.add(name + ".weight", {channels}, {Init::Kind::constant, 1}, Role::norm_scale)),
      bias(&store.add(name + ".bias", {channels}, {}, Role::norm_shift)),
      groups(group_count) {
  if (group_count < 1 || channels % group_count != 0)
    throw std::invalid_argument(name + ": " + std::to_string(channels) + " channels cannot be split into " +
                                std::to_string(group_count) + " groups");
}

Var GroupNormLayer::operator()(Tape& tape, Var x, ops::Activation activation) const {
  return ops::group_norm(tape, x, var(weight), var(bias), groups, 1e-5f, activation);
}

ConvModule::ConvModule(ParameterStore& store, const std::string& name, int in, int out, ConvLayer::Options options,
                       const std::string& norm_type, int norm_groups, bool bias_beside_norm)
    : has_norm(norm_type == "group") {
  options.bias = !has_norm || bias_beside_norm;
  conv = ConvLayer(store, name + ".conv", in, out, options);
  if (has_norm) norm = GroupNormLayer(store, name + ".gn", out, norm_groups);
}

ConvModule ConvModule::modulated(ParameterStore& store, const std::string& name, int in, int out,
                                 const std::string& norm_type, int norm_groups, bool bias_beside_norm) {
  constexpr int kKernel = 3, kTaps = kKernel * kKernel;
  ConvLayer::Options options{.kernel = kKernel, .shape = {.padding = kKernel / 2}};
  ConvLayer::Options prediction = options;
  options.weight_init = {Init::Kind::uniform, 1 / std::sqrt(kTaps * static_cast<double>(in))};
  ConvModule module(store, name, in, out, options, norm_type, norm_groups, bias_beside_norm);
  module.conv_offset = ConvLayer(store, name + ".conv.conv_offset", in, 3 * kTaps, prediction);
  return module;
}

Var ConvModule::convolve(Tape& tape, Var x, ops::Activation activation) const {
  if (conv_offset.weight == nullptr) return conv(tape, x, activation);
  return conv.modulated(tape, x, conv_offset(tape, x), activation);
}

Var ConvModule::operator()(Tape& tape, Var x, ops::Activation activation) const {
  if (!has_norm) return convolve(tape, x, activation);
  return norm(tape, convolve(tape, x, ops::Activation::none), activation);
}

ConvBatchNorm::ConvBatchNorm(ParameterStore& store, const std::string& name, int in, int out,
                             ConvLayer::Options options) {
  options.bias = false;
  conv = ConvLayer(store, name + ".conv", in, out, options);
  norm = BatchNormLayer(store, name + ".bn", out, /*trainable=*/true, 1);
}

Var ConvBatchNorm::operator()(Tape& tape, Var x) const {
  const NormStatistics mode = tape.recording() ? NormStatistics::batch : NormStatistics::stored;
  return norm.after(conv, tape, x, mode, Var(), ops::Activation::relu);
}

}  // namespace gradlibra
