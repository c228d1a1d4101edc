// SPDX-License-Identifier: MIT
#include "kernels/scalar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support.h"

namespace gradlibra::kernels {
namespace {

using testing::kInfinity;
using testing::kNaN;

double scaled_maximum_of(double x, double factor, double minimum) {
  Cpu cpu(1);
  double y = kNaN;
  scaled_maximum(cpu, {&x, {1}}, factor, minimum, {&y, {1}});
  return y;
}

// Two ranks with 6 positives together: a mean of 3; with none, the lower bound.
TEST(ScaledMaximum, IsTheMeanCountButAtLeastTheMinimum) {
  EXPECT_EQ(scaled_maximum_of(6, 0.5, 1), 3);
  EXPECT_EQ(scaled_maximum_of(0, 0.5, 1), 1);
  EXPECT_EQ(scaled_maximum_of(2, 0.5, 1), 1);
  EXPECT_EQ(scaled_maximum_of(3, 0.5, 1), 1.5);
  EXPECT_EQ(scaled_maximum_of(0, 1, 1e-6), 1e-6);
}

TEST(ScaledMaximum, KeepsCountsBeyondFloatExact) { EXPECT_EQ(scaled_maximum_of(16777217, 1, 1), 16777217); }

TEST(ScaledMaximum, OfSeveral) {
  Cpu cpu(1);
  const double x[3] = {1, 2, 8};
  double y[3] = {7, 7, 7};
  scaled_maximum(cpu, {x, {3}}, 0.5, 1, {y, {3}});
  EXPECT_EQ(std::vector<double>(y, y + 3), (std::vector<double>{1, 1, 4}));
}

TEST(ScaledMaximum, RefusesSizesThatDiffer) {
  Cpu cpu(1);
  const double x[2] = {1, 2};
  double y = 0;
  EXPECT_THROW(scaled_maximum(cpu, {x, {2}}, 1, 1, {&y, {1}}), std::invalid_argument);
}

TEST(AddIfFinite, AddsOrLeavesNoTrace) {
  Cpu cpu(1);
  const double x[2] = {1, kNaN};
  double y[2] = {5, 6};
  for (const float bad : {kNaN, kInfinity}) {
    add_if_finite(cpu, {x, {2}}, {&bad, {1}}, {y, {2}});
    EXPECT_EQ(y[0], 5);
    EXPECT_EQ(y[1], 6);
  }
  const float ok = 0;
  add_if_finite(cpu, {x, {2}}, {&ok, {1}}, {y, {2}});
  EXPECT_EQ(y[0], 6);
  EXPECT_TRUE(std::isnan(y[1]));
  EXPECT_THROW(add_if_finite(cpu, {x, {2}}, {&ok, {1}}, {y, {1}}), std::invalid_argument);
}

TEST(Gather, TakesByIndex) {
  Cpu cpu(1);
  const double x[3] = {1, 2, 8};
  const int32_t index[4] = {2, 0, 2, 1};
  double y[4] = {};
  gather(cpu, {x, {3}}, {index, {4}}, {y, {4}});
  EXPECT_EQ(std::vector<double>(y, y + 4), (std::vector<double>{8, 1, 8, 2}));
  EXPECT_THROW(gather(cpu, {x, {3}}, {index, {4}}, {y, {3}}), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
