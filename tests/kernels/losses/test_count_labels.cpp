// SPDX-License-Identifier: MIT
#include "kernels/losses/count_labels.h"

#include <gtest/gtest.h>

#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

std::vector<double> counts_of(const std::vector<int32_t>& labels, const std::vector<float>& weights, int64_t K) {
  Cpu cpu(2);
  const auto R = static_cast<int64_t>(labels.size());
  std::vector<double> counts(static_cast<size_t>(K), NAN);
  count_labels(cpu, view(labels, {R}), view(weights, {R}), view(counts, {K}), {});
  return counts;
}

TEST(CountLabels, RowsThatCount) {
  // Ignored by label, by weight (whatever the label), and a label beyond K.
  EXPECT_EQ(counts_of({0, 2, 2, -1, 1, 5, 2}, {1, 1, 0.5f, 1, 0, 1, 1}, 3), (std::vector<double>{1, 0, 3}));
  EXPECT_EQ(counts_of({}, {}, 2), (std::vector<double>{0, 0}));
  EXPECT_TRUE(counts_of({1}, {1}, 0).empty());
}

TEST(CountLabels, RefusesWrongShapes) {
  Cpu cpu(1);
  const std::vector<int32_t> labels{0, 1};
  const std::vector<float> weights{1};
  std::vector<double> counts(2);
  EXPECT_THROW(count_labels(cpu, {labels.data(), {2}}, {weights.data(), {1}}, {counts.data(), {2}}, {}),
               std::invalid_argument);
  EXPECT_THROW(counts_of({0}, {1}, kMostLabels + 1), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
