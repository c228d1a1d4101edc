// SPDX-License-Identifier: MIT
// Which images an epoch shows: each once, rare ones more often, or classes in turn.
#include "data/loading/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "data/loading/augment.h"

namespace gradlibra {
namespace {

// 40 images: all hold class 0, ten class 1, one class 2; class 3 is nowhere. Image 39 holds nothing.
Dataset long_tail() {
  Dataset dataset;
  dataset.classes = {"common", "some", "rare", "absent"};
  for (int i = 0; i < 40; ++i) {
    ImageRecord image;
    const auto add = [&](int label, bool difficult = false) {
      Object object;
      object.label = label;
      object.difficult = difficult;
      image.objects.push_back(object);
    };
    if (i < 39) add(0);
    if (i >= 20 && i < 30) add(1);
    if (i == 7) add(2);
    if (i == 8) add(2, /*difficult=*/true);  // trains nothing
    dataset.images.push_back(image);
  }
  return dataset;
}

std::vector<int64_t> counted(const std::vector<int64_t>& order, size_t images) {
  std::vector<int64_t> counts(images, 0);
  for (const int64_t i : order) ++counts[static_cast<size_t>(i)];
  return counts;
}

TEST(Sampling, ByImageIsTheOrderThatItAlwaysWas) {
  const Sampler sampler(long_tail(), {}, 5);
  EXPECT_EQ(sampler.epoch_length(), 40);
  for (const int64_t epoch : {0, 3}) EXPECT_EQ(sampler.order(epoch), epoch_order(40, 5, epoch));
}

TEST(Sampling, RepeatFactorsByHand) {
  const std::vector<double> factors = repeat_factors(long_tail(), 0.4);
  EXPECT_DOUBLE_EQ(factors[0], 1);  // on 39 of 40: above the threshold
  EXPECT_DOUBLE_EQ(factors[20], std::sqrt(0.4 / (10.0 / 40)));
  EXPECT_DOUBLE_EQ(factors[7], std::sqrt(0.4 / (1.0 / 40)));  // 4
  EXPECT_DOUBLE_EQ(factors[8], 1);
  EXPECT_DOUBLE_EQ(factors[39], 1);
}

TEST(Sampling, RepeatFactorShowsEachImageFloorOrCeilTimesAndOnAverageTheFactor) {
  const Dataset dataset = long_tail();
  const std::vector<double> factors = repeat_factors(dataset, 0.4);
  double sum = 0;
  for (const double f : factors) sum += f;
  const Sampler sampler(dataset, {.by = "repeat_factor", .threshold = 0.4}, 5);
  EXPECT_EQ(sampler.epoch_length(), std::llround(sum));
  std::vector<double> mean(40, 0);
  constexpr int kEpochs = 400;
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    const std::vector<int64_t> order = sampler.order(epoch);
    ASSERT_EQ(static_cast<int64_t>(order.size()), sampler.epoch_length());
    const std::vector<int64_t> counts = counted(order, 40);
    for (size_t i = 0; i < counts.size(); ++i) {
      const double scaled = factors[i] * static_cast<double>(sampler.epoch_length()) / sum;
      EXPECT_GE(static_cast<double>(counts[i]), std::floor(scaled) - 1e-9) << i;
      EXPECT_LE(static_cast<double>(counts[i]), std::ceil(scaled) + 1e-9) << i;
      mean[i] += static_cast<double>(counts[i]) / kEpochs;
    }
  }
  for (size_t i = 0; i < mean.size(); ++i) EXPECT_NEAR(mean[i], factors[i], 0.1) << i;  // 0.5 / sqrt(400) is 0.025
  EXPECT_EQ(sampler.order(9), Sampler(dataset, {.by = "repeat_factor", .threshold = 0.4}, 5).order(9));
  EXPECT_NE(sampler.order(9), sampler.order(10));
  EXPECT_THROW(Sampler(dataset, {.by = "repeat_factor", .threshold = 0}, 5), std::invalid_argument);
  EXPECT_THROW(Sampler(dataset, {.by = "repeat_factor", .threshold = std::nan("")}, 5), std::invalid_argument);
}

TEST(Sampling, ByClassShowsAllClassesAlike) {
  const Dataset dataset = long_tail();
  const Sampler sampler(dataset, {.by = "class"}, 5);
  EXPECT_EQ(sampler.epoch_length(), 40);
  const std::vector<int64_t> order = sampler.order(2);
  ASSERT_EQ(order.size(), 40u);
  // Every three turns hold the three classes that are there: image 7 is the only one of class 2.
  for (size_t k = 0; k + 3 <= order.size(); k += 3) EXPECT_GE(std::count(&order[k], &order[k] + 3, 7), 1) << k;
  const std::vector<int64_t> counts = counted(order, 40);
  EXPECT_EQ(counts[39], 0) << "it holds nothing";
  int64_t some = 0;
  for (size_t i = 20; i < 30; ++i) {
    EXPECT_GE(counts[i], 1);  // ten images in 13 turns, each once before any again
    some += counts[i];
  }
  EXPECT_GE(some, 13);
  Dataset empty;
  empty.classes = {"a"};
  empty.images.resize(2);
  EXPECT_THROW(Sampler(empty, {.by = "class"}, 5), std::invalid_argument);
  EXPECT_THROW(Sampler(dataset, {.by = "luck"}, 5), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra
