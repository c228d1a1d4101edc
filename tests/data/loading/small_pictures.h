// SPDX-License-Identifier: MIT
// A data set of small pictures for the tests of the loader.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>

#include "data/loading/augment.h"
#include "data/loading/loader.h"
#include "kernels/image_normalize.h"
#include "tests/data/data_files.h"

namespace gradlibra {

static_assert(kOrientFlipHorizontal == kernels::kFlipHorizontal && kOrientFlipVertical == kernels::kFlipVertical &&
              kOrientTranspose == kernels::kTranspose);

struct Rectangle {
  int x1, y1, x2, y2, label;
};

// `count` images of the given size; image i is plain and holds one bright rectangle that its one
// object frames.
class SmallPictures {
 public:
  SmallPictures(int count, int width, int height) {
    dataset.classes = {"a", "b", "c"};
    for (int i = 0; i < count; ++i) {
      Image image = plain_image(width, height, {static_cast<uint8_t>(60 + i), 60, 60});
      const Rectangle r{2 + i, 3, 10 + i, 8, i % 3};
      for (int y = r.y1; y < r.y2; ++y) {
        for (int x = r.x1; x < r.x2; ++x) std::fill_n(image.at(x, y), 3, uint8_t{255});
      }
      ImageRecord record;
      record.id = "image" + std::to_string(i);
      record.path = folder / (record.id + ".png");
      record.width = width;
      record.height = height;
      Object object;
      object.box = {static_cast<float>(r.x1), static_cast<float>(r.y1), static_cast<float>(r.x2),
                    static_cast<float>(r.y2)};
      object.label = r.label;
      record.objects = {object};
      write_image(record.path, image);
      dataset.images.push_back(record);
    }
  }
  TemporaryFolder folder;
  Dataset dataset;
  DatasetConfig files;
};

inline LoaderConfig small_loader() {
  LoaderConfig config;
  config.batch_size = 2;
  config.height = config.width = 64;
  config.max_boxes = 4;
  return config;
}

inline void expect_same(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.N, b.N);
  EXPECT_EQ(a.images, b.images);
  EXPECT_EQ(a.orientations, b.orientations);
  EXPECT_EQ(a.sizes, b.sizes);
  EXPECT_EQ(a.gt_boxes, b.gt_boxes);
  EXPECT_EQ(a.gt_labels, b.gt_labels);
  EXPECT_EQ(a.gt_counts, b.gt_counts);
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.indices, b.indices);
  EXPECT_EQ(a.scale_x, b.scale_x);
  EXPECT_EQ(a.scale_y, b.scale_y);
}

// The stored pixel that image_normalize shows at (x, y) of the oriented content: the contract of
// kernels/image_normalize.h, written out.
inline std::array<int, 2> stored_pixel(int x, int y, int32_t orientation, int stored_width, int stored_height) {
  const bool transposed = orientation & kernels::kTranspose;
  const int width = transposed ? stored_height : stored_width, height = transposed ? stored_width : stored_height;
  if (orientation & kernels::kFlipHorizontal) x = width - 1 - x;
  if (orientation & kernels::kFlipVertical) y = height - 1 - y;
  return transposed ? std::array{y, x} : std::array{x, y};
}

// Every pixel is bright exactly where the oriented box says so.
inline void expect_boxes_on_pixels(const Batch& batch) {
  for (int64_t n = 0; n < batch.N; ++n) {
    ASSERT_EQ(batch.gt_counts[n], 1);
    const int32_t orientation = batch.orientations[n];
    const int height = batch.sizes[2 * n], width = batch.sizes[2 * n + 1];
    const bool transposed = orientation & kernels::kTranspose;
    const float* box = &batch.gt_boxes[n * batch.max_boxes * 4];
    for (int y = 0; y < (transposed ? width : height); ++y) {
      for (int x = 0; x < (transposed ? height : width); ++x) {
        const auto [sx, sy] = stored_pixel(x, y, orientation, width, height);
        const uint8_t green = batch.images[((n * batch.H + sy) * batch.W + sx) * 3 + 1];
        const float cx = static_cast<float>(x) + 0.5f, cy = static_cast<float>(y) + 0.5f;
        const bool inside = cx > box[0] && cx < box[2] && cy > box[1] && cy < box[3];
        // 60 and 255, or between them where the picture was enlarged: a corner of the box at 146, the outside next to
        // a side at 125.
        ASSERT_EQ(green > 135, inside) << "image " << n << " orientation " << orientation << " at " << x << "," << y;
      }
    }
  }
}

}  // namespace gradlibra
