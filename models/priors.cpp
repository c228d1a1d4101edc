// SPDX-License-Identifier: MIT
#include "models/priors.h"

namespace gradlibra {

const Priors& PriorGrid::operator()(Tape& tape, std::span<const Var> levels) {
  require(levels.size() == strides_.size(), "priors",
          std::to_string(levels.size()) + " levels for " + std::to_string(strides_.size()) + " strides");
  std::vector<int64_t> sizes;
  for (const Var& level : levels) sizes.insert(sizes.end(), {level.dim(1), level.dim(2)});
  const auto found = made_.find(sizes);
  if (found != made_.end()) return found->second;

  Priors built;
  int64_t P = 0;
  for (const Var& level : levels) {
    built.level_rows.push_back(level.dim(1) * level.dim(2));
    P += built.level_rows.back();
  }
  if (!tape.computes()) {
    built.points = Tensor::borrow<float>(nullptr, {P, 3});
    built.box_scales = Tensor::borrow<float>(nullptr, {P});
    return shapes_only_ = std::move(built);
  }
  std::vector<float> points, scales;
  for (size_t l = 0; l < levels.size(); ++l) {
    const auto stride = static_cast<float>(strides_[l]), offset = place_ == Place::center ? stride / 2 : 0;
    for (int64_t j = 0; j < levels[l].dim(1); ++j)
      for (int64_t i = 0; i < levels[l].dim(2); ++i) {
        points.insert(points.end(),
                      {static_cast<float>(i) * stride + offset, static_cast<float>(j) * stride + offset, stride});
        scales.push_back(1.0f / (static_cast<float>(base_scale_) * stride));
      }
  }
  built.points = tape.context().upload<float>(points, {P, 3});
  built.box_scales = tape.context().upload<float>(scales, {P});
  return made_.emplace(std::move(sizes), std::move(built)).first->second;
}

}  // namespace gradlibra
