// SPDX-License-Identifier: MIT
#include "models/anchors.h"

#include <cmath>

namespace gradlibra {

std::vector<std::array<float, 4>> base_anchors(float base, std::span<const double> scales,
                                               std::span<const double> ratios) {
  std::vector<std::array<float, 4>> anchors;
  for (const double ratio : ratios) {
    const float high = std::sqrt(static_cast<float>(ratio)), wide = 1 / high;
    for (const double scale : scales) {
      const float w = base * wide * static_cast<float>(scale), h = base * high * static_cast<float>(scale);
      anchors.push_back({-0.5f * w, -0.5f * h, 0.5f * w, 0.5f * h});
    }
  }
  return anchors;
}

const Anchors& AnchorGrid::operator()(Tape& tape, std::span<const Var> levels) {
  require(levels.size() == strides_.size(), "anchors",
          std::to_string(levels.size()) + " levels for " + std::to_string(strides_.size()) + " strides");
  std::vector<int64_t> sizes;
  for (const Var& level : levels) sizes.insert(sizes.end(), {level.dim(1), level.dim(2)});
  const auto found = made_.find(sizes);
  if (found != made_.end()) return found->second;

  Anchors built;
  int64_t P = 0;
  for (const Var& level : levels) {
    built.priors.level_rows.push_back(level.dim(1) * level.dim(2) * per_cell());
    P += built.priors.level_rows.back();
  }
  if (!tape.computes()) {
    built.boxes = Tensor::borrow<float>(nullptr, {P, 4});
    built.priors.points = Tensor::borrow<float>(nullptr, {P, 3});
    return shapes_only_ = std::move(built);
  }
  std::vector<float> boxes, points;
  for (size_t l = 0; l < levels.size(); ++l) {
    const auto stride = static_cast<float>(strides_[l]);
    const auto bases = base_anchors(stride, scales_, ratios_);
    for (int64_t j = 0; j < levels[l].dim(1); ++j)
      for (int64_t i = 0; i < levels[l].dim(2); ++i) {
        const float x = static_cast<float>(i) * stride, y = static_cast<float>(j) * stride;
        for (const auto& base : bases) {
          boxes.insert(boxes.end(), {x + base[0], y + base[1], x + base[2], y + base[3]});
          points.insert(points.end(), {x, y, stride});
        }
      }
  }
  built.boxes = tape.context().upload<float>(boxes, {P, 4});
  built.priors.points = tape.context().upload<float>(points, {P, 3});
  return made_.emplace(std::move(sizes), std::move(built)).first->second;
}

}  // namespace gradlibra
