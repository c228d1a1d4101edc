// SPDX-License-Identifier: MIT
// Smooth L1 on the host: worked examples, the two branches and their seam, weights, finite differences.
#include "kernels/losses/smooth_l1.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;

struct Result {
  double loss = NAN;
  std::vector<float> grad;
};

Result run(const std::vector<float>& pred, const std::vector<float>& target, const std::vector<float>& weights,
           const std::vector<float>& row_scales, float beta, double loss_weight, double normalizer, int threads = 2) {
  const auto P = static_cast<int64_t>(row_scales.size());
  const int64_t N = P > 0 ? static_cast<int64_t>(weights.size()) / P : 2;
  Cpu cpu(threads);
  Result result;
  result.grad.assign(pred.size(), kNaN);
  const std::vector<double> norm = {normalizer};
  std::vector<double> loss = {NAN};
  std::vector<double> workspace(static_cast<size_t>(smooth_l1_workspace(N * P)), NAN);
  smooth_l1(cpu, view(pred, {N, P, 4}), view(target, {N, P, 4}), view(weights, {N, P}), view(row_scales, {P}), beta,
            {loss_weight, view(norm, {1}), view(loss, {1}), view(result.grad, {N, P, 4}),
             view(workspace, {static_cast<int64_t>(workspace.size())})});
  result.loss = loss[0];
  return result;
}

TEST(SmoothL1, WorkedExamples) {
  const json vectors = read_vectors("smooth_l1")["smooth_l1"];
  ASSERT_EQ(vectors.size(), 3u);
  for (const json& example : vectors) {
    const auto weights = flatten<float>(example["row_weights"]);
    const Result result = run(flatten<float>(example["pred"]), flatten<float>(example["target"]), weights,
                              std::vector<float>(weights.size(), 1), example["beta"], 1, example["avg_factor"]);
    EXPECT_TRUE(near(result.loss, example["total"], 0, 1e-6));
    const auto grad = flatten(example["grad"]);
    for (size_t i = 0; i < grad.size(); ++i) EXPECT_TRUE(near(result.grad[i], grad[i], 0, 3e-6)) << i;
  }
}

// The head's example weights single coordinates; its one coordinate of weight 0 has no difference, so row weights do
// the same.
TEST(SmoothL1, HeadExample) {
  const json example = read_vectors("smooth_l1")["smooth_l1_head"];
  const json& in = example["inputs"];
  const Result result = run(flatten<float>(in["pred"]), flatten<float>(in["target"]), {1, 1}, {1, 1}, in["beta"],
                            in["loss_weight"], in["avg_factor"].get<double>() + 1.1920929e-07);
  EXPECT_TRUE(near(result.loss, example["expected"]["loss"], 0, 1e-6));
  const auto grad = flatten(example["expected"]["grad"]);
  for (size_t i = 0; i < grad.size(); ++i) EXPECT_TRUE(near(result.grad[i], grad[i], 0, 3e-6)) << i;
}

// beta = 0.5: 0.25 is on the parabola (0.0625), 0.5 on the seam where both forms give 0.25, 2 on the line (1.75).
TEST(SmoothL1, ByHandWithRowScaleAndWeight) {
  const Result result = run({1, 2, -8, 0}, {0, 0, 0, 0}, {3}, {0.25f}, 0.5f, 2, 4);
  EXPECT_DOUBLE_EQ(result.loss, 2.0 / 4 * 3 * (0.0625 + 0.25 + 1.75 + 0));
  EXPECT_EQ(result.grad, (std::vector<float>{0.1875f, 0.375f, -0.375f, 0}));  // 1.5 * l' * 0.25
}

TEST(SmoothL1, RowScaleIsSharedByImages) {
  const std::vector<float> ones(2 * 2 * 4, 1), zeros(2 * 2 * 4, 0);
  const Result result = run(ones, zeros, {1, 1, 1, 1}, {1, 0.5f}, 0.1f, 1, 1);
  EXPECT_NEAR(result.loss, 2 * 4 * (0.95 + 0.45), 1e-6);
  EXPECT_EQ(result.grad[0], 1);
  EXPECT_EQ(result.grad[4], 0.5f);
  EXPECT_EQ(result.grad[8], 1);
  EXPECT_EQ(result.grad[12], 0.5f);
}

TEST(SmoothL1, WeightZeroSelectsAndNaNShows) {
  const std::vector<float> pred = {kNaN, kInfinity, 0, 0, 1, 1, 1, 1}, target(8, 0);
  const Result ignored = run(pred, target, {0, 1}, {1, 1}, 0.1f, 1, 1);
  EXPECT_NEAR(ignored.loss, 3.8, 1e-6);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(ignored.grad[i], 0);
  const Result bad = run(pred, target, {1, 1}, {1, 1}, 0.1f, 1, 1);
  EXPECT_TRUE(std::isnan(bad.loss));
  EXPECT_TRUE(std::isnan(bad.grad[0]));
  EXPECT_EQ(bad.grad[1], 1);
  EXPECT_EQ(bad.grad[4], 1);
}

TEST(SmoothL1, NoRows) {
  EXPECT_EQ(run({}, {}, {}, {}, 0.1f, 1, 1).loss, 0);
  EXPECT_EQ(run({1, 2, 3, 4}, {0, 0, 0, 0}, {0}, {1}, 0.1f, 1, 1).loss, 0);
}

TEST(SmoothL1, FiniteDifferences) {
  std::mt19937 rng(5);
  std::uniform_real_distribution<float> uniform(-2, 2);
  std::vector<float> pred(3 * 5 * 4), target(3 * 5 * 4), weights(15), scales(5);
  for (auto* values : {&pred, &target, &weights, &scales})
    for (float& v : *values) v = uniform(rng);
  const double beta = 0.4, loss_weight = 0.7, normalizer = 3;
  const auto oracle = [&](size_t moved, double by) {
    double sum = 0;
    for (size_t i = 0; i < pred.size(); ++i) {
      const double p = double{pred[i]} + (i == moved ? by : 0);
      const double d = std::abs((p - double{target[i]}) * double{scales[i / 4 % 5]});
      sum += double{weights[i / 4]} * (d < beta ? d * d / (2 * beta) : d - beta / 2);
    }
    return loss_weight / normalizer * sum;
  };
  const Result result = run(pred, target, weights, scales, 0.4f, loss_weight, normalizer);
  EXPECT_TRUE(near(result.loss, oracle(0, 0), 1e-6, 1e-6));
  for (size_t i = 0; i < pred.size(); ++i)
    EXPECT_TRUE(near(result.grad[i], (oracle(i, 1e-5) - oracle(i, -1e-5)) / 2e-5, 1e-5, 1e-4)) << i;
}

TEST(SmoothL1, SameBitsForEveryNumberOfThreads) {
  std::mt19937 rng(6);
  std::uniform_real_distribution<float> uniform(-2, 2);
  std::vector<float> pred(2 * 1333 * 4), target(2 * 1333 * 4), weights(2 * 1333), scales(1333);
  for (auto* values : {&pred, &target, &weights, &scales})
    for (float& v : *values) v = uniform(rng);
  const Result one = run(pred, target, weights, scales, 0.11f, 1, 7, 1);
  for (const int threads : {2, 3, 5}) {
    const Result many = run(pred, target, weights, scales, 0.11f, 1, 7, threads);
    EXPECT_EQ(one.loss, many.loss);
    EXPECT_TRUE(same_bits(one.grad, many.grad));
  }
}

TEST(SmoothL1, RefusesWrongInput) {
  EXPECT_THROW(run({1, 2, 3, 4}, {0, 0, 0, 0}, {1}, {1}, 0, 1, 1), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
