// SPDX-License-Identifier: MIT
// Binary cross-entropy with real-valued targets on the host: worked examples, infinities, finite differences.
#include "kernels/losses/binary_cross_entropy.h"

#include <gtest/gtest.h>

#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Floats = std::vector<float>;

struct Result {
  double loss = NAN;
  Floats grad;
};

Result run(const Floats& logits, const Floats& targets, const Floats& weights, double loss_weight = 1,
           double normalizer = 1, int threads = 2) {
  const auto R = static_cast<int64_t>(weights.size());
  Cpu cpu(threads);
  Result result;
  result.grad.assign(logits.size(), kNaN);
  std::vector<double> norm{normalizer}, loss{NAN};
  std::vector<double> workspace(static_cast<size_t>(binary_cross_entropy_workspace(R)), NAN);
  binary_cross_entropy(cpu, view(logits, {R}), view(targets, {R}), view(weights, {R}),
                       {loss_weight, View<const double>(norm.data(), {1}), view(loss, {1}), view(result.grad, {R}),
                        view(workspace, {static_cast<int64_t>(workspace.size())})});
  result.loss = loss[0];
  return result;
}

TEST(BinaryCrossEntropy, WorkedExamples) {
  const auto vectors = read_vectors("centerness")["centerness_bce"];
  ASSERT_EQ(vectors.size(), 6u);
  for (const auto& example : vectors) {
    SCOPED_TRACE(example.dump());
    const Result result = run({example["logit"].get<float>()}, {example["target"].get<float>()}, {1});
    EXPECT_TRUE(near(result.loss, example["loss"], 0, 1e-7));
    EXPECT_TRUE(near(result.grad[0], example["grad"], 0, 3e-7));
  }
}

TEST(BinaryCrossEntropy, ByHandWithWeightsAndNormalizer) {
  // log 2 each; of the second row three parts.
  const Result result = run({0, 0, 5}, {0.5f, 1, 1}, {1, 3, 0}, 2, 4);
  EXPECT_DOUBLE_EQ(result.loss, 2.0 / 4 * 4 * std::log(2.0));
  EXPECT_EQ(result.grad, (Floats{0, -0.75f, 0}));
}

TEST(BinaryCrossEntropy, InfinitiesAndNaN) {
  EXPECT_EQ(run({kInfinity}, {1}, {1}).loss, 0);
  EXPECT_EQ(run({-kInfinity}, {0}, {1}).loss, 0);
  EXPECT_EQ(run({kInfinity}, {0}, {1}).loss, INFINITY);
  EXPECT_EQ(run({kInfinity}, {0}, {1}).grad[0], 1);
  EXPECT_EQ(run({-kInfinity}, {1}, {1}).grad[0], -1);
  EXPECT_EQ(run({1e4f}, {0.25f}, {1}).loss, 7500);
  EXPECT_TRUE(std::isnan(run({kNaN}, {0.5f}, {1}).loss));
  EXPECT_TRUE(std::isnan(run({kNaN}, {0.5f}, {1}).grad[0]));
  EXPECT_TRUE(std::isnan(run({1}, {kNaN}, {1}).loss));
  const Result ignored = run({kNaN, kInfinity, 0}, {kNaN, 0, 0}, {0, 0, 1});
  EXPECT_NEAR(ignored.loss, std::log(2.0), 1e-15);
  EXPECT_EQ(ignored.grad, (Floats{0, 0, 0.5f}));
}

TEST(BinaryCrossEntropy, NoRows) {
  EXPECT_EQ(run({}, {}, {}).loss, 0);
  EXPECT_EQ(run({3}, {0.5f}, {0}).loss, 0);
}

TEST(BinaryCrossEntropy, FiniteDifferences) {
  std::mt19937 rng(4);
  const Floats logits = random_floats(30, rng, -9, 9), targets = random_floats(30, rng, 0, 1);
  const Floats weights = random_floats(30, rng, 0, 2);
  const auto oracle = [&](size_t moved, double by) {
    double sum = 0;
    for (size_t i = 0; i < 30; ++i) {
      const double p = 1 / (1 + std::exp(-(double{logits[i]} + (i == moved ? by : 0)))), t = double{targets[i]};
      sum -= double{weights[i]} * (t * std::log(p) + (1 - t) * std::log(1 - p));
    }
    return 0.7 / 3 * sum;
  };
  const Result result = run(logits, targets, weights, 0.7, 3);
  EXPECT_TRUE(near(result.loss, oracle(0, 0), 0, 1e-10));
  for (size_t i = 0; i < 30; ++i)
    EXPECT_TRUE(near(result.grad[i], (oracle(i, 1e-6) - oracle(i, -1e-6)) / 2e-6, 1e-7, 1e-6)) << i;
}

TEST(BinaryCrossEntropy, SameBitsForEveryNumberOfThreads) {
  std::mt19937 rng(6);
  const Floats logits = random_floats(1333, rng, -5, 5), targets = random_floats(1333, rng, 0, 1);
  const Floats weights = random_floats(1333, rng, 0, 1);
  const Result one = run(logits, targets, weights, 1, 7, 1);
  for (const int threads : {2, 3}) {
    const Result many = run(logits, targets, weights, 1, 7, threads);
    EXPECT_EQ(one.loss, many.loss);
    EXPECT_TRUE(same_bits(one.grad, many.grad));
  }
}

}  // namespace
}  // namespace gradlibra::kernels
