// SPDX-License-Identifier: MIT
// Batches: order, augmentation, resuming, ranks, and boxes that stay on their pixels through resize and orientation.
#include "data/loading/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "data/loading/augment.h"
#include "kernels/image_normalize.h"
#include "runtime/base/files.h"
#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

static_assert(kOrientFlipHorizontal == kernels::kFlipHorizontal && kOrientFlipVertical == kernels::kFlipVertical &&
              kOrientTranspose == kernels::kTranspose);

struct Rectangle {
  int x1, y1, x2, y2, label;
};

// `count` images of the given size; image i is plain with grey 100 + i and holds one bright rectangle that its one
// object frames.
class Fixture {
 public:
  Fixture(int count, int width, int height) {
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

LoaderConfig small_config() {
  LoaderConfig config;
  config.batch_size = 2;
  config.height = config.width = 64;
  config.max_boxes = 4;
  return config;
}

void expect_same(const Batch& a, const Batch& b) {
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
std::array<int, 2> stored_pixel(int x, int y, int32_t orientation, int stored_width, int stored_height) {
  const bool transposed = orientation & kernels::kTranspose;
  const int width = transposed ? stored_height : stored_width, height = transposed ? stored_width : stored_height;
  if (orientation & kernels::kFlipHorizontal) x = width - 1 - x;
  if (orientation & kernels::kFlipVertical) y = height - 1 - y;
  return transposed ? std::array{y, x} : std::array{x, y};
}

TEST(Loader, AFlippedBoxIsMirroredWithoutALostPixel) {
  const auto flipped = [](const Box& box) {
    const Box b = orient_box(box, kernels::kFlipHorizontal, 512, 512);
    return std::array<float, 4>{b.x1, b.y1, b.x2, b.y2};
  };
  EXPECT_EQ(flipped({10, 20, 110, 220}), (std::array<float, 4>{402, 20, 502, 220}));
  EXPECT_EQ(flipped({500, 5, 512, 29.5f}), (std::array<float, 4>{0, 5, 12, 29.5f}));
  EXPECT_EQ(flipped({480, 100, 511, 140}), (std::array<float, 4>{1, 100, 32, 140}));
}

// Every pixel is bright exactly where the oriented box says so.
void expect_boxes_on_pixels(const Batch& batch) {
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

TEST(Loader, EvaluationGoesThroughOnceInOrder) {
  Fixture f(5, 50, 40);
  Loader loader(f.dataset, small_config(), f.files, LoaderMode::evaluate, {});
  EXPECT_EQ(loader.batches_per_epoch(), 3);
  Batch batch;
  std::vector<std::string> ids;
  std::vector<int64_t> sizes;
  while (loader.next(batch)) {
    sizes.push_back(batch.N);
    for (int64_t n = 0; n < batch.N; ++n) {
      ids.push_back(batch.ids[n]);
      EXPECT_EQ(batch.orientations[n], 0);
      EXPECT_EQ(batch.sizes[2 * n], 40);
      EXPECT_EQ(batch.sizes[2 * n + 1], 50);
      EXPECT_EQ(batch.scale_x[n], 1);
      EXPECT_EQ(f.dataset.images[batch.indices[n]].id, batch.ids[n]);
    }
    EXPECT_EQ(batch.images.size(), static_cast<size_t>(batch.N * 64 * 64 * 3));
    expect_boxes_on_pixels(batch);
    // Outside the content: black. Behind the count: label -1, box 0.
    EXPECT_EQ(batch.images[(10 * 64 + 50) * 3], 0);
    EXPECT_EQ(batch.images[(40 * 64 + 0) * 3], 0);
    EXPECT_EQ(batch.gt_labels[1], -1);
    EXPECT_EQ(batch.gt_boxes[4], 0);
  }
  EXPECT_EQ(ids, (std::vector<std::string>{"image0", "image1", "image2", "image3", "image4"}));
  EXPECT_EQ(sizes, (std::vector<int64_t>{2, 2, 1}));
  EXPECT_FALSE(loader.next(batch));
  EXPECT_EQ(loader.state().batch, 3);
  EXPECT_GE(loader.seconds_waited(), 0);
}

TEST(Loader, TrainingShowsEveryImageEachEpochInNewOrder) {
  Fixture f(7, 50, 40);
  Loader loader(f.dataset, small_config(), f.files, LoaderMode::train, {.seed = 5});
  ASSERT_EQ(loader.batches_per_epoch(), 4);
  std::vector<std::vector<int64_t>> epochs;
  Batch batch;
  for (int epoch = 0; epoch < 4; ++epoch) {
    std::vector<int64_t> order;
    for (int b = 0; b < 4; ++b) {
      EXPECT_EQ(loader.state().epoch, epoch);
      EXPECT_EQ(loader.state().batch, b);
      ASSERT_TRUE(loader.next(batch));
      EXPECT_EQ(batch.N, 2);
      order.insert(order.end(), batch.indices.begin(), batch.indices.end());
      expect_boxes_on_pixels(batch);
    }
    EXPECT_EQ(order.back(), order.front()) << "the last batch is filled from the epoch's start";
    order.pop_back();
    EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 7u);
    epochs.push_back(order);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
}

TEST(Loader, BatchesDoNotDependOnThreadsOrCache) {
  Fixture f(9, 50, 40);
  LoaderConfig one = small_config(), four = small_config();
  four.workers = 4;
  four.cache_mb = 0;
  Loader a(f.dataset, one, f.files, LoaderMode::train, {.seed = 3}),
      b(f.dataset, four, f.files, LoaderMode::train, {.seed = 3});
  Loader c(f.dataset, one, f.files, LoaderMode::train, {.seed = 4});
  Batch x, y, z;
  bool differs = false;
  for (int i = 0; i < 15; ++i) {
    a.next(x);
    b.next(y);
    c.next(z);
    expect_same(x, y);
    differs |= x.indices != z.indices;
  }
  EXPECT_TRUE(differs) << "another seed, another order";
}

TEST(Loader, ContinuesFromAnyState) {
  Fixture f(5, 50, 40);
  const LoaderConfig config = small_config();
  Loader whole(f.dataset, config, f.files, LoaderMode::train, {.seed = 9});
  std::vector<Batch> batches(8);
  std::vector<LoaderState> states;
  for (Batch& batch : batches) {
    states.push_back(whole.state());
    whole.next(batch);
  }
  for (size_t from = 0; from < batches.size(); ++from) {
    Loader resumed(f.dataset, config, f.files, LoaderMode::train, states[from]);
    Batch batch;
    for (size_t i = from; i < batches.size(); ++i) {
      resumed.next(batch);
      expect_same(batch, batches[i]);
    }
    EXPECT_EQ(resumed.state().epoch, whole.state().epoch);
    EXPECT_EQ(resumed.state().batch, whole.state().batch);
  }
  // The end of an epoch may be written either way.
  Loader end(f.dataset, config, f.files, LoaderMode::train, {.seed = 9, .epoch = 0, .batch = 3});
  Batch batch;
  end.next(batch);
  expect_same(batch, batches[3]);
  EXPECT_THROW(Loader(f.dataset, config, f.files, LoaderMode::train, {.seed = 9, .epoch = 0, .batch = 4}),
               std::invalid_argument);
  Loader evaluation(f.dataset, config, f.files, LoaderMode::evaluate, {.batch = 2});
  ASSERT_TRUE(evaluation.next(batch));
  EXPECT_EQ(batch.ids, (std::vector<std::string>{"image4"}));
}

TEST(Loader, RanksShareTheGlobalBatch) {
  Fixture f(11, 50, 40);
  LoaderConfig wide = small_config(), narrow = small_config();
  wide.batch_size = 6;
  Loader all(f.dataset, wide, f.files, LoaderMode::train, {.seed = 2});
  std::vector<std::unique_ptr<Loader>> ranks;
  for (int r = 0; r < 3; ++r)
    ranks.push_back(
        std::make_unique<Loader>(f.dataset, narrow, f.files, LoaderMode::train, LoaderState{.seed = 2}, r, 3));
  Batch whole, part;
  for (int step = 0; step < 5; ++step) {
    all.next(whole);
    for (int r = 0; r < 3; ++r) {
      EXPECT_EQ(ranks[r]->batches_per_epoch(), 2);
      ranks[r]->next(part);
      for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(part.indices[i], whole.indices[2 * r + i]);
        EXPECT_EQ(part.orientations[i], whole.orientations[2 * r + i]);
      }
    }
  }
  // Evaluation: together each image once.
  std::map<int64_t, int> seen;
  for (int r = 0; r < 3; ++r) {
    Loader loader(f.dataset, narrow, f.files, LoaderMode::evaluate, {}, r, 3);
    int64_t batches = 0;
    while (loader.next(part)) {
      ++batches;
      EXPECT_GT(part.N, 0);
      for (const int64_t index : part.indices) ++seen[index];
    }
    EXPECT_EQ(batches, loader.batches_per_epoch());
  }
  EXPECT_EQ(seen.size(), 11u);
  for (const auto& [index, times] : seen) EXPECT_EQ(times, 1) << index;
  // More ranks than images.
  Loader idle(f.dataset, narrow, f.files, LoaderMode::evaluate, {}, 7, 8);
  EXPECT_EQ(idle.batches_per_epoch(), 0);
  EXPECT_FALSE(idle.next(part));
}

// However images, batch and ranks divide: every rank has as many batches, together they show every image once, and only
// the last batch of an epoch, where it is not full, shows some of the first again.
TEST(Loader, AnEpochShowsEveryImageOnceOnAnyRanks) {
  Fixture f(7, 40, 40);
  for (const int batch_size : {1, 2, 3, 5}) {
    for (const int world_size : {1, 2, 3, 4}) {
      LoaderConfig config = small_config();
      config.batch_size = batch_size;
      const int64_t wide = int64_t{batch_size} * world_size, batches = (7 + wide - 1) / wide;
      std::vector<int64_t> order(static_cast<size_t>(batches * wide));
      Batch part;
      for (int r = 0; r < world_size; ++r) {
        Loader loader(f.dataset, config, f.files, LoaderMode::train, {.seed = 3}, r, world_size);
        ASSERT_EQ(loader.batches_per_epoch(), batches) << batch_size << " on " << world_size;
        for (int64_t b = 0; b < batches; ++b) {
          loader.next(part);
          ASSERT_EQ(part.N, batch_size);
          for (int64_t i = 0; i < part.N; ++i)
            order[static_cast<size_t>(b * wide + r * batch_size + i)] = part.indices[static_cast<size_t>(i)];
        }
      }
      EXPECT_EQ(std::set<int64_t>(order.begin(), order.begin() + 7).size(), 7u) << batch_size << " on " << world_size;
      for (size_t i = 7; i < order.size(); ++i) EXPECT_EQ(order[i], order[i - 7]) << batch_size << " on " << world_size;
    }
  }
}

TEST(Loader, AllEightOrientationsOccurOnSquareInput) {
  Fixture f(4, 50, 40);
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
  LoaderConfig config = small_config();
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
}

TEST(Augment, OrderIsAPermutationPerEpoch) {
  EXPECT_TRUE(epoch_order(0, 1, 0).empty());
  EXPECT_EQ(epoch_order(1, 1, 0), (std::vector<int64_t>{0}));
  std::vector<int64_t> order = epoch_order(50, 1, 3);
  EXPECT_EQ(order, epoch_order(50, 1, 3));
  EXPECT_NE(order, epoch_order(50, 1, 4));
  EXPECT_NE(order, epoch_order(50, 2, 3));
  std::sort(order.begin(), order.end());
  for (int64_t i = 0; i < 50; ++i) EXPECT_EQ(order[i], i);
}

TEST(Loader, FitAndStretchScaleTheBoxes) {
  Fixture f(2, 100, 50);
  LoaderConfig config = small_config();
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
  Fixture small(3, 32, 16);
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
  Fixture f(1, 63, 47);
  f.dataset.images[0].objects[0].box = {0, 0, 63, 47};
  LoaderConfig config = small_config();
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
  Fixture f(2, 50, 40);
  Object crowd = f.dataset.images[0].objects[0], difficult = crowd;
  crowd.crowd = true;
  difficult.difficult = true;
  auto& objects = f.dataset.images[0].objects;
  objects.insert(objects.begin(), {crowd, difficult});
  f.dataset.images[1].objects.clear();
  Loader loader(f.dataset, small_config(), f.files, LoaderMode::evaluate, {});
  Batch batch;
  loader.next(batch);
  EXPECT_EQ(batch.gt_counts, (std::vector<int32_t>{1, 0}));
  EXPECT_EQ(batch.gt_labels, (std::vector<int32_t>{0, -1, -1, -1, -1, -1, -1, -1}));
}

TEST(Loader, ErrorsNameFileAndRemedy) {
  Fixture f(2, 50, 40);
  LoaderConfig config = small_config();
  const auto made = [&](const LoaderConfig& c, LoaderMode mode = LoaderMode::train) {
    return message_of([&] { Loader(f.dataset, c, f.files, mode, {}); });
  };
  config.width = 32;
  EXPECT_HAS(made(config), "image0.png");
  EXPECT_HAS(made(config), "50 x 40");
  EXPECT_HAS(made(config), "loader.resize");
  config.width = 40;
  EXPECT_HAS(made(config), "loader.width");
  config = small_config();
  config.batch_size = 0;
  EXPECT_HAS(made(config), "loader.batch_size");
  config = small_config();
  config.resize = "crop";
  EXPECT_HAS(made(config), "loader.resize");
  config = small_config();
  config.workers = 0;
  EXPECT_HAS(made(config), "loader.workers");
  config = small_config();
  f.dataset.images[1].objects.resize(5, f.dataset.images[1].objects[0]);
  EXPECT_HAS(made(config), "image1.png");
  EXPECT_HAS(made(config), "loader.max_boxes");
  f.dataset.images.clear();
  EXPECT_HAS(made(config), "no images");
  Loader nothing(f.dataset, config, f.files, LoaderMode::evaluate, {});
  Batch batch;
  EXPECT_FALSE(nothing.next(batch));
  EXPECT_EQ(nothing.batches_per_epoch(), 0);
}

TEST(Loader, FileThatBreaksWhileTrainingIsNamed) {
  Fixture f(3, 50, 40);
  LoaderConfig config = small_config();
  config.batch_size = 1;
  config.workers = 2;
  const std::string bytes = get(f.dataset.images[1].path);
  std::filesystem::remove(f.dataset.images[1].path);
  Loader loader(f.dataset, config, f.files, LoaderMode::evaluate, {});
  Batch batch;
  EXPECT_TRUE(loader.next(batch));
  EXPECT_HAS(message_of([&] { loader.next(batch); }), "image1.png");
  EXPECT_THROW(loader.next(batch), ReadError);
  // Once it is there again, the same batch comes, then those behind it.
  put(f.dataset.images[1].path, bytes);
  for (const int64_t index : {1, 2}) {
    EXPECT_TRUE(loader.next(batch));
    EXPECT_EQ(batch.indices, std::vector<int64_t>{index});
  }
  EXPECT_FALSE(loader.next(batch));
  write_image(f.dataset.images[1].path, plain_image(20, 20));  // another picture than was read
  Loader changed(f.dataset, config, f.files, LoaderMode::evaluate, {});
  EXPECT_TRUE(changed.next(batch));
  EXPECT_HAS(message_of([&] { changed.next(batch); }), "20 x 20");
}

// With data.bad_image=drop a picture that is gone is passed over, but a folder that is gone makes no picture bad.
TEST(Loader, AFolderThatIsAwayDropsNoPicture) {
  Fixture f(3, 50, 40);
  f.files.bad_image = "drop";
  LoaderConfig config = small_config();
  config.batch_size = 1;
  config.cache_mb = 0;
  config.workers = 1;
  const std::filesystem::path folder = f.dataset.images[0].path.parent_path(), away = folder.string() + ".away";
  std::filesystem::rename(folder, away);
  Loader loader(f.dataset, config, f.files, LoaderMode::train, {.seed = 1});
  Batch batch;
  EXPECT_THROW(loader.next(batch), ReadError);
  std::filesystem::rename(away, folder);
  EXPECT_TRUE(loader.next(batch));
  EXPECT_TRUE(batch.skipped.empty());

  std::filesystem::remove(f.dataset.images[1].path);
  Loader without(f.dataset, config, f.files, LoaderMode::train, {.seed = 1});
  std::vector<std::string> skipped;
  for (int i = 0; i < 6; ++i) {
    EXPECT_TRUE(without.next(batch));
    EXPECT_NE(batch.indices[0], 1);
    skipped.insert(skipped.end(), batch.skipped.begin(), batch.skipped.end());
  }
  EXPECT_EQ(skipped.size(), 1U) << "told once";
}

TEST(Loader, CachedImagesNeedNoFile) {
  Fixture f(3, 50, 40);
  Loader loader(f.dataset, small_config(), f.files, LoaderMode::train, {.seed = 1});
  Batch batch;
  for (int i = 0; i < 6; ++i)
    loader.next(batch);  // three epochs: the decoders, at most two batches ahead, have seen every image
  for (const ImageRecord& image : f.dataset.images) std::filesystem::remove(image.path);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(loader.next(batch));
    expect_boxes_on_pixels(batch);
  }
}

TEST(Loader, StopsWithoutBeingRead) {
  Fixture f(20, 50, 40);
  LoaderConfig config = small_config();
  config.workers = 3;
  for (int i = 0; i < 10; ++i) {
    Loader loader(f.dataset, config, f.files, LoaderMode::train, {});
    Batch batch;
    if (i % 2) loader.next(batch);
  }
}

}  // namespace
}  // namespace gradlibra
