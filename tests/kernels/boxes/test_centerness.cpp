// SPDX-License-Identifier: MIT
// Centerness on the host: worked examples, borders, rows without a box, sums.
#include "kernels/boxes/centerness.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Floats = std::vector<float>;

struct Result {
  Floats centerness;
  double sum = NAN;
};

Result run(const Floats& priors, const Floats& boxes, const Floats& weights, int threads = 2) {
  const auto P = static_cast<int64_t>(priors.size()) / 3;
  const int64_t N = P > 0 ? static_cast<int64_t>(weights.size()) / P : 2;
  Cpu cpu(threads);
  Result result;
  result.centerness.assign(weights.size(), kNaN);
  std::vector<double> sum{NAN}, workspace(static_cast<size_t>(centerness_workspace(N * P)), NAN);
  centerness_targets(cpu, view(priors, {P, 3}), view(boxes, {N, P, 4}), view(weights, {N, P}),
                     view(result.centerness, {N, P}), view(sum, {1}),
                     view(workspace, {static_cast<int64_t>(workspace.size())}));
  result.sum = sum[0];
  return result;
}

TEST(Centerness, WorkedExamples) {
  const auto vectors = read_vectors("centerness");
  for (const auto& example : vectors["centerness_target"]) {
    const auto d = flatten<float>(example["ltrb"]);
    EXPECT_TRUE(near(run({0, 0, 8}, {-d[0], -d[1], d[2], d[3]}, {1}).centerness[0], example["centerness"], 1e-8, 1e-7));
  }
  const auto ltrb = flatten<float>(vectors["centerness"]["inputs"]["ltrb"]);
  const auto want = flatten(vectors["centerness"]["expected"]["centerness"]);
  Floats priors, boxes;  // points far from the origin, on halves of pixels, so that their boxes are exact
  for (size_t i = 0; i < want.size(); ++i) {
    const auto x = static_cast<float>(100 + i), y = 200.5f;
    priors.insert(priors.end(), {x, y, 8});
    boxes.insert(boxes.end(), {x - ltrb[4 * i], y - ltrb[4 * i + 1], x + ltrb[4 * i + 2], y + ltrb[4 * i + 3]});
  }
  const Result result = run(priors, boxes, Floats(want.size(), 1));
  expect_near(result.centerness, want, 0, 1e-7);
  EXPECT_NEAR(result.sum, 1.0 + 0.577350269 + 0.0625, 1e-6);
}

TEST(Centerness, OnlyPositiveRowsInsideTheirBox) {
  const Floats priors{4, 4, 8, 12, 4, 8};
  const Floats boxes{0, 0, 8, 8, kNaN, 0, 0, 0, 4, 0, 8, 8, 13, 0, 20, 8};
  const Result result = run(priors, boxes, {1, 0, 1, 1});
  EXPECT_EQ(result.centerness, (Floats{1, 0, 0, 0}));  // the centre; no box; on the border; outside
  EXPECT_EQ(result.sum, 1);
  EXPECT_TRUE(std::isnan(run({4, 4, 8}, {kNaN, 0, 8, 8}, {1}).centerness[0]));
}

TEST(Centerness, NoRows) { EXPECT_EQ(run({}, {}, {}).sum, 0); }

TEST(Centerness, SumIsTheSameForEveryNumberOfThreads) {
  std::mt19937 rng(3);
  const int64_t P = 700;
  Floats priors, boxes;
  for (int64_t i = 0; i < P; ++i) priors.insert(priors.end(), {static_cast<float>(i), static_cast<float>(i % 30), 8});
  Floats weights = random_floats(2 * P, rng, 0, 1);
  for (float& w : weights) w = w < 0.5f ? 0 : 1;
  for (size_t i = 0; i < weights.size(); ++i) {
    const Floats d = random_floats(4, rng, 0.01f, 50);
    const float x = priors[3 * (i % P)], y = priors[3 * (i % P) + 1];
    boxes.insert(boxes.end(), {x - d[0], y - d[1], x + d[2], y + d[3]});
  }
  const Result one = run(priors, boxes, weights, 1);
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    EXPECT_EQ(one.centerness[i] > 0, weights[i] > 0) << i;
    EXPECT_LE(one.centerness[i], 1) << i;
    sum += double{one.centerness[i]};
  }
  EXPECT_NEAR(one.sum, sum, 1e-9);
  for (const int threads : {2, 5}) EXPECT_EQ(run(priors, boxes, weights, threads).sum, one.sum);
}

}  // namespace
}  // namespace gradlibra::kernels
