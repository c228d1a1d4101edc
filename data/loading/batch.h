// SPDX-License-Identifier: MIT
// A batch of pictures with their boxes, as a network takes it, in host memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/images/image.h"

namespace gradlibra {

// An image as it goes into batches: decoded and resized.
struct Picture {
  Image image;
  float scale_x = 1, scale_y = 1;  // its pixels per pixel of the original
};

// N images of H x W.
struct Batch {
  int64_t N = 0, H = 0, W = 0, max_boxes = 0;
  std::vector<uint8_t> images;        // (N, H, W, 3) RGB, content at the top left, zero outside
  std::vector<int32_t> orientations;  // (N) kernels/image_normalize.h
  std::vector<int32_t> sizes;         // (N, 2) height, width of the stored content (before orientation)
  std::vector<float>
      gt_boxes;  // (N, max_boxes, 4) x1, y1, x2, y2 in network pixels, after orientation; zero behind the count
  std::vector<int32_t> gt_labels;       // (N, max_boxes), -1 behind the count
  std::vector<int32_t> gt_counts;       // (N)
  std::vector<std::string> ids;         // (N) image ids
  std::vector<int64_t> indices;         // (N) into Dataset::images
  std::vector<float> scale_x, scale_y;  // (N) network pixels per original pixel
  std::vector<std::string> skipped;     // what was wrong with images that others stand in for, each once in a run
};

// The shape of a batch, without boxes; what its images hold is still to be put there. The memory of earlier ones is
// used again.
void shape_batch(Batch& batch, int64_t N, int64_t H, int64_t W, int64_t max_boxes);

// Puts a picture that fits in H x W, not turned, at place i.
void put_picture(Batch& batch, int64_t i, const Picture& picture);

}  // namespace gradlibra
