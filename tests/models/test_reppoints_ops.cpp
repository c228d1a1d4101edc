// SPDX-License-Identifier: MIT
// RepPoints' own operations against double precision.
#include "models/heads/reppoints_ops.h"

#include <algorithm>
#include <cmath>

#include "tests/runtime/autograd/gradient_check.h"

namespace gradlibra {
namespace {

using testing::Doubles;
using testing::GradientCheck;
using testing::Input;
using testing::Leaves;
using testing::random_input;
using testing::seed_gradient;

class RepPointsOps : public ::testing::Test {
 protected:
  Context context{1};
};

TEST_F(RepPointsOps, SubtractRow) {
  const std::vector<float> values{-1, 0, 1, 2.5f};
  const Tensor row = context.upload<float>(values, {4});
  for (const float factor : {1.0f, 0.1f, 0.0f}) {
    GradientCheck check;
    check.inputs = {random_input({2, 3, 2, 4}, 1)};
    check.op = [&](Tape& tape, const std::vector<Var>& v) { return ops::subtract_row(tape, v[0], row, factor); };
    check.oracle = [&](const std::vector<Doubles>& v) {
      Doubles y = v[0];
      for (size_t i = 0; i < y.size(); ++i) y[i] -= values[i % 4];
      return y;
    };
    if (factor != 0) {
      check.inputs[0].gradient_factor = factor;
      check.run(context);
      continue;
    }
    Leaves leaves(context, check.inputs, {0});
    Tape tape(context);
    seed_gradient(tape, check.op(tape, leaves.vars()), std::vector<float>(48, 3.0f));
    tape.backward();
    EXPECT_EQ(leaves.gradient(0), std::vector<float>(48, 0.0f));
  }
  Leaves wrong(context, {random_input({2, 3, 2, 5}, 1)}, {});
  Tape tape(context);
  EXPECT_THROW((void)ops::subtract_row(tape, wrong.vars()[0], row, 1), std::invalid_argument);
}

TEST_F(RepPointsOps, AddDetached) {
  GradientCheck check;
  check.inputs = {random_input({2, 3, 2, 4}, 1), random_input({2, 3, 2, 4}, 2)};
  check.inputs[1].gradient_factor = 0;
  check.op = [](Tape& tape, const std::vector<Var>& v) { return ops::add_detached(tape, v[0], v[1]); };
  check.oracle = [](const std::vector<Doubles>& v) {
    Doubles y = v[0];
    for (size_t i = 0; i < y.size(); ++i) y[i] += v[1][i];
    return y;
  };
  check.trained_alone = {{0}};
  check.run(context);

  // Only the detached side could be trained: the sum is a constant.
  Leaves leaves(context, check.inputs, {1});
  Tape tape(context);
  EXPECT_FALSE(ops::add_detached(tape, leaves.vars()[0], leaves.vars()[1]).requires_grad());
}

// arXiv:1904.11490, sec. 3.2. Offsets are (y, x) pairs in strides.
Doubles boxes_of(const Doubles& offsets, const Doubles& priors, const Doubles& moment, kernels::BoxTransform transform,
                 size_t K) {
  Doubles boxes;
  const size_t P = priors.size() / 3;
  for (size_t row = 0; row * 2 * K < offsets.size(); ++row) {
    double low[2], high[2];
    for (size_t axis = 0; axis < 2; ++axis) {  // x, y
      Doubles v;
      for (size_t k = 0; k < K; ++k) v.push_back(offsets[(row * K + k) * 2 + 1 - axis]);
      if (transform == kernels::BoxTransform::moment) {
        double mean = 0, squares = 0;
        for (const double a : v) mean += a / static_cast<double>(K);
        for (const double a : v) squares += (a - mean) * (a - mean) / static_cast<double>(K - 1);
        const double half = std::sqrt(squares) * std::exp(moment[axis]);
        low[axis] = mean - half;
        high[axis] = mean + half;
      } else {
        if (transform == kernels::BoxTransform::partial_minmax) v.resize(4);
        low[axis] = *std::min_element(v.begin(), v.end());
        high[axis] = *std::max_element(v.begin(), v.end());
      }
    }
    const double* prior = &priors[row % P * 3];
    for (const double* side : {low, high})
      for (size_t axis = 0; axis < 2; ++axis) boxes.push_back(side[axis] * prior[2] + prior[axis]);
  }
  return boxes;
}

TEST_F(RepPointsOps, PointsToBoxes) {
  constexpr int64_t N = 2, P = 5;
  const std::vector<float> priors{0, 0, 8, 8, 0, 8, 16, 8, 16, 32, 64, 32, 0, 0, 128};
  const Tensor device_priors = context.upload<float>(priors, {P, 3});
  for (const auto transform :
       {kernels::BoxTransform::moment, kernels::BoxTransform::minmax, kernels::BoxTransform::partial_minmax}) {
    for (const int64_t K : {4, 9}) {
      SCOPED_TRACE("transform " + std::to_string(static_cast<int>(transform)) + ", K " + std::to_string(K));
      const bool by_moment = transform == kernels::BoxTransform::moment;
      constexpr float kMomentMul = 0.25f;
      GradientCheck check;
      check.inputs = {random_input({N, P, 2 * K}, 1)};
      if (by_moment) {
        check.inputs.push_back({{2}, {0.3f, -0.2f}, kMomentMul});
        check.trained_alone = {{0}};
      }
      check.op = [&](Tape& tape, const std::vector<Var>& v) {
        return ops::points_to_boxes(tape, v[0], device_priors, by_moment ? v[1] : Var(), transform, kMomentMul);
      };
      check.oracle = [&](const std::vector<Doubles>& v) {
        return boxes_of(v[0], {priors.begin(), priors.end()}, by_moment ? v[1] : Doubles(), transform,
                        static_cast<size_t>(K));
      };
      check.run(context);
    }
  }
}

// Points of both stages, the second one's boxes taken from the first one's.
TEST_F(RepPointsOps, GridPoints) {
  constexpr int64_t N = 2, P = 3;
  constexpr int kSide = 3;
  const auto grids = [](const Doubles& regression, const Doubles& previous, double half) {
    Doubles points;
    for (size_t row = 0; row < regression.size() / 4; ++row)
      for (size_t k = 0; k < size_t{kSide} * kSide; ++k)
        for (const size_t axis : {1u, 0u}) {  // y, x
          const double lo = previous.empty() ? -half : previous[4 * row + axis],
                       hi = previous.empty() ? half : previous[4 * row + 2 + axis];
          const double centre = (lo + hi) / 2 + (hi - lo) * regression[4 * row + axis],
                       extent = (hi - lo) * std::exp(regression[4 * row + 2 + axis]);
          points.push_back(centre + extent * (static_cast<double>(axis == 0 ? k % kSide : k / kSide) / 2 - 0.5));
        }
    return points;
  };
  GradientCheck first;
  first.inputs = {random_input({N, P, 4}, 1)};
  first.op = [](Tape& tape, const std::vector<Var>& v) { return ops::grid_points(tape, v[0], Var(), 2, kSide).points; };
  first.oracle = [&](const std::vector<Doubles>& v) { return grids(v[0], {}, 2); };
  first.run(context);

  GradientCheck second;
  second.inputs = {random_input({N, P, 4}, 2), random_input({N, P, 4}, 3)};
  for (size_t i = 0; i < second.inputs[1].values.size(); ++i)  // x1, y1 < x2, y2
    if (i % 4 >= 2) second.inputs[1].values[i] += 3;
  second.inputs[1].gradient_factor = 0;
  second.op = [](Tape& tape, const std::vector<Var>& v) { return ops::grid_points(tape, v[0], v[1], 0, kSide).points; };
  second.oracle = [&](const std::vector<Doubles>& v) { return grids(v[0], v[1], 0); };
  second.trained_alone = {{0}};
  second.run(context);

  Leaves leaves(context, first.inputs, {0});
  Tape tape(context);
  const ops::GridPoints grid = ops::grid_points(tape, leaves.vars()[0], Var(), 2, kSide);
  EXPECT_FALSE(grid.boxes.requires_grad());
  const std::vector<float> points = context.download<float>(grid.points.node().value),
                           boxes = context.download<float>(grid.boxes.node().value);
  for (size_t row = 0; row < N * P; ++row) {  // the first point is one corner, the last the other
    const float* at = &points[18 * row];
    EXPECT_EQ(std::vector<float>(&boxes[4 * row], &boxes[4 * row] + 4),
              (std::vector<float>{at[1], at[0], at[17], at[16]}));
  }
}

TEST_F(RepPointsOps, EmptyBatches) {
  const Tensor priors = context.upload<float>(std::vector<float>{0, 0, 8}, {1, 3});
  const Tensor row = context.upload<float>(std::vector<float>{1, 2, 3}, {3});
  const std::vector<Input> inputs{random_input({0, 4, 4, 3}, 1), random_input({0, 1, 18}, 3),
                                  random_input({0, 4, 4, 4}, 4)};
  Leaves leaves(context, inputs, {0, 1, 2});
  const auto v = leaves.vars();
  Tape tape(context);
  for (const Var& y : {ops::subtract_row(tape, v[0], row, 0.1f), ops::add_detached(tape, v[0], v[0]),
                       ops::points_to_boxes(tape, v[1], priors, Var(), kernels::BoxTransform::minmax, 1),
                       ops::grid_points(tape, v[2], Var(), 2, 3).points}) {
    EXPECT_EQ(y.dim(0), 0);
    seed_gradient(tape, y, {});
  }
  tape.backward();
}

}  // namespace
}  // namespace gradlibra
