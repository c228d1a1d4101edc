// SPDX-License-Identifier: MIT
// ResNet (arXiv:1512.03385) with torchvision's parameter names under "backbone.".
#pragma once

#include <array>
#include <unordered_map>
#include <vector>

#include "models/config.h"
#include "models/layers.h"

namespace gradlibra {

class ResNet {
 public:
  ResNet(ParameterStore& store, const BackboneConfig& config);

  // images (N, H, W, 3), normalised, to C2..C5 with strides 4, 8, 16, 32.
  [[nodiscard]] std::vector<Var> operator()(Tape& tape, Var images) const;

  // Channels of C2..C5.
  [[nodiscard]] const std::array<int, 4>& channels() const { return channels_; }

 private:
  struct Block {
    std::vector<ConvLayer> convs;  // two (basic) or three (bottleneck)
    std::vector<BatchNormLayer> norms;
    bool has_shortcut = false;  // else the identity
    ConvLayer shortcut;
    BatchNormLayer shortcut_norm;
  };
  Block make_block(ParameterStore& store, const std::string& name, int in, int width, int stride, bool trainable) const;
  // By norm; one that is missing is folded where it is used.
  using Folds = std::unordered_map<const BatchNormLayer*, ops::FoldedNorm>;
  [[nodiscard]] Var run_block(Tape& tape, const Block& block, Var x, NormStatistics mode, const Folds& folds) const;
  [[nodiscard]] Folds fold_stages(Tape& tape, int first) const;
  // Frozen stages, and all of them with norm_eval or outside training, use stored statistics.
  [[nodiscard]] NormStatistics norm_mode(const Tape& tape, int stage) const;

  BackboneConfig config_;
  bool bottleneck_;
  ConvLayer stem_;
  BatchNormLayer stem_norm_;
  std::array<std::vector<Block>, 4> stages_;
  std::array<int, 4> channels_{};
};

}  // namespace gradlibra
