// SPDX-License-Identifier: MIT
#include "models/backbones/resnet.h"

#include <cmath>
#include <stdexcept>

namespace gradlibra {

namespace {

using ops::Activation;

std::array<int, 4> blocks_of(int depth) {
  switch (depth) {
    case 18:
      return {2, 2, 2, 2};
    case 34:  // of basic blocks
    case 50:  // of bottlenecks
      return {3, 4, 6, 3};
    case 101:
      return {3, 4, 23, 3};
    default:
      throw std::invalid_argument("model.backbone.depth: " + std::to_string(depth) + " is not one of 18, 34, 50, 101");
  }
}

// Kaiming normal by fan-out.
ConvLayer::Options conv_options(int kernel, int stride, int out, bool trainable) {
  return {.kernel = kernel,
          .shape = {.stride = stride, .padding = kernel / 2},
          .bias = false,
          .trainable = trainable,
          .weight_init = {Init::Kind::normal, std::sqrt(2.0 / (kernel * kernel * out))}};
}

}  // namespace

ResNet::ResNet(ParameterStore& store, const BackboneConfig& config) : config_(config), bottleneck_(config.depth >= 50) {
  const std::array<int, 4> blocks = blocks_of(config.depth);
  if (config.base_channels < 1) throw std::invalid_argument("model.backbone.base_channels must be positive");
  if (config.frozen_stages < -1 || config.frozen_stages > 4)
    throw std::invalid_argument("model.backbone.frozen_stages must be between -1 and 4");
  store.enter(Section::backbone);
  const bool stem_trains = config.frozen_stages < 0;
  stem_ = ConvLayer(store, "backbone.conv1", 3, config.base_channels,
                    conv_options(7, 2, config.base_channels, stem_trains));
  stem_norm_ = BatchNormLayer(store, "backbone.bn1", config.base_channels, stem_trains && config.norm_trainable, 1);
  int in = config.base_channels;
  for (int s = 0; s < 4; ++s) {
    const int width = config.base_channels << s;
    for (int b = 0; b < blocks[static_cast<size_t>(s)]; ++b) {
      const std::string name = "backbone.layer" + std::to_string(s + 1) + "." + std::to_string(b);
      stages_[static_cast<size_t>(s)].push_back(
          make_block(store, name, in, width, s > 0 && b == 0 ? 2 : 1, s + 1 > config.frozen_stages));
      in = bottleneck_ ? 4 * width : width;
    }
    channels_[static_cast<size_t>(s)] = in;
  }
}

ResNet::Block ResNet::make_block(ParameterStore& store, const std::string& name, int in, int width, int stride,
                                 bool trainable) const {
  Block block;
  const int out = bottleneck_ ? 4 * width : width;
  const bool norm_trains = trainable && config_.norm_trainable;
  const int count = bottleneck_ ? 3 : 2;
  int channels = in;
  for (int i = 0; i < count; ++i) {
    const bool last = i == count - 1;
    const int kernel = bottleneck_ && i != 1 ? 1 : 3;
    const int strided = !bottleneck_ || config_.style == "caffe" ? 0 : 1;
    const int to = last ? out : width;
    const std::string index = std::to_string(i + 1);
    block.convs.emplace_back(store, name + ".conv" + index, channels, to,
                             conv_options(kernel, i == strided ? stride : 1, to, trainable));
    block.norms.emplace_back(store, name + ".bn" + index, to, norm_trains, last && config_.zero_init_residual ? 0 : 1);
    channels = to;
  }
  block.has_shortcut = stride != 1 || in != out;
  if (block.has_shortcut) {
    block.shortcut = ConvLayer(store, name + ".downsample.0", in, out, conv_options(1, stride, out, trainable));
    block.shortcut_norm = BatchNormLayer(store, name + ".downsample.1", out, norm_trains, 1);
  }
  return block;
}

NormStatistics ResNet::norm_mode(const Tape& tape, int stage) const {
  const bool stored = config_.norm_eval || !tape.recording() || stage <= config_.frozen_stages;
  return stored ? NormStatistics::stored : NormStatistics::batch;
}

Var ResNet::run_block(Tape& tape, const Block& block, Var x, NormStatistics mode, const Folds& folds) const {
  const auto folded = [&](const BatchNormLayer& norm) {
    const auto found = folds.find(&norm);
    return found == folds.end() ? ops::FoldedNorm() : found->second;
  };
  Var identity = x;
  if (block.has_shortcut)
    identity =
        block.shortcut_norm.after(block.shortcut, tape, x, mode, Var(), Activation::none, folded(block.shortcut_norm));
  Var y = x;
  for (size_t i = 0; i < block.convs.size(); ++i) {
    const bool last = i + 1 == block.convs.size();
    y = block.norms[i].after(block.convs[i], tape, y, mode, last ? identity : Var(), Activation::relu,
                             folded(block.norms[i]));
  }
  return y;
}

ResNet::Folds ResNet::fold_stages(Tape& tape, int first) const {
  Folds folds;
  for (int s = first; s < 4; ++s) {
    if (norm_mode(tape, s + 1) != NormStatistics::stored) continue;
    for (const Block& block : stages_[static_cast<size_t>(s)]) {
      for (size_t i = 0; i < block.convs.size(); ++i)
        folds.emplace(&block.norms[i], block.norms[i].folded_into(block.convs[i], tape));
      if (block.has_shortcut)
        folds.emplace(&block.shortcut_norm, block.shortcut_norm.folded_into(block.shortcut, tape));
    }
  }
  return folds;
}

std::vector<Var> ResNet::operator()(Tape& tape, Var images) const {
  std::vector<Var> outputs;
  Folds folds;
  const auto run_stage = [&](Tape& on, int s, Var x) {
    for (const Block& block : stages_[static_cast<size_t>(s)])
      x = run_block(on, block, x, norm_mode(tape, s + 1), folds);
    return x;
  };
  const auto run_stem = [&](Tape& on) {
    const Var x = stem_norm_.after(stem_, on, images, norm_mode(tape, 0), Var(), Activation::relu);
    on.note("backbone.stem", x);
    return ops::max_pool(on, x, {.kernel = 3, .stride = 2, .padding = 1});
  };
  Var x;
  int first = 0;
  if (tape.mode() == Tape::Mode::training && config_.frozen_stages >= 0) {
    // Nothing flows back here: without a record, all but what later stages read is given back at once.
    const auto run_frozen = [&] {
      Tape frozen(tape.context(), Tape::Mode::inference);
      x = run_stem(frozen);
      for (; first < config_.frozen_stages; ++first) {
        x = tape.constant(std::move(run_stage(frozen, first, x).node().value));
        outputs.push_back(x);
      }
      if (first == 0) x = tape.constant(std::move(x.node().value));
    };
    // The folds of later stages, two hundred microseconds of tiny kernels, run beside them where the device can.
    if (tape.context().has_branches())
      tape.in_branches(2, [&](int branch) {
        if (branch == 0)
          run_frozen();
        else
          folds = fold_stages(tape, config_.frozen_stages);
      });
    else
      run_frozen();
  } else {
    x = run_stem(tape);
  }
  for (int s = first; s < 4; ++s) {
    x = run_stage(tape, s, x);
    tape.note("backbone.c" + std::to_string(s + 2), x);
    outputs.push_back(x);
  }
  return outputs;
}

}  // namespace gradlibra
