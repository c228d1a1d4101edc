// SPDX-License-Identifier: MIT
// Grids of points on regressed boxes on the host: the worked example, edges, double precision and its differences.
#include "kernels/boxes/grid_points.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "kernels/boxes/points_to_boxes.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/vectors.h"
#include "tests/messages.h"

namespace gradlibra::kernels {
namespace {

using namespace testing;

struct Grid {
  std::vector<float> points, boxes;
};

// previous: empty for squares of half a side `half`.
Grid forward(const Floats& regression, const std::vector<float>& previous, float half, int64_t n, int threads = 2) {
  Cpu cpu(threads);
  const int64_t rows = regression.size() / 4;
  Floats points({rows, 2 * n * n}), boxes(regression.shape);
  const View<const float> before =
      previous.empty() ? View<const float>() : View<const float>(previous.data(), regression.shape);
  grid_points(cpu, regression.view(), {before, half}, points.view(), boxes.view());
  return {points.values, boxes.values};
}

std::vector<float> backward(const Floats& regression, const std::vector<float>& previous, float half, int64_t n,
                            const std::vector<float>& grad_points, std::optional<float> add_to = {}) {
  Cpu cpu(2);
  Floats grad(regression.shape, add_to.value_or(kNaN));
  const View<const float> before =
      previous.empty() ? View<const float>() : View<const float>(previous.data(), regression.shape);
  grid_points_backward(cpu, regression.view(), {before, half}, {grad_points.data(), {regression.size() / 4, 2 * n * n}},
                       {grad.view(), add_to ? Accumulate::add : Accumulate::overwrite});
  return grad.values;
}

TEST(GridPoints, WorkedExample) {
  const nlohmann::json example = read_vectors("points_to_boxes")["grid_from_reg"];
  const Floats regression({1, 4}, flatten<float>(example["inputs"]["reg"]));
  const double tol = example["tol"];
  for (const bool squares : {false, true}) {
    const Grid grid =
        forward(regression, squares ? std::vector<float>() : flatten<float>(example["inputs"]["previous"]), 2,
                example["inputs"]["k"]);
    expect_near(grid.points, flatten(example["expected"]["grid_yx"]), tol, tol);
    expect_near(grid.boxes, flatten(example["expected"]["box"]), tol, tol);
    // The box that points_to_boxes makes of the points: the same bits.
    Cpu cpu(1);
    const Floats prior({1, 3}, {0, 0, 1});
    Floats box({1, 1, 4});
    points_to_boxes(cpu, {view(grid.points, {1, 1, 18}), prior.view(), {}, BoxTransform::minmax}, box.view());
    EXPECT_EQ(box.values, grid.boxes);
  }
}

// No regression leaves the previous box; a shift is in units of its size, ln 2 doubles it about its centre.
TEST(GridPoints, OnABox) {
  const Grid same = forward({{1, 4}, {0, 0, 0, 0}}, {10, 20, 14, 28}, 0, 3);
  EXPECT_EQ(same.boxes, (std::vector<float>{10, 20, 14, 28}));
  EXPECT_EQ(same.points, (std::vector<float>{20, 10, 20, 12, 20, 14, 24, 10, 24, 12, 24, 14, 28, 10, 28, 12, 28, 14}));
  const Grid moved = forward({{1, 4}, {0.5f, -1, std::log(2.0f), 0}}, {10, 20, 14, 28}, 0, 2);
  expect_near(moved.boxes, std::vector<float>{10, 12, 18, 20}, 1e-5);
  expect_near(moved.points, std::vector<float>{12, 10, 12, 18, 20, 10, 20, 18}, 1e-5);
}

// A box without size, or turned inside out, counts as one of 1e-6: finite, and it can grow.
TEST(GridPoints, PreviousBoxesWithoutSize) {
  for (const float width : {0.0f, -3.0f}) {
    const Floats regression({1, 4}, {1, 0, std::log(1e6f), 0});
    const Grid grid = forward(regression, {5, 1, 5 + width, 2}, 0, 3);
    const double centre = 5 + width / 2.0;
    EXPECT_TRUE(near(grid.boxes[0], centre - 0.5, 1e-4));
    EXPECT_TRUE(near(grid.boxes[2], centre + 0.5, 1e-4));
    const auto grad = backward(regression, {5, 1, 5 + width, 2}, 0, 3, std::vector<float>(18, 1.0f));
    EXPECT_TRUE(near(grad[0], 9e-6, 0, 1e-5));
    EXPECT_TRUE(near(grad[2], 0, 1e-6));
  }
}

TEST(GridPoints, NaNShows) {
  for (size_t k = 0; k < 4; ++k) {
    Floats regression({1, 4}, {0, 0, 0, 0});
    regression.values[k] = kNaN;
    const Grid grid = forward(regression, {}, 2, 3);
    for (size_t i = 0; i < 18; ++i) EXPECT_EQ(std::isnan(grid.points[i]), i % 2 != k % 2) << k << " " << i;
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(std::isnan(grid.boxes[i]), i % 2 == k % 2) << k << " " << i;
  }
  EXPECT_TRUE(std::isnan(forward({{1, 4}, {0, 0, 0, 0}}, {kNaN, 0, 1, 1}, 0, 3).boxes[0]));
}

TEST(GridPoints, NoRows) {
  EXPECT_TRUE(forward(Floats({0, 4}), {}, 2, 3).points.empty());
  EXPECT_TRUE(backward(Floats({0, 4}), {}, 2, 3, {}).empty());
}

// The points in double precision, from corners and centre as the definition has them.
double oracle(const std::vector<double>& regression, const std::vector<float>& previous, float half, int64_t n,
              const std::vector<float>& grad_points, std::vector<double>* points = nullptr) {
  double sum = 0;
  size_t at = 0;
  for (size_t row = 0; row < regression.size() / 4; ++row)
    for (int64_t k = 0; k < n * n; ++k)
      for (const size_t axis : {1u, 0u}) {  // y, x
        const double lo = previous.empty() ? -half : previous[4 * row + axis],
                     hi = previous.empty() ? half : previous[4 * row + 2 + axis], size = std::max(hi - lo, 1e-6);
        const double centre = (lo + hi) / 2 + size * regression[4 * row + axis],
                     extent = size * std::exp(regression[4 * row + 2 + axis]);
        const double part = static_cast<double>(axis == 0 ? k % n : k / n) / static_cast<double>(n - 1);
        const double v = centre - extent / 2 + extent * part;
        if (points != nullptr) points->push_back(v);
        sum += v * double{grad_points[at++]};
      }
  return sum;
}

TEST(GridPoints, FiniteDifferences) {
  for (const int64_t n : {2, 3, 5})
    for (const bool squares : {false, true}) {
      const int64_t rows = 7;
      const Floats regression = random_array({rows, 4}, 1);
      std::vector<float> previous;
      for (int64_t r = 0; r < rows && !squares; ++r) {
        const auto corner = random_floats(4, static_cast<uint32_t>(10 + r), 0.5f, 3);
        previous.insert(previous.end(), {corner[0], corner[1], corner[0] + corner[2], corner[1] + corner[3]});
      }
      const std::vector<float> seed = random_floats(rows * 2 * n * n, 3);
      std::vector<double> at(regression.values.begin(), regression.values.end()), want;
      (void)oracle(at, previous, 1.5f, n, seed, &want);
      expect_near(forward(regression, previous, 1.5f, n).points, want, 2e-6, 1e-6);
      const auto grad = backward(regression, previous, 1.5f, n, seed),
                 added = backward(regression, previous, 1.5f, n, seed, 0.5f);
      for (size_t i = 0; i < at.size(); ++i) {
        const double here = at[i], h = 1e-6;
        at[i] = here + h;
        const double above = oracle(at, previous, 1.5f, n, seed);
        at[i] = here - h;
        const double slope = (above - oracle(at, previous, 1.5f, n, seed)) / (2 * h);
        at[i] = here;
        EXPECT_TRUE(near(grad[i], slope, 1e-5, 1e-5)) << i;
        EXPECT_TRUE(near(added[i], grad[i] + 0.5f, 1e-5)) << i;
      }
    }
}

TEST(GridPoints, SameBitsForEveryNumberOfThreads) {
  const Floats regression = random_array({1000, 4}, 6);
  for (const int threads : {2, 5})
    EXPECT_TRUE(same_bits(forward(regression, {}, 2, 3, 1).points, forward(regression, {}, 2, 3, threads).points));
}

TEST(GridPoints, WrongShapesThrowWithTheNumbers) {
  Cpu cpu(1);
  Floats regression({2, 4}), points({2, 18}), boxes({2, 4}), odd({2, 12}), one({2, 2}), flat({2, 3});
  const auto message = [&](Floats& r, const PreviousBoxes& previous, Floats& p, Floats& b) {
    return message_of<std::invalid_argument>([&] { grid_points(cpu, r.view(), previous, p.view(), b.view()); });
  };
  EXPECT_EQ(message(flat, {}, points, boxes), "grid_points: regression must be (.., 4), is (2, 3)");
  for (Floats* wrong : {&odd, &one})
    EXPECT_HAS(message(regression, {}, *wrong, boxes), "grid_points: points must be (.., 2*n*n) for n >= 2");
  EXPECT_HAS(message(regression, {points.view(), 0}, points, boxes), "previous boxes has shape (2, 18)");
  EXPECT_HAS(message(regression, {}, points, points), "boxes has shape (2, 18), expected (2, 4)");
}

}  // namespace
}  // namespace gradlibra::kernels
