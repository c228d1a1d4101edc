// SPDX-License-Identifier: MIT
#include "kernels/scalar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace gradlibra::kernels {
namespace {

double scaled_maximum_of(double x, double factor, double minimum) {
  Cpu cpu(1);
  double y = std::numeric_limits<double>::quiet_NaN();
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

TEST(ScaledMaximum, RefusesMoreThanOneElement) {
  Cpu cpu(1);
  const double x[2] = {1, 2};
  double y = 0;
  EXPECT_THROW(scaled_maximum(cpu, {x, {2}}, 1, 1, {&y, {1}}), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
