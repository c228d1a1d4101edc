// SPDX-License-Identifier: MIT
#include "data/loading/batch.h"

#include <cstring>

namespace gradlibra {

void shape_batch(Batch& batch, int64_t N, int64_t H, int64_t W, int64_t max_boxes) {
  batch.N = N;
  batch.H = H;
  batch.W = W;
  batch.max_boxes = max_boxes;
  batch.images.resize(static_cast<size_t>(N * H * W * 3));
  batch.orientations.assign(N, 0);
  batch.sizes.resize(N * 2);
  batch.gt_boxes.assign(static_cast<size_t>(N * max_boxes * 4), 0.f);
  batch.gt_labels.assign(static_cast<size_t>(N * max_boxes), -1);
  batch.gt_counts.assign(N, 0);
  batch.ids.resize(N);
  batch.indices.resize(N);
  batch.scale_x.resize(N);
  batch.scale_y.resize(N);
  batch.skipped.clear();
}

void put_picture(Batch& batch, int64_t i, const Picture& picture) {
  const Image& image = picture.image;
  const int64_t row_bytes = batch.W * 3, content_bytes = static_cast<int64_t>(image.width) * 3;
  uint8_t* out = batch.images.data() + i * batch.H * row_bytes;
  for (int64_t y = 0; y < image.height; ++y) {
    std::memcpy(out + y * row_bytes, image.at(0, static_cast<int>(y)), content_bytes);
    std::memset(out + y * row_bytes + content_bytes, 0, row_bytes - content_bytes);
  }
  std::memset(out + image.height * row_bytes, 0, (batch.H - image.height) * row_bytes);
  batch.orientations[i] = 0;
  batch.sizes[2 * i] = image.height;
  batch.sizes[2 * i + 1] = image.width;
  batch.scale_x[i] = picture.scale_x;
  batch.scale_y[i] = picture.scale_y;
}

}  // namespace gradlibra
