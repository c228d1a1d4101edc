// SPDX-License-Identifier: MIT
// Sections and colours: what they do to pixels and boxes, and that they are off by default.
#include "data/loading/augment_pixels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "data/loading/augment.h"
#include "data/loading/loader.h"
#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

TEST(AugmentPixels, NothingByDefault) {
  const AugmentConfig config;
  EXPECT_FALSE(config.geometric());
  EXPECT_FALSE(config.colours());
  Image image = gradient_image(17, 9);
  const Image before = image;
  apply(random_colours(config, 1, 2, 3), image);
  EXPECT_EQ(image.pixels, before.pixels);
}

TEST(AugmentPixels, CropsStayInsideAndMoveBoxesWithThePixels) {
  const AugmentConfig config{.scale_min = 0.5, .scale_max = 2};
  Image image = plain_image(40, 30, {0, 0, 0});
  for (int y = 8; y < 20; ++y)
    for (int x = 10; x < 26; ++x) image.at(x, y)[0] = 255;
  double smallest = 9, largest = 0;
  for (int64_t position = 0; position < 200; ++position) {
    const Crop crop = random_crop(config, 3, 1, position, 40, 30, 48, 32);
    ASSERT_GE(crop.x, 0);
    ASSERT_LE(crop.x + crop.width, crop.full_width);
    ASSERT_LE(crop.y + crop.height, crop.full_height);
    ASSERT_LE(crop.width, 48);
    ASSERT_LE(crop.height, 32);
    smallest = std::min(smallest, crop.scale_x);
    largest = std::max(largest, crop.scale_x);
    const Image section = cut(image, crop);
    ASSERT_EQ(section.width, crop.width);
    Box box{10, 8, 26, 20};
    if (!move_box(box, crop, 0.3)) continue;
    ASSERT_GE(box.x1, 0);
    ASSERT_LE(box.x2, crop.width);
    // The middle of the moved box is red, and so far outside it nothing is.
    const auto red = [&](double x, double y) {
      return section.at(std::min(section.width - 1, static_cast<int>(x)),
                        std::min(section.height - 1, static_cast<int>(y)))[0];
    };
    EXPECT_GT(red((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2), 200);
    if (box.x1 > 3) {
      EXPECT_LT(red(box.x1 - 3, (box.y1 + box.y2) / 2), 60);
    }
    if (box.x2 < static_cast<float>(crop.width - 3)) {
      EXPECT_LT(red(box.x2 + 3, (box.y1 + box.y2) / 2), 60);
    }
  }
  EXPECT_LT(smallest, 0.6);
  EXPECT_GT(largest, 1.7);
  const Crop crop{
      .scale_x = 1, .scale_y = 1, .full_width = 40, .full_height = 30, .x = 20, .y = 0, .width = 20, .height = 30};
  Box box{10, 0, 30, 10};
  EXPECT_TRUE(move_box(box, crop, 0.5));
  EXPECT_EQ(box, (Box{0, 0, 10, 10}));
  box = {10, 0, 30, 10};
  EXPECT_FALSE(move_box(box, crop, 0.51));
  box = {0, 0, 20, 10};
  EXPECT_FALSE(move_box(box, crop, 0));
}

TEST(AugmentPixels, ShiftsByHand) {
  // Worked example: (20, -30) in 512 x 512; what is left of the second box is 12 wide and nothing high.
  const std::vector<Target> targets{{{10, 20, 110, 220}, 4}, {{500, 5, 512, 29.5f}, 5}, {{480, 100, 511, 140}, 6}};
  const std::vector<Target> left = shifted(targets, {20, -30}, 512, 512);
  ASSERT_EQ(left.size(), 2u);
  EXPECT_EQ(left[0].box, (Box{30, 0, 130, 190}));
  EXPECT_EQ(left[0].label, 4);
  EXPECT_EQ(left[1].box, (Box{500, 70, 512, 110}));
  EXPECT_EQ(left[1].label, 6);
  // One pixel is too little, a little more is not.
  EXPECT_TRUE(shifted({{{0, 0, 11, 20}, 0}}, {-10, 0}, 64, 64).empty());
  EXPECT_EQ(shifted({{{0, 0, 11.5f, 20}, 0}}, {-10, 0}, 64, 64).size(), 1u);

  const Image image = gradient_image(7, 5);
  for (const Shift by : {Shift{2, 1}, Shift{-3, 2}, Shift{1, -4}, Shift{-6, -1}, Shift{0, 5}, Shift{-9, 0}}) {
    const Image moved = shifted(image, by);
    ASSERT_EQ(moved.width, 7);
    ASSERT_EQ(moved.height, 5);
    for (int y = 0; y < 5; ++y)
      for (int x = 0; x < 7; ++x)
        for (int c = 0; c < 3; ++c) {
          const int u = x - by.x, v = y - by.y;
          const bool covered = u >= 0 && u < 7 && v >= 0 && v < 5;
          ASSERT_EQ(moved.at(x, y)[c], covered ? image.at(u, v)[c] : 0) << by.x << ' ' << by.y << ' ' << x << ' ' << y;
        }
  }
}

TEST(AugmentPixels, ShiftsAreEquallyFrequentHalfOfTheTime) {
  constexpr int kDraws = 20000;
  std::map<int, int> across, down;
  int none = 0;
  for (int i = 0; i < kDraws; ++i) {
    const Shift shift = random_shift({.shift = 2}, 5, i / 100, i % 100);
    ++across[shift.x], ++down[shift.y];
    none += shift.none() ? 1 : 0;
  }
  EXPECT_NEAR(none, kDraws * (0.5 + 0.5 / 25), 350);  // standard deviation 71
  EXPECT_EQ(across.size(), 5u);
  for (const int by : {-2, -1, 1, 2}) {
    EXPECT_NEAR(across[by], kDraws / 10, 210);  // standard deviation 42
    EXPECT_NEAR(down[by], kDraws / 10, 210);
  }
}

// The loader moves picture and boxes together, whatever way it turns them; one that would lose its object stays.
TEST(AugmentPixels, TheLoaderShiftsPicturesWithTheirBoxes) {
  const TemporaryFolder folder;
  Image picture = plain_image(64, 64, {200, 200, 200});
  for (int y = 4; y < 24; ++y)
    for (int x = 8; x < 20; ++x) picture.at(x, y)[0] = 0;
  put_voc_picture(folder, "a", picture, {{"cell", "9", "5", "21", "25"}});
  put_voc_picture(folder, "b", plain_image(64, 64, {200, 200, 200}), {});
  DatasetConfig files = voc_config(folder, {"cell"});
  files.filter_empty = false;
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(files, Split::train, findings);
  LoaderConfig config;
  config.batch_size = 2;
  config.height = config.width = 64;
  config.max_boxes = 2;
  config.augment.shift = 30;
  Loader loader(dataset, config, files, LoaderMode::train, {.seed = 9});
  Batch batch;
  int moved = 0, clipped = 0;
  for (int step = 0; step < 100; ++step) {
    ASSERT_TRUE(loader.next(batch));
    for (int64_t n = 0; n < 2; ++n) {
      const uint8_t* pixels = batch.images.data() + n * 64 * 64 * 3;
      const auto black = [&](int64_t x, int64_t y) { return pixels[3 * (y * 64 + x) + 1] == 0; };
      int64_t uncovered = 0;
      for (int64_t y = 0; y < 64; ++y)
        for (int64_t x = 0; x < 64; ++x) uncovered += black(x, y) ? 1 : 0;
      if (batch.gt_counts[n] == 0) {
        EXPECT_EQ(uncovered, 0) << "without objects it stays";
        continue;
      }
      moved += uncovered > 0 ? 1 : 0;
      Box seen{64, 64, 0, 0};  // around the cell's pixels as they are stored, in front of the turns
      for (int64_t y = 0; y < 64; ++y)
        for (int64_t x = 0; x < 64; ++x)
          if (pixels[3 * (y * 64 + x)] == 0 && !black(x, y)) {
            seen.x1 = std::min(seen.x1, static_cast<float>(x)), seen.x2 = std::max(seen.x2, static_cast<float>(x + 1));
            seen.y1 = std::min(seen.y1, static_cast<float>(y)), seen.y2 = std::max(seen.y2, static_cast<float>(y + 1));
          }
      clipped += seen.x2 - seen.x1 < 12 || seen.y2 - seen.y1 < 20 ? 1 : 0;
      const float* box = &batch.gt_boxes[static_cast<size_t>(n) * 2 * 4];
      EXPECT_EQ(orient_box(seen, batch.orientations[n], 64, 64), (Box{box[0], box[1], box[2], box[3]})) << step;
    }
  }
  EXPECT_GT(moved, 30);
  EXPECT_LT(moved, 70);
  EXPECT_GT(clipped, 10);
}

TEST(AugmentPixels, ColoursByHand) {
  const auto changed = [](const ColourChange& change, Color from) {
    Image image = plain_image(1, 1, from);
    apply(change, image);
    return std::array<int, 3>{image.pixels[0], image.pixels[1], image.pixels[2]};
  };
  // Without saturation every channel is the luma.
  ColourChange grey = random_colours({}, 1, 1, 1);
  grey.matrix = {0.299f, 0.587f, 0.114f, 0.299f, 0.587f, 0.114f, 0.299f, 0.587f, 0.114f};
  EXPECT_EQ(changed(grey, {200, 100, 50}), (std::array<int, 3>{124, 124, 124}));
  // Brightness and contrast clip.
  ColourChange bright = random_colours({}, 1, 1, 1);
  bright.offset = {100, 0, -100};
  EXPECT_EQ(changed(bright, {200, 100, 50}), (std::array<int, 3>{255, 100, 0}));
}

// By the formulas, over many draws: each option alone is what it is called, and uses its whole range.
TEST(AugmentPixels, ColoursByTheirFormulas) {
  constexpr int64_t kDraws = 200;
  const auto draws = [](const AugmentConfig& config) {
    std::vector<ColourChange> all;
    for (int64_t position = 0; position < kDraws; ++position) all.push_back(random_colours(config, 7, 1, position));
    return all;
  };
  // Within +-amount of the middle, near both ends.
  const auto expect_spread = [](const std::vector<double>& values, double middle, double amount) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    EXPECT_GE(*low, middle - amount * 1.0001);
    EXPECT_LE(*high, middle + amount * 1.0001);
    EXPECT_LT(*low, middle - 0.9 * amount);
    EXPECT_GT(*high, middle + 0.9 * amount);
  };
  const auto expect_matrix = [](const ColourChange& change, const std::array<double, 9>& want) {
    for (size_t i = 0; i < 9; ++i) EXPECT_NEAR(change.matrix[i], want[i], 1e-6) << i;
  };

  std::vector<double> brightness, contrast, saturation, turns;
  for (const ColourChange& change : draws({.brightness = 0.3})) {
    expect_matrix(change, {1, 0, 0, 0, 1, 0, 0, 0, 1});
    for (const float offset : change.offset) EXPECT_EQ(offset, change.offset[0]);
    brightness.push_back(change.offset[0]);
  }
  expect_spread(brightness, 0, 0.3 * 255);

  for (const ColourChange& change : draws({.contrast = 0.4})) {
    const double factor = change.matrix[0];
    expect_matrix(change, {factor, 0, 0, 0, factor, 0, 0, 0, factor});
    for (const float offset : change.offset) EXPECT_NEAR(factor * 127.5 + offset, 127.5, 1e-4) << "middle grey stays";
    contrast.push_back(factor);
  }
  expect_spread(contrast, 1, 0.4);

  constexpr double kLuma[3] = {0.299, 0.587, 0.114};
  for (const ColourChange& change : draws({.saturation = 0.5})) {
    const double factor = (change.matrix[0] - kLuma[0]) / (1 - kLuma[0]);
    std::array<double, 9> want{};
    for (size_t i = 0; i < 9; ++i) want[i] = (1 - factor) * kLuma[i % 3] + (i % 4 == 0 ? factor : 0);
    expect_matrix(change, want);
    EXPECT_EQ(change.offset, (std::array<float, 3>{}));
    saturation.push_back(factor);
  }
  expect_spread(saturation, 1, 0.5);

  // A turn about the grey axis: it keeps grey and all distances, and by a third it passes the channels on.
  for (const ColourChange& change : draws({.hue = 0.4})) {
    const auto& m = change.matrix;
    expect_matrix(change, {m[0], m[1], m[2], m[2], m[0], m[1], m[1], m[2], m[0]});
    EXPECT_NEAR(m[0] + m[1] + m[2], 1, 1e-6);
    EXPECT_NEAR(m[0] * m[0] + m[1] * m[1] + m[2] * m[2], 1, 1e-6);
    EXPECT_EQ(change.offset, (std::array<float, 3>{}));
    const double turn = std::acos(std::clamp((3.0 * m[0] - 1) / 2, -1.0, 1.0)) / (2 * std::numbers::pi);
    turns.push_back(m[2] > m[1] ? turn : -turn);
  }
  expect_spread(turns, 0, 0.4);
  for (int64_t position = 0; position < kDraws; ++position) {
    const double share = turns[static_cast<size_t>(position)] / 0.4;
    if (std::abs(share) < 0.7) continue;  // of half a turn at most, this draw makes less than a third
    const bool on = share > 0;
    expect_matrix(
        random_colours({.hue = 1 / (3 * std::abs(share))}, 7, 1, position),
        {0, on ? 0.0 : 1.0, on ? 1.0 : 0.0, on ? 1.0 : 0.0, 0, on ? 0.0 : 1.0, on ? 0.0 : 1.0, on ? 1.0 : 0.0, 0});
  }

  for (const ColourChange& change : draws({.saturation = 0.5, .hue = 0.4}))
    for (size_t row = 0; row < 3; ++row)
      EXPECT_NEAR(change.matrix[3 * row] + change.matrix[3 * row + 1] + change.matrix[3 * row + 2], 1, 1e-6);
}

TEST(AugmentPixels, StainsChangeDensitiesAndLeaveWhiteNearlyWhite) {
  const AugmentConfig config{.stain = 0.2};
  double moved = 0;
  for (int64_t position = 0; position < 50; ++position) {
    Image image = plain_image(2, 1, {150, 90, 170});
    image.at(1, 0)[0] = image.at(1, 0)[1] = image.at(1, 0)[2] = 255;
    apply(random_colours(config, 9, 0, position), image);
    moved = std::max<double>(moved, std::abs(image.pixels[0] - 150));
    for (size_t c = 3; c < 6; ++c) EXPECT_GT(image.pixels[c], 215) << position;  // 0.04 of each stain at most
    Image again = plain_image(1, 1, {150, 90, 170});
    apply(random_colours(config, 9, 0, position), again);
    EXPECT_TRUE(std::equal(again.pixels.begin(), again.pixels.end(), image.pixels.begin()));
  }
  EXPECT_GT(moved, 10);
  // Without jitter the way to densities and back is exact.
  ColourChange same = random_colours({.stain = 1e-9}, 1, 1, 1);
  Image all = gradient_image(256, 4);
  const Image before = all;
  apply(same, all);
  for (size_t i = 0; i < all.pixels.size(); ++i) ASSERT_NEAR(all.pixels[i], before.pixels[i], 1) << i;
}

TEST(AugmentPixels, ValuesOutOfRangeAreRefused) {
  for (AugmentConfig config :
       {AugmentConfig{.scale_min = 0}, AugmentConfig{.scale_min = 1.5}, AugmentConfig{.scale_max = std::nan("")},
        AugmentConfig{.brightness = 2}, AugmentConfig{.hue = -0.1}, AugmentConfig{.stain = 0.6},
        AugmentConfig{.min_visible = 1.5}, AugmentConfig{.shift = -1}})
    EXPECT_THROW(config.check(), std::invalid_argument);
}

// The loader with all of it: the same batches from the same seed however many threads, boxes inside the picture.
TEST(AugmentPixels, TheLoaderStaysReproducible) {
  const TemporaryFolder folder;
  for (const char* id : {"a", "b", "c"})
    put_voc(folder, id, {{"cell", "5", "5", "19", "19"}, {"nucleus", "21", "6", "33", "25"}});
  const DatasetConfig files = voc_config(folder);
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(files, Split::train, findings);
  LoaderConfig config;
  config.batch_size = 2;
  config.height = config.width = 64;
  config.max_boxes = 4;
  config.augment = {.scale_min = 0.7,
                    .scale_max = 2.5,
                    .brightness = 0.2,
                    .contrast = 0.2,
                    .saturation = 0.3,
                    .hue = 0.05,
                    .stain = 0.1};
  config.sampling.by = "class";
  std::vector<std::vector<uint8_t>> first;
  for (const int workers : {1, 3}) {
    config.workers = workers;
    Loader loader(dataset, config, files, LoaderMode::train, {.seed = 4});
    Batch batch;
    for (size_t step = 0; step < 6; ++step) {
      ASSERT_TRUE(loader.next(batch));
      if (workers == 1)
        first.push_back(batch.images);
      else
        EXPECT_EQ(batch.images, first[step]);
      for (int64_t i = 0; i < batch.N; ++i) {
        for (int64_t m = 0; m < batch.gt_counts[static_cast<size_t>(i)]; ++m) {
          const float* box = &batch.gt_boxes[static_cast<size_t>((i * 4 + m) * 4)];
          EXPECT_GE(box[0], 0);
          EXPECT_LT(box[0], box[2]);
          EXPECT_LE(box[2], 64);
          EXPECT_LE(box[3], 64);
        }
      }
    }
  }
  config.augment.hue = 3;
  EXPECT_THROW(Loader(dataset, config, files, LoaderMode::train, {.seed = 4}), std::invalid_argument);
}

// Under data.bad_image = drop an image that went bad since it was checked is left out, named once, and bounded.
TEST(AugmentPixels, AnImageThatWentBadIsSkippedNamedAndBounded) {
  const TemporaryFolder folder;
  for (int i = 0; i < 12; ++i) put_voc(folder, "image" + std::to_string(i), {{"cell", "5", "5", "19", "19"}});
  DatasetConfig files = voc_config(folder, {"cell"});
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(files, Split::train, findings, true);
  LoaderConfig config;
  config.batch_size = 4;
  config.height = config.width = 64;
  config.cache_mb = 0;
  put(folder / "JPEGImages/image3.png", "gone bad");
  Batch batch;
  {
    Loader loader(dataset, config, files, LoaderMode::train, {.seed = 4});
    std::vector<std::string> skipped;
    for (int step = 0; step < 6; ++step) {
      ASSERT_TRUE(loader.next(batch));
      for (const std::string& id : batch.ids) EXPECT_NE(id, "image3");
      skipped.insert(skipped.end(), batch.skipped.begin(), batch.skipped.end());
    }
    ASSERT_EQ(skipped.size(), 1u);
    EXPECT_HAS(skipped[0], "image3.png");
  }
  const auto all_steps = [&] {
    Loader loader(dataset, config, files, LoaderMode::train, {.seed = 4});
    for (int step = 0; step < 6; ++step) loader.next(batch);
  };
  files.bad_image = "error";
  EXPECT_HAS(message_of(all_steps), "image3.png");
  files.bad_image = "drop";
  for (int i = 3; i < 9; ++i) put(folder / ("JPEGImages/image" + std::to_string(i) + ".png"), "gone bad");
  EXPECT_HAS(message_of(all_steps), "6 of 12 training images cannot be read any more");
}

}  // namespace
}  // namespace gradlibra
