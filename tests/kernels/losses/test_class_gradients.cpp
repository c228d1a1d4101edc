// SPDX-License-Identifier: MIT
// Sums of gradients by class on the host: the worked example, rows that do not count, channels of other losses.
#include "kernels/losses/class_gradients.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/losses/grad_libra.h"
#include "kernels/losses/sigmoid_loss.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;

struct Input {
  std::vector<float> logits, grads, weights;
  std::vector<int32_t> labels, channels;
  std::vector<double> normalizers{1};
};

std::vector<double> sums_of(const Input& in, const ClassGradients& options = {}, int threads = 2) {
  Cpu cpu(threads);
  const auto R = static_cast<int64_t>(in.labels.size()), C = static_cast<int64_t>(in.channels.size());
  const int64_t K = R == 0 ? C : static_cast<int64_t>(in.logits.size()) / R;
  std::vector<double> sums(static_cast<size_t>(class_gradients_size(C)), NAN);
  std::vector<double> workspace(static_cast<size_t>(class_gradients_workspace(R, C)), NAN);
  class_gradients(cpu, view(in.logits, {R, K}), view(in.grads, {R, K}), view(in.labels, {R}), view(in.weights, {R}),
                  view(in.channels, {C}), view(in.normalizers, {static_cast<int64_t>(in.normalizers.size())}), options,
                  view(sums, {class_gradients_size(C)}), view(workspace, {static_cast<int64_t>(workspace.size())}));
  return sums;
}

std::vector<double> part(const std::vector<double>& all, int64_t from, int64_t size) {
  return {all.begin() + from, all.begin() + from + size};
}

// The gradient that Grad-Libra gives these rows.
std::vector<float> grad_libra(const Input& in, int64_t C, double loss_weight, double normalizer) {
  Cpu cpu(1);
  const auto R = static_cast<int64_t>(in.labels.size());
  std::vector<float> grads(in.logits.size());
  std::vector<double> loss(1), workspace(static_cast<size_t>(sigmoid_loss_workspace(R, C)));
  const std::vector<double> norm{normalizer};
  sigmoid_loss(cpu, view(in.logits, {R, C}), view(in.labels, {R}), view(in.weights, {R}), GradLibra{},
               {loss_weight, view(norm, {1}), view(loss, {1}), view(grads, {R, C}),
                view(workspace, {static_cast<int64_t>(workspace.size())})});
  return grads;
}

// Three steps of two ranks: sums of each step, and the ratio that they run up to. What the loss was divided and
// multiplied by must not show.
TEST(ClassGradients, WorkedExample) {
  const json example = read_vectors("class_gradients")["gradient_ratio"];
  const int64_t C = example["num_classes"];
  const double loss_weight = 1.5, normalizer = 7;
  std::vector<double> totals(static_cast<size_t>(class_gradients_size(C)), 0);
  Cpu cpu(1);
  const std::vector<float> ok{1};
  for (const json& iteration : example["iterations"]) {
    std::vector<double> sums(totals.size(), 0);
    for (const json& rank : iteration["inputs"]) {
      Input in{.logits = flatten<float>(rank["logits"]),
               .grads = {},
               .weights = flatten<float>(rank["weights"]),
               .labels = flatten<int32_t>(rank["labels"]),
               .channels = {0, 1, 2},
               .normalizers = {normalizer}};
      in.grads = grad_libra(in, C, loss_weight, normalizer);
      const std::vector<double> own = sums_of(in, {.loss_weight = loss_weight});
      for (size_t j = 0; j < sums.size(); ++j) sums[j] += own[j];
    }
    const json& want = iteration["expected"];
    EXPECT_EQ(sums[static_cast<size_t>(4 * C)], want["valid_rows"].get<double>());
    const char* names[4] = {"ce_pos_sum", "ce_neg_sum", "loss_pos_sum", "loss_neg_sum"};
    for (int k = 0; k < 4; ++k) expect_near(part(sums, k * C, C), flatten(want[names[k]]), 0, 3e-6);
    const Shape size{class_gradients_size(C)};
    add_class_gradients(cpu, view(std::as_const(sums), size), view(ok, {1}), view(totals, size));
    const char* cumulative[4] = {"cumulative_ce_pos", "cumulative_ce_neg", "cumulative_loss_pos",
                                 "cumulative_loss_neg"};
    for (int k = 0; k < 4; ++k) expect_near(part(totals, k * C, C), flatten(want[cumulative[k]]), 0, 3e-6);
    for (int64_t c = 0; c < C; ++c) {
      const auto at = [&](int64_t k) { return totals[static_cast<size_t>(k * C + c)]; };
      EXPECT_TRUE(near(at(0) / (at(1) + 1e-10), flatten(want["ratio_ce"])[static_cast<size_t>(c)], 0, 3e-6));
      EXPECT_TRUE(near(at(2) / (at(3) + 1e-10), flatten(want["ratio_loss"])[static_cast<size_t>(c)], 0, 3e-6));
    }
  }
  EXPECT_EQ(totals[static_cast<size_t>(4 * C)], 3);
}

// Class 0 has channel 2, class 1 channel 0; channel 1 is nobody's. Logit 0: |p - y| = 1/2.
TEST(ClassGradients, ChannelsAndNormalizersByClass) {
  const Input in{.logits = {0, 99, 0, 0, -99, 0},
                 .grads = {-1, 50, 2, 0, 50, -4},
                 .weights = {1, 0.5f},
                 .labels = {1, 0},
                 .channels = {2, 0},
                 .normalizers = {10, 100}};
  // Row 0 is class 1's, row 1 class 0's.
  EXPECT_EQ(sums_of(in), (std::vector<double>{0.25, 0.5, 0.5, 0.25, 40, 100, 20, 0, 2, 0, 0, 0, 0}));
  // Row 1 has no gradient at class 1: it says nothing about it.
  EXPECT_EQ(sums_of(in, {.every_row = false}), (std::vector<double>{0.25, 0.5, 0.5, 0, 40, 100, 20, 0, 2, 0, 0, 0, 0}));
  EXPECT_EQ(sums_of(in, {.loss_weight = 0}), (std::vector<double>{0.25, 0.5, 0.5, 0.25, 0, 0, 0, 0, 2, 0, 0, 0, 0}));
  // All a little to the wrong side of 0, or all to the right one.
  Input leaning = in;
  leaning.logits = {-1e-20f, 99, 1e-20f, 1e-20f, -99, -1e-20f};
  EXPECT_EQ(part(sums_of(leaning), 9, 4), (std::vector<double>{40, 100, 20, 0}));
  for (float& z : leaning.logits) z = -z;
  EXPECT_EQ(part(sums_of(leaning), 9, 4), (std::vector<double>{0, 0, 0, 0}));
}

TEST(ClassGradients, RowsThatDoNotCountAreSelectedOut) {
  const Input in{.logits = {kNaN, 0, kInfinity, 0},
                 .grads = {kNaN, -0.5f, kNaN, 0.25f},
                 .weights = {0, 1, 1, 1},
                 .labels = {0, 0, -1, 1},
                 .channels = {0}};
  EXPECT_EQ(sums_of(in), (std::vector<double>{0.5, 0.5, 0.5, 0.25, 2, 0, 0}));
  EXPECT_EQ(sums_of({.logits = {}, .grads = {}, .weights = {}, .labels = {}, .channels = {0}}),
            std::vector<double>(7, 0.0));
  // Far out: nothing overflows, and a NaN that counts shows.
  const Input far{
      .logits = {-1e4f, 1e4f, kNaN}, .grads = {1, 1, 1}, .weights = {1, 1, 1}, .labels = {0, 1, 1}, .channels = {0}};
  const std::vector<double> sums = sums_of(far);
  EXPECT_EQ(sums[0], 1);
  EXPECT_TRUE(std::isnan(sums[1]));
}

TEST(ClassGradients, SameBitsForEveryNumberOfThreadsAndRightOnes) {
  const int64_t R = 1500, C = 7;
  Input in{
      .logits = random_floats(R * C, 1, -6, 6), .grads = random_floats(R * C, 2), .weights = random_floats(R, 3, 0, 1)};
  std::mt19937 rng(4);
  for (int64_t i = 0; i < R; ++i) in.labels.push_back(static_cast<int32_t>(rng() % (C + 2)) - 1);
  in.channels.resize(C);
  std::iota(in.channels.begin(), in.channels.end(), 0);
  const std::vector<double> one = sums_of(in, {}, 1);
  EXPECT_TRUE(same_bits(one, sums_of(in, {}, 3)));
  std::vector<double> want(class_gradients_size(C), 0);
  for (size_t i = 0; i < R; ++i) {
    if (in.labels[i] < 0) continue;
    want[4 * C] += 1;
    for (size_t c = 0; c < C; ++c) {
      const bool positive = in.labels[i] == static_cast<int32_t>(c);
      const double p = 1 / (1 + std::exp(-double{in.logits[i * C + c]}));
      want[c + (positive ? 0 : C)] += double{in.weights[i]} * std::abs(p - positive);
      want[2 * C + c + (positive ? 0 : C)] += double{std::abs(in.grads[i * C + c])};
      if (std::abs(p - positive) > 0.5)
        want[4 * C + 1 + c + (positive ? 0 : C)] += double{std::abs(in.grads[i * C + c])};
    }
  }
  expect_near(one, want, 0, 1e-6);
}

TEST(ClassGradients, AStepThatIsNotFiniteAddsNothing) {
  Cpu cpu(1);
  const std::vector<double> sums{2, 4, 6, 8, 4, 12, 16}, none{0, 0, 0, 0, 0, 0, 0};
  std::vector<double> totals{1, 1, 1, 1, 10, 1, 1};
  const auto add = [&](const std::vector<double>& step, float ok) {
    const std::vector<float> flag{ok};
    add_class_gradients(cpu, view(step, {7}), view(flag, {1}), view(totals, {7}));
  };
  add(sums, kNaN);
  EXPECT_EQ(totals, (std::vector<double>{1, 1, 1, 1, 10, 1, 1}));
  add(sums, 0.3f);
  EXPECT_EQ(totals, (std::vector<double>{1.5, 2, 2.5, 3, 11, 4, 5}));
  add(none, 1);  // no row on any rank
  EXPECT_EQ(totals, (std::vector<double>{1.5, 2, 2.5, 3, 12, 4, 5}));
}

TEST(ClassGradients, RefusesWrongShapes) {
  const Input in{
      .logits = {0, 0}, .grads = {0, 0}, .weights = {1}, .labels = {0}, .channels = {0, 1}, .normalizers = {1, 1, 1}};
  EXPECT_THROW(sums_of(in), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
