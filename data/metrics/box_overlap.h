// SPDX-License-Identifier: MIT
// Intersection over union of boxes, by which detections are matched.
#pragma once

#include <algorithm>

#include "data/datasets/dataset.h"

namespace gradlibra {

// Intersection over union in double precision; 0 for two boxes without area. `extra` is added to every width and
// height: 1 where coordinates name whole pixels, as the VOC devkit has it.
[[nodiscard]] inline double box_overlap(const Box& a, const Box& b, double extra = 0) {
  const auto extent = [extra](float low, float high) {
    return std::max(static_cast<double>(high) - static_cast<double>(low) + extra, 0.0);
  };
  const double intersection =
      extent(std::max(a.x1, b.x1), std::min(a.x2, b.x2)) * extent(std::max(a.y1, b.y1), std::min(a.y2, b.y2));
  const double united =
      extent(a.x1, a.x2) * extent(a.y1, a.y2) + extent(b.x1, b.x2) * extent(b.y1, b.y2) - intersection;
  return united > 0 ? intersection / united : 0;
}

}  // namespace gradlibra
