// SPDX-License-Identifier: MIT
// Feature pyramid network (arXiv:1612.03144) as MMDetection builds it, names under "neck.".
#pragma once

#include <span>
#include <vector>

#include "models/config.h"
#include "models/layers.h"
#include "models/necks/neck.h"

namespace gradlibra {

class Fpn final : public Neck {
 public:
  // in_channels: of all backbone stages, C2 (stride 4) first. std::invalid_argument names the configuration key that
  // does not fit.
  Fpn(ParameterStore& store, const NeckConfig& config, std::span<const int> in_channels);

  // C2..C5 to num_outs levels of out_channels, the finest first.
  [[nodiscard]] std::vector<Var> operator()(Tape& tape, std::span<const Var> stages) const override;

  [[nodiscard]] const Pyramid& pyramid() const override { return pyramid_; }

 private:
  void add_extra_levels(Tape& tape, Var last_stage, Var last_lateral, std::vector<Var>& levels) const;

  NeckConfig config_;
  Pyramid pyramid_;
  std::vector<ConvModule> lateral_;  // 1x1
  std::vector<ConvModule> output_;   // 3x3, then the strided ones of the extra levels
};

}  // namespace gradlibra
