// SPDX-License-Identifier: MIT
// What the loader makes of loader.augment and loader.sampling: in training what they say, in evaluation nothing.
#include <set>

#include "data/loading/augment.h"
#include "tests/data/loading/small_pictures.h"

namespace gradlibra {
namespace {

// One picture a batch, one batch an epoch: batch e is position 0 of epoch e.
struct OnePicture {
  OnePicture(const Image& picture, const std::vector<VocObject>& objects, const AugmentConfig& augment) {
    put_voc_picture(folder, "a", picture, objects);
    files = voc_config(folder, {"cell"});
    std::vector<Finding> findings;
    dataset = read_dataset(files, Split::train, findings);
    config.batch_size = 1;
    config.height = config.width = 64;
    config.max_boxes = 1;
    config.augment = augment;
  }
  TemporaryFolder folder;
  DatasetConfig files;
  Dataset dataset;
  LoaderConfig config;
};

// Around the dark pixels of a batch's only picture, as they are stored, in front of the turns. Empty if there are none.
Box dark_pixels(const Batch& batch) {
  Box seen{64, 64, 0, 0};
  for (int y = 0; y < batch.sizes[0]; ++y)
    for (int x = 0; x < batch.sizes[1]; ++x)
      if (batch.images[static_cast<size_t>(3 * (y * batch.W + x))] < 100) {
        const auto left = static_cast<float>(x), top = static_cast<float>(y);
        seen.x1 = std::min(seen.x1, left), seen.x2 = std::max(seen.x2, left + 1);
        seen.y1 = std::min(seen.y1, top), seen.y2 = std::max(seen.y2, top + 1);
      }
  return seen;
}

// Picture and box are scaled and cropped together, and an object of which too little is left is no target.
TEST(LoaderAugment, BoxesAreScaledWithTheirPixels) {
  Image picture = plain_image(64, 64, {200, 200, 200});
  for (int y = 4; y < 24; ++y)
    for (int x = 8; x < 20; ++x) picture.at(x, y)[0] = 0;
  const OnePicture f(picture, {{"cell", "9", "5", "21", "25"}}, {.scale_min = 0.5, .scale_max = 2, .min_visible = 0.5});
  Loader loader(f.dataset, f.config, f.files, LoaderMode::train, {.seed = 9});
  Batch batch;
  int smaller = 0, larger = 0, cut_off = 0, left_out = 0;
  for (int64_t epoch = 0; epoch < 150; ++epoch) {
    ASSERT_TRUE(loader.next(batch));
    const Crop crop = random_crop(f.config.augment, 9, epoch, 0, 64, 64, 64, 64);
    ASSERT_EQ(batch.sizes, (std::vector<int32_t>{crop.height, crop.width})) << epoch;
    const Box seen = dark_pixels(batch);
    const double area = 12 * crop.scale_x * 20 * crop.scale_y;
    const double visible = seen.x1 < seen.x2 ? double{seen.x2 - seen.x1} * (seen.y2 - seen.y1) / area : 0;
    if (visible > 0.65) {
      EXPECT_EQ(batch.gt_counts[0], 1) << epoch;
    }
    if (visible < 0.35) {
      EXPECT_EQ(batch.gt_counts[0], 0) << epoch;
      left_out += visible > 0 ? 1 : 0;
    }
    if (batch.gt_counts[0] == 0) continue;
    ++(crop.scale_x < 1 ? smaller : larger);
    cut_off += visible < 0.85 ? 1 : 0;
    const Box want =
        orient_box(seen, batch.orientations[0], static_cast<float>(batch.sizes[1]), static_cast<float>(batch.sizes[0]));
    const float* box = batch.gt_boxes.data();
    EXPECT_NEAR(box[0], want.x1, 1.5) << epoch;
    EXPECT_NEAR(box[1], want.y1, 1.5) << epoch;
    EXPECT_NEAR(box[2], want.x2, 1.5) << epoch;
    EXPECT_NEAR(box[3], want.y2, 1.5) << epoch;
  }
  EXPECT_GT(smaller, 30);
  EXPECT_GT(larger, 20);
  EXPECT_GT(cut_off, 3);
  EXPECT_GT(left_out, 3);
}

// Every epoch has colours of its own: those that follow from (seed, epoch, position).
TEST(LoaderAugment, ColoursAreThoseOfTheirPosition) {
  const OnePicture f(plain_image(64, 64, {128, 128, 128}), {}, {.brightness = 0.5});
  Loader loader(f.dataset, f.config, f.files, LoaderMode::train, {.seed = 9});
  Batch batch;
  std::set<uint8_t> values;
  for (int64_t epoch = 0; epoch < 20; ++epoch) {
    ASSERT_TRUE(loader.next(batch));
    Image want = plain_image(64, 64, {128, 128, 128});
    apply(random_colours(f.config.augment, 9, epoch, 0), want);
    EXPECT_EQ(batch.images, want.pixels) << epoch;
    values.insert(batch.images[0]);
  }
  EXPECT_GE(values.size(), 10u);
}

// Each option alone, so that none hides behind another; in training each of them shows.
TEST(LoaderAugment, EvaluationShowsPicturesAsTheyAre) {
  SmallPictures f(12, 50, 40);
  const LoaderConfig plain = small_loader();
  const auto batches = [&](const LoaderConfig& config, LoaderMode mode) {
    Loader loader(f.dataset, config, f.files, mode, {.seed = 3});
    std::vector<Batch> all(6);
    for (Batch& batch : all) EXPECT_TRUE(loader.next(batch));
    return all;
  };
  const std::vector<Batch> as_they_are = batches(plain, LoaderMode::evaluate),
                           unchanged = batches(plain, LoaderMode::train);
  for (const AugmentConfig& augment :
       {AugmentConfig{.scale_min = 0.5, .scale_max = 2}, AugmentConfig{.shift = 4}, AugmentConfig{.brightness = 0.5},
        AugmentConfig{.stain = 0.3},
        AugmentConfig{.scale_min = 0.5, .scale_max = 2, .shift = 4, .brightness = 0.5, .stain = 0.3}}) {
    LoaderConfig config = plain;
    config.augment = augment;
    const std::vector<Batch> got = batches(config, LoaderMode::evaluate), trained = batches(config, LoaderMode::train);
    int changed = 0;
    for (size_t b = 0; b < got.size(); ++b) {
      expect_same(got[b], as_they_are[b]);
      EXPECT_EQ(trained[b].indices, unchanged[b].indices);
      changed += trained[b].images != unchanged[b].images ? 1 : 0;
    }
    EXPECT_GE(changed, 3);
  }
}

// Class 2 is on one image of eleven, class 1 on two: shown more often, by either kind of sampling.
TEST(LoaderAugment, AnEpochFollowsItsSampling) {
  SmallPictures f(11, 50, 40);
  for (size_t i = 0; i < 11; ++i) f.dataset.images[i].objects[0].label = i == 4 ? 2 : i < 2 ? 1 : 0;
  LoaderConfig config = small_loader();
  for (const SamplingConfig& sampling : {SamplingConfig{.by = "class"}, SamplingConfig{"repeat_factor", 0.4}}) {
    SCOPED_TRACE(sampling.by);
    config.sampling = sampling;
    const Sampler sampler(f.dataset, sampling, 5);
    const int64_t length = sampler.epoch_length(), batches = (length + 1) / 2;
    EXPECT_EQ(length, sampling.by == "class" ? 11 : 13);  // 8 + 2 sqrt(0.4 / (2 / 11)) + sqrt(0.4 / (1 / 11))
    Loader loader(f.dataset, config, f.files, LoaderMode::train, {.seed = 5});
    ASSERT_EQ(loader.batches_per_epoch(), batches);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      const std::vector<int64_t> order = sampler.order(epoch);
      Batch batch;
      for (int64_t k = 0; k < 2 * batches; ++k) {
        if (k % 2 == 0) {
          ASSERT_TRUE(loader.next(batch));
        }
        EXPECT_EQ(batch.indices[static_cast<size_t>(k % 2)], order[static_cast<size_t>(k % length)])
            << epoch << ' ' << k;
      }
    }
  }
}

}  // namespace
}  // namespace gradlibra
