// SPDX-License-Identifier: MIT
// The anchors of all pyramid levels as boxes of the input.
#pragma once

#include <array>
#include <map>
#include <span>
#include <vector>

#include "models/priors.h"

namespace gradlibra {

// P anchors: level after level, the finest first, each level row by row, in a cell by aspect ratio and then by scale.
struct Anchors {
  Tensor boxes;   // (P, 4): x1, y1, x2, y2 in input pixels; they may reach out of it
  Priors priors;  // one row per anchor: its centre, which is its cell's corner, and the stride of its level
};

// Of one cell, around (0, 0): for every ratio (height / width), for every scale, a box of base * scale / sqrt(ratio) by
// base * scale * sqrt(ratio). In float, in the order of operations of MMDetection, whose checkpoints are trained on the
// same numbers.
[[nodiscard]] std::vector<std::array<float, 4>> base_anchors(float base, std::span<const double> scales,
                                                             std::span<const double> ratios);

// Makes anchors and keeps them, as PriorGrid does: they depend on the sizes of the levels alone, and a run has few.
class AnchorGrid {
 public:
  // strides: of the levels, the finest first; each is its level's base size.
  AnchorGrid(std::vector<int> strides, std::vector<double> scales, std::vector<double> ratios)
      : strides_(std::move(strides)), scales_(std::move(scales)), ratios_(std::move(ratios)) {}

  [[nodiscard]] int per_cell() const { return static_cast<int>(scales_.size() * ratios_.size()); }

  // levels: (N, H_l, W_l, any), one per stride (std::invalid_argument). The result lives as long as the grid. In mode
  // `shapes` its tensors have shapes and no data, and it lives until the next call.
  [[nodiscard]] const Anchors& operator()(Tape& tape, std::span<const Var> levels);

 private:
  std::vector<int> strides_;
  std::vector<double> scales_, ratios_;
  std::map<std::vector<int64_t>, Anchors> made_;  // by heights and widths
  Anchors shapes_only_;
};

}  // namespace gradlibra
