// SPDX-License-Identifier: MIT
// Point sets to boxes on the host: worked examples with gradients, degenerate sets, ties, finite differences.
#include "kernels/boxes/points_to_boxes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;

constexpr BoxTransform kTransforms[] = {BoxTransform::moment, BoxTransform::minmax, BoxTransform::partial_minmax};
constexpr const char* kNames[] = {"moment", "minmax", "partial_minmax"};

std::vector<float> forward(const std::vector<float>& offsets, const std::vector<float>& priors,
                           const std::vector<float>& moment, BoxTransform transform, int64_t N, int64_t K,
                           int threads = 2) {
  Cpu cpu(threads);
  const auto P = static_cast<int64_t>(priors.size()) / 3;
  std::vector<float> boxes(static_cast<size_t>(N * P * 4), kNaN);
  points_to_boxes(cpu,
                  {view(offsets, {N, P, 2 * K}), view(priors, {P, 3}),
                   view(moment, {static_cast<int64_t>(moment.size())}), transform},
                  view(boxes, {N, P, 4}));
  return boxes;
}

struct Gradients {
  std::vector<float> offsets, moment;
};

// The outputs hold `before` when they are added to, NaN otherwise.
Gradients backward(const std::vector<float>& offsets, const std::vector<float>& priors,
                   const std::vector<float>& moment, BoxTransform transform, float moment_mul,
                   const std::vector<float>& grad_boxes, int64_t N, int64_t K, Accumulate mode = Accumulate::overwrite,
                   float before = 0, int threads = 2) {
  Cpu cpu(threads);
  const auto P = static_cast<int64_t>(priors.size()) / 3;
  if (mode == Accumulate::overwrite) before = kNaN;
  Gradients g{std::vector<float>(offsets.size(), before), {before, before}};
  std::vector<float> workspace(static_cast<size_t>(points_to_boxes_workspace(N * P)), kNaN);
  points_to_boxes_backward(cpu,
                           {view(offsets, {N, P, 2 * K}), view(priors, {P, 3}),
                            view(moment, {static_cast<int64_t>(moment.size())}), transform},
                           view(grad_boxes, {N, P, 4}),
                           {.offsets = {view(g.offsets, {N, P, 2 * K}), mode},
                            .moment = {view(g.moment, {2}), mode},
                            .moment_mul = moment_mul},
                           view(workspace, {static_cast<int64_t>(workspace.size())}));
  return g;
}

std::vector<float> interleave(const std::vector<float>& y, const std::vector<float>& x) {
  std::vector<float> offsets;
  for (size_t k = 0; k < y.size(); ++k) offsets.insert(offsets.end(), {y[k], x[k]});
  return offsets;
}

TEST(PointsToBoxes, WorkedExample) {
  const json example = read_vectors("points_to_boxes")["points_to_box"];
  const auto offsets = interleave(flatten<float>(example["inputs"]["y"]), flatten<float>(example["inputs"]["x"]));
  const auto moment = flatten<float>(example["inputs"]["moment_transfer"]);
  const float moment_mul = example["inputs"]["moment_mul"];
  for (int t = 0; t < 3; ++t) {
    SCOPED_TRACE(kNames[t]);
    const json& expected = example["expected"][kNames[t]];
    const auto box = forward(offsets, {0, 0, 1}, moment, kTransforms[t], 1, 9);
    const auto want = flatten(expected["box"]);
    for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(near(box[i], want[i], 1e-6, 1e-6)) << i;
    const Gradients g = backward(offsets, {0, 0, 1}, moment, kTransforms[t], moment_mul, {1, 2, 3, 4}, 1, 9);
    const auto y = flatten(expected["grad_y"]), x = flatten(expected["grad_x"]);
    for (size_t k = 0; k < 9; ++k) {
      EXPECT_TRUE(near(g.offsets[2 * k], y[k], 1e-6, 1e-6)) << k;
      EXPECT_TRUE(near(g.offsets[2 * k + 1], x[k], 1e-6, 1e-6)) << k;
    }
    const auto m = expected.contains("grad_moment_transfer") ? flatten(expected["grad_moment_transfer"])
                                                             : std::vector<double>{0, 0};
    for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(near(g.moment[i], m[i], 1e-8, 1e-6)) << i;
  }
}

// Offsets in cells of a stride-16 level against points and boxes in the image.
TEST(PointsToBoxes, AbsoluteCoordinates) {
  const json example = read_vectors("points_to_boxes")["offset_to_points"];
  const auto offsets = filler(example["inputs"]["offset"][0], 2 * 2 * 18, -2, 2);
  const std::vector<float> priors = {0, 0, 16, 16, 0, 16, 0, 16, 16, 16, 16, 16};
  const auto boxes = forward(offsets, priors, {0, 0}, BoxTransform::moment, 1, 9);
  const auto want = flatten(example["expected"]["box"]), y = flatten(example["expected"]["y"]),
             x = flatten(example["expected"]["x"]);
  for (size_t i = 0; i < 16; ++i) EXPECT_TRUE(near(boxes[i], want[i], 1e-5, 1e-5)) << i;
  const auto extremes = forward(offsets, priors, {}, BoxTransform::minmax, 1, 9);
  for (size_t cell = 0; cell < 4; ++cell) {
    EXPECT_TRUE(near(extremes[4 * cell], *std::min_element(&x[9 * cell], &x[9 * cell] + 9), 1e-5, 1e-5));
    EXPECT_TRUE(near(extremes[4 * cell + 1], *std::min_element(&y[9 * cell], &y[9 * cell] + 9), 1e-5, 1e-5));
    EXPECT_TRUE(near(extremes[4 * cell + 2], *std::max_element(&x[9 * cell], &x[9 * cell] + 9), 1e-5, 1e-5));
    EXPECT_TRUE(near(extremes[4 * cell + 3], *std::max_element(&y[9 * cell], &y[9 * cell] + 9), 1e-5, 1e-5));
  }
}

// The nine taps of a 3x3 kernel in the order of the offsets' channels: y before x, rows first.
TEST(PointsToBoxes, RegularGrid) {
  const auto grid = flatten<float>(read_vectors("points_to_boxes")["base_offset"]["expected"]["offset"]);
  EXPECT_EQ(forward(grid, {40, 24, 8}, {}, BoxTransform::minmax, 1, 9), (std::vector<float>{32, 16, 48, 32}));
  EXPECT_EQ(forward(grid, {40, 24, 8}, {}, BoxTransform::partial_minmax, 1, 9), (std::vector<float>{32, 16, 48, 24}));
  const auto box = forward(grid, {40, 24, 8}, {0, 0}, BoxTransform::moment, 1, 9);  // deviation sqrt(6 / 8)
  EXPECT_NEAR(box[0], 40 - 8 * std::sqrt(0.75), 1e-5);
  EXPECT_NEAR(box[3], 24 + 8 * std::sqrt(0.75), 1e-5);
}

// Equal points: a box without size, no gradient through the deviation, 1/9 of the upstream gradient through the mean.
TEST(PointsToBoxes, EqualPoints) {
  const json example = read_vectors("points_to_boxes")["points_to_box_degenerate"];
  const auto want = flatten<float>(example["expected"]["moment"]);
  const std::vector<float> half(18, example["inputs"]["y"].get<float>());
  EXPECT_EQ(forward(half, {0, 0, 1}, {0.2f, -0.3f}, BoxTransform::moment, 1, 9), want);
  for (const float value : {0.5f, 0.1f, -1e-3f, 12345.678f}) {  // a plain mean of nine 0.1f is not 0.1f
    const std::vector<float> offsets(18, value);
    const Gradients g = backward(offsets, {0, 0, 1}, {0.2f, -0.3f}, BoxTransform::moment, 1, {-1, -2, 1, 2}, 1, 9);
    for (const float v : g.offsets) EXPECT_EQ(v, 0) << value;
    EXPECT_EQ(g.moment, (std::vector<float>{0, 0}));
    const Gradients mean = backward(offsets, {0, 0, 2}, {0, 0}, BoxTransform::moment, 1, {4, 1, 5, 3.5f}, 1, 9);
    EXPECT_EQ(mean.offsets[0], 1);
    EXPECT_EQ(mean.offsets[1], 2);
  }
}

TEST(PointsToBoxes, TiesGoToTheLowestPoint) {
  //                          y  x
  const std::vector<float> offsets = {1, 2, 0, 2, 0, -1, 1, -1, 1, 2};
  const Gradients g = backward(offsets, {0, 0, 1}, {}, BoxTransform::minmax, 1, {1, 2, 3, 4}, 1, 5);
  EXPECT_EQ(g.offsets, (std::vector<float>{4, 3, 2, 0, 0, 1, 0, 0, 0, 0}));
  const Gradients equal = backward({7, 7, 7, 7}, {0, 0, 1}, {}, BoxTransform::minmax, 1, {1, 2, 3, 4}, 1, 2);
  EXPECT_EQ(equal.offsets, (std::vector<float>{6, 4, 0, 0}));
}

TEST(PointsToBoxes, NaNShows) {
  for (const BoxTransform transform : kTransforms)
    for (size_t k = 0; k < 4; ++k) {
      std::vector<float> offsets = {1, 2, 3, 4, 5, 6, 7, 8};
      offsets[2 * k] = kNaN;
      const auto box = forward(offsets, {0, 0, 1}, {0, 0}, transform, 1, 4);
      EXPECT_TRUE(std::isnan(box[1]) && std::isnan(box[3])) << k;
      EXPECT_TRUE(std::isfinite(box[0]) && std::isfinite(box[2])) << k;
    }
}

TEST(PointsToBoxes, NoRows) {
  EXPECT_TRUE(forward({}, {}, {0, 0}, BoxTransform::moment, 3, 9).empty());
  const Gradients g = backward({}, {}, {0, 0}, BoxTransform::moment, 1, {}, 3, 9);
  EXPECT_EQ(g.moment, (std::vector<float>{0, 0}));
  EXPECT_EQ(backward({}, {}, {0, 0}, BoxTransform::moment, 1, {}, 3, 9, Accumulate::add, 5).moment,
            (std::vector<float>{5, 5}));
}

// The same transform in double, with two-pass moments.
double oracle(const std::vector<double>& offsets, const std::vector<float>& priors, const std::vector<double>& moment,
              BoxTransform transform, const std::vector<float>& grad_boxes, int64_t N, int64_t K) {
  const int64_t P = static_cast<int64_t>(priors.size()) / 3;
  double sum = 0;
  for (int64_t row = 0; row < N * P; ++row)
    for (int axis = 0; axis < 2; ++axis) {
      std::vector<double> v;
      for (int64_t k = 0; k < K; ++k) v.push_back(offsets[static_cast<size_t>(row * 2 * K + 2 * k + 1 - axis)]);
      if (transform == BoxTransform::partial_minmax) v.resize(4);
      double lo = *std::min_element(v.begin(), v.end()), hi = *std::max_element(v.begin(), v.end());
      if (transform == BoxTransform::moment) {
        double mean = 0, squares = 0;
        for (const double x : v) mean += x / static_cast<double>(K);
        for (const double x : v) squares += (x - mean) * (x - mean);
        const double half =
            std::sqrt(squares / static_cast<double>(K - 1)) * std::exp(moment[static_cast<size_t>(axis)]);
        lo = mean - half;
        hi = mean + half;
      }
      const float* prior = &priors[static_cast<size_t>(3 * (row % P))];
      const float* g = &grad_boxes[static_cast<size_t>(4 * row + axis)];
      sum += double{g[0]} * (lo * double{prior[2]} + double{prior[axis]}) +
             double{g[2]} * (hi * double{prior[2]} + double{prior[axis]});
    }
  return sum;
}

TEST(PointsToBoxes, FiniteDifferences) {
  std::mt19937 rng(11);
  std::uniform_real_distribution<float> uniform(-2, 2);
  const int64_t N = 2, P = 3;
  const std::vector<float> priors = {0, 0, 8, 8, 16, 8, 32, 0, 16}, moment = {0.3f, -0.2f};
  for (int t = 0; t < 3; ++t)
    for (const int64_t K : {4, 9}) {
      SCOPED_TRACE(kNames[t]);
      std::vector<float> offsets(static_cast<size_t>(N * P * 2 * K)), grad_boxes(static_cast<size_t>(N * P * 4));
      for (float& v : offsets) v = uniform(rng);
      for (float& v : grad_boxes) v = uniform(rng);
      const Gradients g = backward(offsets, priors, moment, kTransforms[t], 0.01f, grad_boxes, N, K);
      const Gradients added =
          backward(offsets, priors, moment, kTransforms[t], 0.01f, grad_boxes, N, K, Accumulate::add, 0.5f);
      const std::vector<double> at(offsets.begin(), offsets.end()), m(moment.begin(), moment.end());
      const double h = 1e-5;
      for (size_t i = 0; i < at.size(); ++i) {
        auto up = at, down = at;
        up[i] += h;
        down[i] -= h;
        const double slope = (oracle(up, priors, m, kTransforms[t], grad_boxes, N, K) -
                              oracle(down, priors, m, kTransforms[t], grad_boxes, N, K)) /
                             (2 * h);
        EXPECT_TRUE(near(g.offsets[i], slope, 1e-4, 1e-4)) << i;
        EXPECT_TRUE(near(added.offsets[i], g.offsets[i] + 0.5f, 1e-6, 1e-6)) << i;
      }
      for (size_t i = 0; i < 2; ++i) {
        auto up = m, down = m;
        up[i] += h;
        down[i] -= h;
        const double slope = (oracle(at, priors, up, kTransforms[t], grad_boxes, N, K) -
                              oracle(at, priors, down, kTransforms[t], grad_boxes, N, K)) /
                             (2 * h);
        EXPECT_TRUE(near(g.moment[i], 0.01 * slope, 1e-5, 1e-5)) << i;
        EXPECT_TRUE(near(added.moment[i], g.moment[i] + 0.5f, 1e-6, 1e-6)) << i;
      }
    }
}

TEST(PointsToBoxes, SameBitsForEveryNumberOfThreads) {
  std::mt19937 rng(12);
  std::normal_distribution<float> normal;
  const int64_t N = 3, P = 501, K = 9;
  std::vector<float> offsets(static_cast<size_t>(N * P * 2 * K)), grad_boxes(static_cast<size_t>(N * P * 4)), priors;
  for (float& v : offsets) v = normal(rng);
  for (float& v : grad_boxes) v = normal(rng);
  for (int64_t p = 0; p < P; ++p) priors.insert(priors.end(), {static_cast<float>(p), 1, 8});
  const auto box = forward(offsets, priors, {0.1f, 0.2f}, BoxTransform::moment, N, K, 1);
  const Gradients one =
      backward(offsets, priors, {0.1f, 0.2f}, BoxTransform::moment, 1, grad_boxes, N, K, Accumulate::add, 1, 1);
  for (const int threads : {2, 3, 5}) {
    EXPECT_TRUE(same_bits(box, forward(offsets, priors, {0.1f, 0.2f}, BoxTransform::moment, N, K, threads)));
    const Gradients many =
        backward(offsets, priors, {0.1f, 0.2f}, BoxTransform::moment, 1, grad_boxes, N, K, Accumulate::add, 1, threads);
    EXPECT_TRUE(same_bits(one.offsets, many.offsets));
    EXPECT_TRUE(same_bits(one.moment, many.moment));
  }
}

TEST(PointsToBoxes, RefusesTooFewPoints) {
  EXPECT_THROW(forward({1, 2}, {0, 0, 1}, {0, 0}, BoxTransform::moment, 1, 1), std::invalid_argument);
  EXPECT_THROW(forward({1, 2, 3, 4, 5, 6}, {0, 0, 1}, {}, BoxTransform::partial_minmax, 1, 3), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
