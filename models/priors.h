// SPDX-License-Identifier: MIT
// The cells of all pyramid levels as points of the input.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "runtime/autograd/tape.h"

namespace gradlibra {

// P cells: level after level, the finest first, each level row by row.
struct Priors {
  Tensor points;                    // (P, 3): x, y of the cell's point in input pixels, stride of its level
  Tensor box_scales;                // (P): 1 / (base_scale * stride)
  std::vector<int64_t> level_rows;  // cells of each level; their sum is P
};

// Makes priors and keeps them: they depend on the sizes of the levels alone, and a run has few.
class PriorGrid {
 public:
  // Where the point of cell (i, j) is: (i s, j s), or half a stride s further.
  enum class Place { corner, center };
  // strides: of the levels, the finest first. An object of base_scale * stride pixels belongs to a level.
  PriorGrid(std::vector<int> strides, double base_scale, Place place = Place::corner)
      : strides_(std::move(strides)), base_scale_(base_scale), place_(place) {}

  // levels: (N, H_l, W_l, any), one per stride (std::invalid_argument). The result lives as long as the grid. In mode
  // `shapes` its tensors have shapes and no data, and it lives until the next call.
  [[nodiscard]] const Priors& operator()(Tape& tape, std::span<const Var> levels);

 private:
  std::vector<int> strides_;
  double base_scale_;
  Place place_;
  std::map<std::vector<int64_t>, Priors> made_;  // by heights and widths
  Priors shapes_only_;
};

}  // namespace gradlibra
