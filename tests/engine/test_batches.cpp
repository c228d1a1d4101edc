// SPDX-License-Identifier: MIT
// Batches of images of different sizes, from the loader's arrays to what assigners make of them.
#include "engine/batches.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "data/loading/augment.h"
#include "tests/engine/tiny_experiment.h"

namespace gradlibra {
namespace {

// One image fills the batch of 64 x 96; the other is 40 pixels wide and 20 high, or stored on its side and turned.
Batch two_sizes(int32_t orientation) {
  Batch batch{.N = 2, .H = 64, .W = 96, .max_boxes = 3};
  batch.images.assign(2 * 64 * 96 * 3, 100);
  batch.orientations = {0, orientation};
  batch.sizes = {64, 96, 20, 40};
  if ((orientation & kOrientTranspose) != 0) std::swap(batch.sizes[2], batch.sizes[3]);
  batch.gt_boxes = {10, 10, 60, 50, 0, 0, 0, 0, 0, 0, 0, 0, 4, 2, 36, 18, 10, 6, 30, 14, 0, 0, 0, 0};
  batch.gt_labels = {1, -1, -1, 0, 2, -1};
  batch.gt_counts = {1, 2};
  return batch;
}

std::vector<int32_t> assigned(Context& context, const Batch& batch, const std::string& target) {
  ExperimentConfig config = tiny_config("unused");
  Detector detector(context, config.model, 3);
  detector.parameters().initialize(1);
  DeviceBatch device;
  upload(context, batch, device);
  Tape tape(context, Tape::Mode::inspection);
  SingleProcess alone;
  (void)detector.loss(tape, detector.normalize(tape, device.images), device.truth, alone);
  return context.download<int32_t>(tape.noted(target).node().value);
}

TEST(Batches, CellsInThePaddingOfAnImageAreIgnored) {
  Context context(1, ConvolutionLibrary::plain);
  const Batch batch = two_sizes(0), turned = two_sizes(kOrientTranspose);
  for (const char* target : {"targets.init_assigned", "targets.refine_assigned"}) {
    SCOPED_TRACE(target);
    const std::vector<int32_t> rows = assigned(context, batch, target);
    const size_t P = 8 * 12 + 4 * 6 + 2 * 3;
    ASSERT_EQ(rows.size(), 2 * P);
    size_t row = P, inside = 0;
    for (const int stride : {8, 16, 32})  // 20 x 40 alone would be padded to 32 x 64
      for (int y = 0; y < 64; y += stride)
        for (int x = 0; x < 96; x += stride, ++row) {
          if (y >= 32 || x >= 64) {
            EXPECT_EQ(rows[row], -1) << stride << " " << x << " " << y;
          } else {
            inside += rows[row] >= 0;
          }
        }
    EXPECT_GT(inside, 30u);
    EXPECT_GT(std::count_if(rows.begin() + static_cast<long>(P), rows.end(), [](int32_t a) { return a > 0; }), 0);
    EXPECT_EQ(assigned(context, turned, target).size(), rows.size());
  }
  // The image turned upright has the same cells.
  const auto padding = [&](const Batch& b) {
    std::vector<int32_t> rows = assigned(context, b, "targets.init_assigned");
    for (int32_t& a : rows) a = a == -1;
    return rows;
  };
  EXPECT_EQ(padding(turned), padding(batch));
}

TEST(Batches, SizesFollowTheBatch) {
  Context context(1, ConvolutionLibrary::plain);
  DeviceBatch device;
  Batch batch = two_sizes(0);
  upload(context, batch, device);
  EXPECT_EQ(context.download<int32_t>(device.truth.sizes), batch.sizes);
  batch.sizes = {64, 96, 64, 96};
  upload(context, batch, device);
  EXPECT_EQ(context.download<int32_t>(device.truth.sizes), batch.sizes);
  EXPECT_EQ(context.download<int32_t>(device.truth.orientations), batch.orientations);
}

}  // namespace
}  // namespace gradlibra
