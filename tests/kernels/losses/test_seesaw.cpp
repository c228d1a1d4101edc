// SPDX-License-Identifier: MIT
// Seesaw loss on the host: three steps on two ranks from a worked example, its definition in double, edges.
#include "kernels/losses/seesaw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/losses/count_labels.h"
#include "tests/kernels/losses/softmax_losses.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;

Cpu cpu(2);

SoftmaxResult run(const Floats& logits, const Labels& labels, const Floats& weights, const Doubles& counts,
                  const SeesawOptions& options = {}, double loss_weight = 1, double normalizer = 1, int threads = 2) {
  Cpu some(threads);
  const auto R = static_cast<int64_t>(labels.size()), C = static_cast<int64_t>(counts.size());
  SoftmaxResult result;
  result.grad.assign(logits.size(), kNaN);
  const Doubles norm{normalizer};
  // Part of the counts is this batch's.
  Doubles before, gained, loss{NAN}, workspace(static_cast<size_t>(seesaw_loss_workspace(R)), NAN);
  for (const double n : counts) gained.push_back(std::floor(n / 3)), before.push_back(n - gained.back());
  seesaw_loss(some, view(logits, {R, C + 1}), view(labels, {R}), view(weights, {R}), view(before, {C}),
              view(gained, {C}), options,
              {loss_weight, view(norm, {1}), view(loss, {1}), view(result.grad, {R, C + 1}),
               view(workspace, {static_cast<int64_t>(workspace.size())})});
  result.loss = loss[0];
  return result;
}

// Class logits with the objectness behind them.
Doubles channels(const json& class_values, const json& objectness) {
  Doubles all;
  for (size_t i = 0; i < class_values.size(); ++i) {
    for (const double v : flatten(class_values[i])) all.push_back(v);
    all.push_back(number(objectness[i]));
  }
  return all;
}
Floats rounded(const Doubles& values) { return {values.begin(), values.end()}; }

// Both parts of every row of an iteration: one row at a time, and again with an objectness that costs nothing.
void expect_rows(const json& iteration, const Doubles& counts, const SeesawOptions& options) {
  const size_t C = counts.size() - 1;
  for (size_t rank = 0; rank < 2; ++rank) {
    const json &input = iteration["inputs"][rank], &want = iteration["expected"]["per_rank"][rank];
    const Floats logits = rounded(channels(input["class_logits"], input["objectness_logit"]));
    const auto labels = flatten<int32_t>(input["labels"]);
    for (size_t i = 0; i < labels.size(); ++i) {
      if (labels[i] < 0) continue;
      Floats alone(labels.size(), 0), settled = logits;
      alone[i] = 1;
      settled[(C + 1) * i + C] = labels[i] < static_cast<int32_t>(C) ? 1e4f : -1e4f;
      const Doubles of_classes(counts.begin(), counts.end() - 1);
      const double by_class = number(want["class_row_loss"][i]), by_objectness = number(want["objectness_row_loss"][i]);
      EXPECT_TRUE(near(run(settled, labels, alone, of_classes, options).loss, by_class, 0, 1e-5)) << i;
      EXPECT_TRUE(near(run(logits, labels, alone, of_classes, options).loss, by_class + by_objectness, 0, 1e-5)) << i;
    }
  }
}

TEST(Seesaw, WorkedExample) {
  const json example = read_vectors("long_tail_losses")["seesaw"];
  const json& params = example["params"];
  const SeesawOptions options{params["p"], params["q"], params["eps"]};
  Doubles counts = flatten(example["initial_state"]["counts"]);
  ASSERT_EQ(example["iterations"].size(), 3u);
  for (const json& iteration : example["iterations"]) {
    const json& expected = iteration["expected"];
    for (const json& input : iteration["inputs"]) {
      const auto labels = flatten<int32_t>(input["labels"]);
      const auto weights = flatten<float>(input["weights"]);
      const auto R = static_cast<int64_t>(labels.size()), K = static_cast<int64_t>(counts.size());
      Doubles gained(counts.size(), NAN);
      count_labels(cpu, view(labels, {R}), view(weights, {R}), view(gained, {K}), {});
      for (size_t c = 0; c < counts.size(); ++c) counts[c] += gained[c];
    }
    EXPECT_EQ(counts, flatten(expected["counts_used"]));
    for (size_t rank = 0; rank < 2; ++rank) {
      const json &input = iteration["inputs"][rank], &want = expected["per_rank"][rank];
      const SoftmaxResult result =
          run(rounded(channels(input["class_logits"], input["objectness_logit"])), flatten<int32_t>(input["labels"]),
              flatten<float>(input["weights"]), {counts.begin(), counts.end() - 1}, options, 1, expected["avg_factor"]);
      EXPECT_TRUE(near(result.loss, number(want["total_class"]) + number(want["total_objectness"]), 0, 1e-5));
      expect_near(result.grad, channels(want["grad_class"], want["grad_objectness"]), 1e-30, 3e-6);
    }
    expect_rows(iteration, counts, options);
  }
  const json& inference = example["inference"];
  const Floats logits = rounded(channels(inference["class_logits"], inference["objectness_logit"]));
  Floats scores(8, kNaN);
  seesaw_scores(cpu, view(logits, {2, 5}), view(scores, {2, 4}));
  expect_near(scores, flatten(inference["scores"]), 1e-30, 3e-6);
}

// By the formula, S from probabilities and not from logarithms; S held as it is for `held`.
double defined(const Doubles& z, const Doubles& held, size_t label, const Doubles& counts, const SeesawOptions& o) {
  double total = 0, sum = 0;
  for (const double v : held) total += std::exp(v);
  const auto probability = [&](size_t j) { return std::exp(held[j]) / total; };
  const auto count = [&](size_t j) { return std::max(counts[j], 1.0); };
  for (size_t j = 0; j < z.size(); ++j) {
    const double mitigation = count(j) < count(label) ? std::pow(count(j) / count(label), o.p) : 1;
    const double quotient = probability(j) / std::max(probability(label), o.eps);
    const double S = j == label ? 1 : mitigation * (quotient > 1 ? std::pow(quotient, o.q) : 1);
    sum += S * std::exp(z[j]);
  }
  return -std::log(std::exp(z[label]) / sum);
}

TEST(Seesaw, AgreesWithItsDefinitionAndDifferences) {
  std::mt19937 rng(11);
  for (const SeesawOptions options :
       {SeesawOptions{}, SeesawOptions{.p = 0}, SeesawOptions{.q = 0}, SeesawOptions{.p = 1.5, .q = 0.7, .eps = 0.2}})
    for (const size_t C : {1u, 2u, 5u, 33u}) {
      const Floats logits = random_floats(static_cast<int64_t>(C + 1), rng, -4, 4);
      Doubles counts;
      for (size_t c = 0; c < C; ++c) counts.push_back(rng() % 5 == 0 ? 0 : rng() % 1000);
      const size_t label = rng() % C;
      const SoftmaxResult result = run(logits, {static_cast<int32_t>(label)}, {1}, counts, options);
      Doubles z(logits.begin(), logits.end() - 1);
      const Doubles held = z;
      const double o = logits.back();
      EXPECT_TRUE(near(result.loss, defined(z, held, label, counts, options) + std::log1p(std::exp(-o)), 1e-12, 1e-6));
      EXPECT_TRUE(near(result.grad.back(), -1 / (1 + std::exp(o)), 0, 3e-6));
      for (size_t j = 0; j < C; ++j) {
        const double h = 1e-6;
        z[j] = held[j] + h;
        const double up = defined(z, held, label, counts, options);
        z[j] = held[j] - h;
        const double down = defined(z, held, label, counts, options);
        z[j] = held[j];
        EXPECT_TRUE(near(result.grad[j], (up - down) / (2 * h), 1e-8, 1e-5)) << j;
      }
    }
}

// Both factors off: softmax cross-entropy. ln(1 + e^-1) for logits 1 and 0, and 1/2 of it by the normalizer.
TEST(Seesaw, ByHand) {
  const SoftmaxResult result = run({1, 0, 0}, {0}, {1}, {5, 5}, {.p = 0, .q = 0}, 1, 2);
  EXPECT_NEAR(result.loss, (std::log1p(std::exp(-1.0)) + std::log(2.0)) / 2, 1e-7);
  EXPECT_NEAR(result.grad[0], -0.5 / (1 + std::exp(1.0)), 1e-7);
  EXPECT_NEAR(result.grad[1], 0.5 / (1 + std::exp(1.0)), 1e-7);
  EXPECT_EQ(result.grad[2], -0.25f);
}

TEST(Seesaw, RowsThatTakeNoPart) {
  // Background: class logits may hold anything. Ignored rows: all may.
  const SoftmaxResult result = run({kNaN, kInfinity, 0, 1, 2, kNaN, kNaN, kNaN, kNaN}, {2, 0, -1}, {1, 0, 1}, {1, 1});
  EXPECT_NEAR(result.loss, std::log(2.0), 1e-7);
  EXPECT_EQ(result.grad, (Floats{0, 0, 0.5f, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(run({}, {}, {}, {1, 1}).loss, 0);
}

TEST(Seesaw, ExtremeLogits) {
  const SoftmaxResult wrong = run({-1e4f, 1e4f, -1e4f}, {0}, {1}, {9, 4}, {.q = 0});
  EXPECT_NEAR(wrong.loss, 2e4 + 0.8 * std::log(4.0 / 9) + 1e4, 0.01);
  EXPECT_EQ(wrong.grad, (Floats{-1, 1, -1}));
  const SoftmaxResult right = run({1e4f, -1e4f, 1e4f}, {0}, {1}, {9, 4});
  EXPECT_EQ(right.loss, 0);
  EXPECT_EQ(right.grad, (Floats{0, 0, 0}));
  // A row that is right by far keeps the digits of its small loss.
  EXPECT_TRUE(near(run({20, -20, 300}, {0}, {1}, {9, 9}, {}, 1, 1).loss, std::exp(-40.0), 0, 1e-12));
  const SoftmaxResult bad = run({1, kNaN, 2}, {0}, {1}, {9, 4});
  EXPECT_TRUE(std::isnan(bad.loss) && std::isnan(bad.grad[0]) && std::isnan(bad.grad[1]));
  EXPECT_TRUE(std::isnan(run({kNaN, 1, 2}, {1}, {1}, {9, 4}).grad[1]));
  EXPECT_TRUE(std::isnan(run({1, 1, kNaN}, {2}, {1}, {9, 4}).loss));
}

TEST(Seesaw, SameBitsForEveryNumberOfThreads) {
  std::mt19937 rng(3);
  const Floats logits = random_floats(777 * 6, rng, -5, 5);
  Labels labels;
  for (int i = 0; i < 777; ++i) labels.push_back(static_cast<int32_t>(rng() % 7) - 1);
  const SoftmaxResult one = run(logits, labels, Floats(777, 1), {9, 3, 100, 0, 5}, {}, 1, 13, 1);
  for (const int threads : {2, 3, 5}) {
    const SoftmaxResult many = run(logits, labels, Floats(777, 1), {9, 3, 100, 0, 5}, {}, 1, 13, threads);
    EXPECT_EQ(one.loss, many.loss);
    EXPECT_TRUE(same_bits(one.grad, many.grad));
  }
}

TEST(Seesaw, RefusesWrongInput) {
  EXPECT_THROW(run({1, 2, 3}, {0}, {1}, {1, 1}, {.p = -1}), std::invalid_argument);
  EXPECT_THROW(run({1, 2, 3}, {0}, {1}, {1, 1}, {.eps = kNaN}), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
