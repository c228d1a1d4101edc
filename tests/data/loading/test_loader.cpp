// SPDX-License-Identifier: MIT
// Batches: their order, resuming, ranks, threads.
#include "data/loading/loader.h"

#include <map>
#include <set>

#include "data/loading/augment.h"
#include "tests/data/loading/small_pictures.h"

namespace gradlibra {
namespace {

TEST(Loader, EvaluationGoesThroughOnceInOrder) {
  SmallPictures f(5, 50, 40);
  Loader loader(f.dataset, small_loader(), f.files, LoaderMode::evaluate, {});
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
  SmallPictures f(7, 50, 40);
  Loader loader(f.dataset, small_loader(), f.files, LoaderMode::train, {.seed = 5});
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
  SmallPictures f(9, 50, 40);
  LoaderConfig one = small_loader(), four = small_loader();
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
  SmallPictures f(5, 50, 40);
  const LoaderConfig config = small_loader();
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
  SmallPictures f(11, 50, 40);
  LoaderConfig wide = small_loader(), narrow = small_loader();
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
  SmallPictures f(7, 40, 40);
  for (const int batch_size : {1, 2, 3, 5}) {
    for (const int world_size : {1, 2, 3, 4}) {
      LoaderConfig config = small_loader();
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

}  // namespace
}  // namespace gradlibra
