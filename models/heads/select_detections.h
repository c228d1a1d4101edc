// SPDX-License-Identifier: MIT
// From scores and boxes of all cells to the detections of an image: threshold, best per level, suppression, best of the
// image.
#pragma once

#include <span>
#include <vector>

#include "models/config.h"
#include "models/targets.h"

namespace gradlibra {

// scores (N, P, C), boxes (N, P, 4), P = sum of level_rows; sizes (N, 2) height, width to which boxes are clipped.
//  1. per level: (cell, class) entries with score > threshold (as float32), by score descending (ties: lower
//     cell * C + class), the first nms_pre of them;
//  2. boxes clipped; those without area dropped unless keep_empty_boxes;
//  3. greedy suppression per class on unshifted boxes; the first max_per_image by score (0 or less: all).
// All of it on the context's device: nothing but the detections comes to the host, in one copy.
[[nodiscard]] std::vector<std::vector<ScoredBox>> select_detections(Context& context, const Tensor& scores,
                                                                    const Tensor& boxes,
                                                                    std::span<const int64_t> level_rows,
                                                                    std::span<const int32_t> sizes,
                                                                    const TestConfig& test);

}  // namespace gradlibra
