// SPDX-License-Identifier: MIT
// The neck of YOLOF (arXiv:2103.09460, sec. 4.1): one level, C5, whose cells see objects of all sizes through residual
// blocks of growing dilation. Names as MMDetection's, under "neck.".
#pragma once

#include <span>
#include <vector>

#include "models/layers.h"
#include "models/necks/neck.h"

namespace gradlibra {

struct DilatedEncoderConfig {
  int channels = 512;
  int block_channels = 128;
  std::vector<int> dilations{2, 4, 6, 8};
  void describe(ConfigVisitor& v);
};

class DilatedEncoder final : public Neck {
 public:
  // std::invalid_argument names the configuration key that does not fit.
  DilatedEncoder(ParameterStore& store, const DilatedEncoderConfig& config, std::span<const int> in_channels);

  // C5 to one map of its size. Its batch norms train: in a recorded step they take the batch's statistics.
  [[nodiscard]] std::vector<Var> operator()(Tape& tape, std::span<const Var> stages) const override;
  [[nodiscard]] const Pyramid& pyramid() const override { return pyramid_; }

 private:
  struct Block {
    ConvBatchNorm reduce, dilate, expand;  // 1x1, 3x3 dilated, 1x1
  };

  Pyramid pyramid_;
  ConvLayer lateral_, output_;  // 1x1 and 3x3, with a bias before the norm
  BatchNormLayer lateral_norm_, output_norm_;
  std::vector<Block> blocks_;
};

}  // namespace gradlibra
