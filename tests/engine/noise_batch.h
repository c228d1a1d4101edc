// SPDX-License-Identifier: MIT
// Batches for tests in which ranks share one: an image is the same whatever batch it stands in.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "data/loading/loader.h"

namespace gradlibra::testing {

struct TargetBox {
  std::array<float, 4> sides;  // x1, y1, x2, y2
  int32_t label;
};

// Square images, none so far.
inline Batch empty_batch(int64_t side, int64_t max_boxes) {
  Batch batch;
  batch.H = batch.W = side;
  batch.max_boxes = max_boxes;
  return batch;
}

// One image more: noise of a generator with this seed, and the boxes that `draw` makes of what the generator gives
// next, at most max_boxes.
template <class Draw>
void add_noise_image(Batch& batch, uint32_t seed, int32_t orientation, Draw&& draw) {
  std::mt19937 random(seed);
  for (int64_t p = 0; p < batch.H * batch.W * 3; ++p) batch.images.push_back(static_cast<uint8_t>(random()));
  const std::vector<TargetBox> boxes = draw(random);
  batch.orientations.push_back(orientation);
  batch.sizes.insert(batch.sizes.end(), {static_cast<int32_t>(batch.H), static_cast<int32_t>(batch.W)});
  batch.gt_counts.push_back(static_cast<int32_t>(boxes.size()));
  const size_t first = batch.gt_labels.size(), end = first + static_cast<size_t>(batch.max_boxes);
  batch.gt_boxes.resize(4 * end);
  batch.gt_labels.resize(end, -1);
  for (size_t b = 0; b < boxes.size(); ++b) {
    std::copy_n(boxes[b].sides.data(), 4, &batch.gt_boxes[4 * (first + b)]);
    batch.gt_labels[first + b] = boxes[b].label;
  }
  ++batch.N;
}

}  // namespace gradlibra::testing
