// SPDX-License-Identifier: MIT
// From scores and boxes of all cells to the detections of an image: threshold, best per level, suppression, best of the
// image.
#pragma once

#include <span>
#include <vector>

#include "models/config.h"
#include "models/heads/head.h"

namespace gradlibra {

// found: of a head's predict(); sizes (N, 2) height, width to which boxes are clipped.
//  1. per level: (cell, class) entries with score > threshold (as float32), by score descending (ties: lower
//     cell * C + class), the first nms_pre of them;
//  2. scores multiplied by the cell's factor, if there is one; no second threshold;
//  3. boxes clipped; those without area dropped unless keep_empty_boxes;
//  4. greedy suppression per class on unshifted boxes; the first max_per_image by score (0 or less: all).
// All of it on the context's device: nothing but the detections comes to the host, in one copy.
[[nodiscard]] std::vector<std::vector<ScoredBox>> select_detections(Context& context, const Predictions& found,
                                                                    std::span<const int32_t> sizes,
                                                                    const TestConfig& test);

}  // namespace gradlibra
