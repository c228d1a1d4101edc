// SPDX-License-Identifier: MIT
// One list of detections out of those of overlapping tiles.
#pragma once

#include <vector>

#include "data/metrics/metrics.h"

namespace gradlibra {

// Greedy suppression as within a picture (model.test.nms_iou): of two boxes of a class that overlap by more than `iou`
// the surer stays, of equally sure ones the earlier. The result is sorted by score, the surest first. Boxes are looked
// up in a grid, so that a slide with a million of them takes seconds.
[[nodiscard]] std::vector<Detection> join_tiles(std::vector<Detection> found, double iou);

}  // namespace gradlibra
