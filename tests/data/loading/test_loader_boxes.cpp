// SPDX-License-Identifier: MIT
// Boxes that stay on their pixels through resize and orientation, and which of them are targets.
#include <map>
#include <set>

#include "data/loading/augment.h"
#include "tests/data/loading/small_pictures.h"

namespace gradlibra {
namespace {

TEST(Loader, AFlippedBoxIsMirroredWithoutALostPixel) {
  const auto flipped = [](const Box& box) {
    const Box b = orient_box(box, kernels::kFlipHorizontal, 512, 512);
    return std::array<float, 4>{b.x1, b.y1, b.x2, b.y2};
  };
  EXPECT_EQ(flipped({10, 20, 110, 220}), (std::array<float, 4>{402, 20, 502, 220}));
  EXPECT_EQ(flipped({500, 5, 512, 29.5f}), (std::array<float, 4>{0, 5, 12, 29.5f}));
  EXPECT_EQ(flipped({480, 100, 511, 140}), (std::array<float, 4>{1, 100, 32, 140}));
}

TEST(Loader, AllEightOrientationsOccurOnSquareInput) {
  SmallPictures f(4, 50, 40);
  const auto codes = [&](const LoaderConfig& config) {
    Loader loader(f.dataset, config, f.files, LoaderMode::train, {.seed = 1});
    std::set<int32_t> seen;
    Batch batch;
    for (int i = 0; i < 60; ++i) {
      loader.next(batch);
      expect_boxes_on_pixels(batch);
      seen.insert(batch.orientations.begin(), batch.orientations.end());
    }
    return seen;
  };
  LoaderConfig config = small_loader();
  EXPECT_EQ(codes(config), (std::set<int32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  config.flip_horizontal = config.flip_vertical = false;
  EXPECT_EQ(codes(config), (std::set<int32_t>{0, 3, 5, 6})) << "turns alone: 0, 180, 90, 270 degrees";
  config.width = 96;
  EXPECT_EQ(codes(config), (std::set<int32_t>{0, 3})) << "only half turns where height and width differ";
  config.turns = false;
  config.flip_vertical = true;
  EXPECT_EQ(codes(config), (std::set<int32_t>{0, 2}));
  config.flip_vertical = false;
  config.flip_horizontal = true;
  EXPECT_EQ(codes(config), (std::set<int32_t>{0, 1}));
  config.flip_horizontal = false;
  EXPECT_EQ(codes(config), (std::set<int32_t>{0}));
}

TEST(Loader, OrientationsAreEquallyFrequent) {
  std::array<int, 8> count{};
  constexpr int kDraws = 16'000;
  const OrientationChoices choices{true, true, true, true};
  for (int i = 0; i < kDraws; ++i) ++count[random_orientation(choices, 1, i / 100, i % 100)];
  for (const int c : count) EXPECT_LT(std::abs(c - kDraws / 8), 200);  // standard deviation 42
}

// Worked by hand: content 50 x 40, box (2, 3, 10, 8).
TEST(Augment, BoxOfEveryOrientation) {
  const Box box{2, 3, 10, 8};
  const Box expected[8] = {{2, 3, 10, 8}, {40, 3, 48, 8},  {2, 32, 10, 37}, {40, 32, 48, 37},
                           {3, 2, 8, 10}, {32, 2, 37, 10}, {3, 40, 8, 48},  {32, 40, 37, 48}};
  for (int32_t code = 0; code < 8; ++code) EXPECT_EQ(orient_box(box, code, 50, 40), expected[code]) << code;
  EXPECT_EQ(orient_box({0, 0, 50, 40}, 7, 50, 40), (Box{0, 0, 40, 50}));
  // Worked example: mirrored in a picture 512 pixels wide.
  EXPECT_EQ(orient_box({10, 20, 110, 220}, kOrientFlipHorizontal, 512, 512), (Box{402, 20, 502, 220}));
  EXPECT_EQ(orient_box({500, 5, 512, 29.5f}, kOrientFlipHorizontal, 512, 512), (Box{0, 5, 12, 29.5f}));
  EXPECT_EQ(orient_box({480, 100, 511, 140}, kOrientFlipHorizontal, 512, 512), (Box{1, 100, 32, 140}));
}

TEST(Loader, FitAndStretchScaleTheBoxes) {
  SmallPictures f(2, 100, 50);
  LoaderConfig config = small_loader();
  config.resize = "fit";
  Batch batch;
  Loader fit(f.dataset, config, f.files, LoaderMode::evaluate, {});
  ASSERT_TRUE(fit.next(batch));
  EXPECT_EQ(batch.sizes[0], 32);
  EXPECT_EQ(batch.sizes[1], 64);
  EXPECT_FLOAT_EQ(batch.scale_x[0], 0.64f);
  EXPECT_FLOAT_EQ(batch.scale_y[0], 0.64f);
  EXPECT_FLOAT_EQ(batch.gt_boxes[0], 2 * 0.64f);
  EXPECT_FLOAT_EQ(batch.gt_boxes[3], 8 * 0.64f);
  config.resize = "stretch";
  Loader stretch(f.dataset, config, f.files, LoaderMode::evaluate, {});
  ASSERT_TRUE(stretch.next(batch));
  EXPECT_EQ(batch.sizes[0], 64);
  EXPECT_EQ(batch.sizes[1], 64);
  EXPECT_FLOAT_EQ(batch.scale_x[0], 0.64f);
  EXPECT_FLOAT_EQ(batch.scale_y[0], 1.28f);
  EXPECT_FLOAT_EQ(batch.gt_boxes[3], 8 * 1.28f);
  // Enlarging by whole numbers keeps the box on its pixels, oriented too.
  SmallPictures small(3, 32, 16);
  config.resize = "fit";
  config.height = config.width = 96;
  Loader enlarged(small.dataset, config, small.files, LoaderMode::train, {.seed = 1});
  for (int i = 0; i < 8; ++i) {
    enlarged.next(batch);
    EXPECT_FLOAT_EQ(batch.scale_x[0], 3);
    EXPECT_EQ(batch.sizes[0], 48);
    expect_boxes_on_pixels(batch);
  }
}

TEST(Loader, BoxesStayInsideTheImage) {
  SmallPictures f(1, 63, 47);
  f.dataset.images[0].objects[0].box = {0, 0, 63, 47};
  LoaderConfig config = small_loader();
  config.resize = "fit";
  config.batch_size = 1;
  Loader loader(f.dataset, config, f.files, LoaderMode::train, {.seed = 1});
  Batch batch;
  for (int i = 0; i < 20; ++i) {
    loader.next(batch);
    const bool transposed = batch.orientations[0] & kernels::kTranspose;
    const auto height = static_cast<float>(batch.sizes[transposed ? 1 : 0]),
               width = static_cast<float>(batch.sizes[transposed ? 0 : 1]);
    EXPECT_GE(batch.gt_boxes[0], 0);
    EXPECT_GE(batch.gt_boxes[1], 0);
    EXPECT_LE(batch.gt_boxes[2], width);
    EXPECT_LE(batch.gt_boxes[3], height);
    EXPECT_LT(batch.gt_boxes[0], batch.gt_boxes[2]);
  }
}

TEST(Loader, DifficultCrowdAndEmpty) {
  SmallPictures f(2, 50, 40);
  Object crowd = f.dataset.images[0].objects[0], difficult = crowd;
  crowd.crowd = true;
  difficult.difficult = true;
  auto& objects = f.dataset.images[0].objects;
  objects.insert(objects.begin(), {crowd, difficult});
  f.dataset.images[1].objects.clear();
  Loader loader(f.dataset, small_loader(), f.files, LoaderMode::evaluate, {});
  Batch batch;
  loader.next(batch);
  EXPECT_EQ(batch.gt_counts, (std::vector<int32_t>{1, 0}));
  EXPECT_EQ(batch.gt_labels, (std::vector<int32_t>{0, -1, -1, -1, -1, -1, -1, -1}));
}

}  // namespace
}  // namespace gradlibra
