// SPDX-License-Identifier: MIT
// Equalization loss v2 on the host: three steps on two ranks from a worked example, its sums and weights, edges.
#include "kernels/losses/eqlv2.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/losses/sigmoid_loss.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;
using Doubles = std::vector<double>;
using Floats = std::vector<float>;

Cpu cpu(2);

Floats weights_of(const Doubles& ratios, int64_t K, const EqlV2Options& options = {}) {
  Floats weights(static_cast<size_t>(2 * K), kNaN);
  eqlv2_weights(cpu, view(ratios, {static_cast<int64_t>(ratios.size())}), options, view(weights, {2, K}));
  return weights;
}

Doubles gradients_of(const Floats& logits, const std::vector<int32_t>& labels, const Floats& row_weights,
                     const Floats& weights, int64_t C, int threads = 2) {
  Cpu some(threads);
  const auto R = static_cast<int64_t>(labels.size()), K = static_cast<int64_t>(weights.size()) / 2;
  Doubles gradients(static_cast<size_t>(2 * C), NAN),
      workspace(static_cast<size_t>(eqlv2_gradients_workspace(R, C)), NAN);
  eqlv2_gradients(some, view(logits, {R, K}), view(labels, {R}), view(row_weights, {R}), view(weights, {2, K}),
                  view(gradients, {2, C}), view(workspace, {static_cast<int64_t>(workspace.size())}));
  return gradients;
}

struct Result {
  double loss = NAN;
  Floats grad;
};
Result loss_of(const Floats& logits, const std::vector<int32_t>& labels, const Floats& row_weights,
               const Floats& weights, double normalizer) {
  const auto R = static_cast<int64_t>(labels.size()), K = static_cast<int64_t>(weights.size()) / 2;
  Result result;
  result.grad.assign(logits.size(), kNaN);
  const Doubles norm{normalizer};
  Doubles loss{NAN}, workspace(static_cast<size_t>(sigmoid_loss_workspace(R, K)));
  sigmoid_loss(cpu, view(logits, {R, K}), view(labels, {R}), view(row_weights, {R}),
               EqlV2{weights.data(), static_cast<int>(K)},
               {1, view(norm, {1}), view(loss, {1}), view(result.grad, {R, K}),
                view(workspace, {static_cast<int64_t>(workspace.size())})});
  result.loss = loss[0];
  return result;
}

// The state of a training.
struct State {
  Doubles sums, ratios;
  explicit State(size_t C) : sums(2 * C, 0), ratios(C, kEqlV2FirstRatio) {}
  void accumulate(const Doubles& gained, float ok = 1) {
    const auto C = static_cast<int64_t>(ratios.size());
    const Floats flag{ok};
    eqlv2_accumulate(cpu, view(gained, {2, C}), view(flag, {1}), view(sums, {2, C}), view(ratios, {C}));
  }
};

Doubles joined(const json& first, const json& second) {
  Doubles all = flatten(first);
  for (const double v : flatten(second)) all.push_back(v);
  return all;
}

TEST(EqlV2, WorkedExample) {
  const json example = read_vectors("long_tail_losses")["eqlv2"];
  const json& params = example["params"];
  const EqlV2Options options{params["gamma"], params["mu"], params["alpha"]};
  const int64_t C = params["num_classes"];
  State state(static_cast<size_t>(C));
  ASSERT_EQ(state.ratios, flatten(example["initial_state"]["ratio"]));
  ASSERT_EQ(example["iterations"].size(), 3u);
  for (const json& iteration : example["iterations"]) {
    const json& expected = iteration["expected"];
    const Floats weights = weights_of(state.ratios, C, options);
    expect_near(weights, joined(expected["neg_weight"], expected["pos_weight"]), 0, 1e-6);
    Doubles gained(static_cast<size_t>(2 * C), 0);
    for (size_t rank = 0; rank < 2; ++rank) {
      const json &input = iteration["inputs"][rank], &want = expected["per_rank"][rank];
      const auto logits = flatten<float>(input["logits"]), row_weights = flatten<float>(input["weights"]);
      const auto labels = flatten<int32_t>(input["labels"]);
      const auto element_loss = flatten(want["element_loss"]);
      for (size_t i = 0; i < logits.size(); ++i) {
        const EntryPlace place{labels[i / static_cast<size_t>(C)], static_cast<int32_t>(i % static_cast<size_t>(C))};
        const auto entry = sigmoid_entry(logits[i], place, EqlV2{weights.data(), static_cast<int>(C)}.weight<float>());
        EXPECT_TRUE(near(entry.loss, element_loss[i], 1e-30, 3e-6)) << "entry " << i;
      }
      const Result result = loss_of(logits, labels, row_weights, weights, expected["avg_factor"]);
      EXPECT_TRUE(near(result.loss, want["total"], 0, 1e-5));
      expect_near(result.grad, flatten(want["grad"]), 1e-30, 3e-6);
      const Doubles part = gradients_of(logits, labels, row_weights, weights, C);
      for (size_t k = 0; k < gained.size(); ++k) gained[k] += part[k];
    }
    expect_near(gained, joined(expected["pos_increment"], expected["neg_increment"]), 0, 3e-6);
    state.accumulate(gained);
    const json& after = expected["state_after"];
    expect_near(state.sums, joined(after["pos_grad"], after["neg_grad"]), 0, 3e-6);
    expect_near(state.ratios, flatten(after["ratio"]), 0, 3e-6);
  }
}

// Ratio 100, before the first step: plain cross-entropy. Ratio 0, negatives alone so far: f = sigmoid(-9.6).
TEST(EqlV2, WeightsAtTheEnds) {
  EXPECT_EQ(weights_of({100, 0.8}, 2), (Floats{1, 0.5f, 1, 3}));
  const Floats none = weights_of({0}, 2);
  EXPECT_TRUE(near(none[0], 6.772414961977012e-05, 0, 1e-6));
  EXPECT_TRUE(near(none[2], 4.999729103401521, 0, 1e-6));
  EXPECT_EQ(none[1], 1) << "the background's channel";
  EXPECT_EQ(none[3], 1);
}

TEST(EqlV2, SumsAgreeWithTheirDefinition) {
  std::mt19937 rng(5);
  for (const auto& [R, C, background] : {std::tuple<int64_t, int64_t, bool>{1, 1, false},
                                         {64, 10, false},
                                         {777, 7, true},
                                         {17000, 3, false},
                                         {5, 300, true}}) {
    const int64_t K = C + (background ? 1 : 0);
    const Floats logits = random_floats(R * K, rng, -8, 8);
    Doubles ratios;
    for (int64_t c = 0; c < C; ++c) ratios.push_back(0.3 * static_cast<double>(rng() % 8));
    const Floats weights = weights_of(ratios, K);
    std::vector<int32_t> labels;
    Floats row_weights;
    Doubles want(static_cast<size_t>(2 * C), 0);
    for (int64_t i = 0; i < R; ++i) {
      labels.push_back(static_cast<int32_t>(rng() % static_cast<uint32_t>(C + 2)) - 1);
      row_weights.push_back(static_cast<float>(rng() % 3) / 2);
      if (labels.back() < 0) continue;
      for (int64_t c = 0; c < C; ++c) {
        const double p = 1 / (1 + std::exp(-double{logits[static_cast<size_t>(i * K + c)]}));
        if (labels.back() == c)
          want[static_cast<size_t>(c)] += row_weights.back() * double{weights[static_cast<size_t>(K + c)]} * (1 - p);
        else
          want[static_cast<size_t>(C + c)] += row_weights.back() * double{weights[static_cast<size_t>(c)]} * p;
      }
    }
    const Doubles one = gradients_of(logits, labels, row_weights, weights, C, 1);
    expect_near(one, want, 1e-12, 3e-6);
    for (const int threads : {2, 3}) EXPECT_EQ(one, gradients_of(logits, labels, row_weights, weights, C, threads));
  }
}

TEST(EqlV2, IgnoredRowsAddNothingAndNaNShows) {
  const Floats weights = weights_of({1, 1}, 2);
  EXPECT_EQ(gradients_of({kNaN, kInfinity, kNaN, 1}, {0, -1}, {0, 1}, weights, 2), Doubles(4, 0));
  EXPECT_EQ(gradients_of({}, {}, {}, weights, 2), Doubles(4, 0));
  const Doubles bad = gradients_of({kNaN, 0, 1, 1}, {0, 2}, {1, 1}, weights, 2);
  for (const size_t k : {0u, 1u, 2u, 3u}) EXPECT_EQ(std::isnan(bad[k]), k == 0) << k;
  // An infinite logit on the wrong side is a gradient of 1.
  EXPECT_EQ(gradients_of({-kInfinity, kInfinity}, {0}, {1}, Floats(4, 1), 2), (Doubles{1, 0, 0, 1}));
}

TEST(EqlV2, AStepWithoutUpdateLeavesNoTrace) {
  State state(1);
  state.accumulate({0.5, 0.25});
  const State before = state;
  state.accumulate({kNaN, 7}, kNaN);
  state.accumulate({1, 7}, kInfinity);
  EXPECT_EQ(state.sums, before.sums);
  EXPECT_EQ(state.ratios, before.ratios);
  state.accumulate({0.5, 0.25});
  EXPECT_EQ(state.sums, (Doubles{1, 0.5}));
  EXPECT_NEAR(state.ratios[0], 2, 1e-8);
}

TEST(EqlV2, ScoresOfThePublishedLayout) {
  const Floats logits{0, std::log(3.0f), 0, 2, kNaN, std::log(3.0f), -200, 300, kInfinity};
  Floats scores(6, kNaN);
  eqlv2_scores(cpu, view(logits, {3, 3}), view(scores, {3, 2}));
  EXPECT_FLOAT_EQ(scores[0], 0.25f);
  EXPECT_FLOAT_EQ(scores[1], 0.375f);
  EXPECT_NEAR(scores[2], 0.25 / (1 + std::exp(-2.0)), 1e-7);
  EXPECT_TRUE(std::isnan(scores[3]));
  EXPECT_EQ(scores[4], 0);
  EXPECT_EQ(scores[5], 0);
}

TEST(EqlV2, RefusesWrongShapes) {
  EXPECT_THROW(gradients_of({1, 2, 3}, {0}, {1}, Floats(6, 1), 1), std::invalid_argument);
  EXPECT_THROW(weights_of({1, 1, 1}, 2), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
