// SPDX-License-Identifier: MIT
#include "models/necks/dilated_encoder.h"

#include <cmath>
#include <stdexcept>

#include "runtime/base/config.h"

namespace gradlibra {

namespace {

using ops::Activation;

// caffe2's XavierFill of MMDetection's DilatedEncoder: uniform, by fan in alone.
ConvLayer::Options projection(int in, int kernel) {
  return {.kernel = kernel,
          .shape = {.padding = kernel / 2},
          .weight_init = {Init::Kind::uniform, std::sqrt(3.0 / (kernel * kernel * in))}};
}

ConvLayer::Options block_conv(int kernel, int dilation) {
  return {.kernel = kernel,
          .shape = {.padding = kernel / 2 * dilation, .dilation = dilation},
          .weight_init = {Init::Kind::normal, 0.01}};
}

}  // namespace

void DilatedEncoderConfig::describe(ConfigVisitor& v) {
  v.field("channels", channels, "channels of the level", between(1, 65536));
  v.field("block_channels", block_channels, "channels inside a residual block", between(1, 65536));
  v.field("dilations", dilations, "of the residual blocks, one each", between(1, 1024));
}

DilatedEncoder::DilatedEncoder(ParameterStore& store, const DilatedEncoderConfig& config,
                               std::span<const int> in_channels) {
  const int out = config.channels, width = config.block_channels, in = in_channels.back();
  if (out < 1 || width < 1)
    throw std::invalid_argument("model.yolof.encoder.channels and block_channels must be at least 1");
  for (const int dilation : config.dilations)
    if (dilation < 1) throw std::invalid_argument("model.yolof.encoder.dilations must be at least 1 each");
  store.enter(Section::neck);
  pyramid_ = {.channels = out, .strides = {4 << (in_channels.size() - 1)}};
  lateral_ = ConvLayer(store, "neck.lateral_conv", in, out, projection(in, 1));
  lateral_norm_ = BatchNormLayer(store, "neck.lateral_norm", out, /*trainable=*/true, 1);
  output_ = ConvLayer(store, "neck.fpn_conv", out, out, projection(out, 3));
  output_norm_ = BatchNormLayer(store, "neck.fpn_norm", out, /*trainable=*/true, 1);
  for (size_t i = 0; i < config.dilations.size(); ++i) {
    const std::string name = "neck.dilated_encoder_blocks." + std::to_string(i);
    blocks_.push_back({ConvBatchNorm(store, name + ".conv1", out, width, block_conv(1, 1)),
                       ConvBatchNorm(store, name + ".conv2", width, width, block_conv(3, config.dilations[i])),
                       ConvBatchNorm(store, name + ".conv3", width, out, block_conv(1, 1))});
  }
}

std::vector<Var> DilatedEncoder::operator()(Tape& tape, std::span<const Var> stages) const {
  const NormStatistics mode = tape.recording() ? NormStatistics::batch : NormStatistics::stored;
  Var x = lateral_norm_.after(lateral_, tape, stages.back(), mode, Var(), Activation::none);
  x = output_norm_.after(output_, tape, x, mode, Var(), Activation::none);
  for (const Block& block : blocks_) {
    // The last ReLU stands before the addition: a block only ever adds to its input.
    const Var grown = block.expand(tape, block.dilate(tape, block.reduce(tape, x)));
    x = ops::add(tape, grown, x);
  }
  tape.note("neck.encoded", x);
  return {x};
}

}  // namespace gradlibra
