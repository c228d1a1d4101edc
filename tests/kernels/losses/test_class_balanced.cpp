// SPDX-License-Identifier: MIT
// The class-balanced member of the sigmoid family on the host: worked examples, and what its weight does to the base.
// The weights themselves: tests/models/test_classification_loss.cpp.
#include "kernels/losses/class_balanced.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/losses/cross_entropy.h"
#include "kernels/losses/focal.h"
#include "kernels/losses/sigmoid_loss.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;

struct Result {
  double loss = NAN;
  std::vector<float> grad;
};

template <class Member>
Result run(const std::vector<float>& logits, const std::vector<int32_t>& labels, const std::vector<float>& weights,
           const Member& member, double loss_weight = 1, double normalizer = 1) {
  const auto R = static_cast<int64_t>(labels.size()), C = static_cast<int64_t>(logits.size()) / R;
  Cpu cpu(2);
  Result result;
  result.grad.assign(logits.size(), kNaN);
  const std::vector<double> norm{normalizer};
  std::vector<double> loss{NAN}, workspace(static_cast<size_t>(sigmoid_loss_workspace(R, C)), NAN);
  sigmoid_loss(cpu, view(logits, {R, C}), view(labels, {R}), view(weights, {R}), member,
               {loss_weight, view(norm, {1}), view(loss, {1}), view(result.grad, {R, C}),
                view(workspace, {static_cast<int64_t>(workspace.size())})});
  result.loss = loss[0];
  return result;
}

template <class Base>
void expect_example(const json& example, const Base& base) {
  const json& params = example["params"];
  auto class_weights = flatten<float>(params["class_weights"]);
  class_weights.push_back(params["background_weight"]);
  const ClassBalanced<Base> member{base, class_weights.data(), params["weight_mode"] == "row"};
  const auto logits = flatten<float>(example["logits"]);
  const auto labels = flatten<int32_t>(example["labels"]);
  const json& expected = example["expected"];
  const auto element_loss = flatten(expected["element_loss"]), element_grad = flatten(expected["element_grad"]);
  const size_t C = logits.size() / labels.size();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (labels[i / C] < 0) continue;  // has no class to be weighed by
    const Entry<float> entry =
        sigmoid_entry(logits[i], {labels[i / C], static_cast<int32_t>(i % C)}, member.template weight<float>());
    EXPECT_TRUE(near(entry.loss, element_loss[i], 1e-30, 3e-6)) << "entry " << i;
    EXPECT_TRUE(near(entry.grad, element_grad[i], 1e-30, 3e-6)) << "entry " << i;
  }
  const Result result =
      run(logits, labels, flatten<float>(example["weights"]), member, example["loss_weight"], example["avg_factor"]);
  EXPECT_TRUE(near(result.loss, number(expected["total"]), 0, 1e-5));
  const auto grad = flatten(expected["grad"]);
  for (size_t i = 0; i < grad.size(); ++i) EXPECT_TRUE(near(result.grad[i], grad[i], 1e-30, 3e-6)) << "entry " << i;
}

TEST(ClassBalanced, WorkedExamples) {
  const json vectors = read_vectors("long_tail_losses");
  int focal = 0, plain = 0;
  for (const json& example : vectors["sigmoid_losses"]) {
    SCOPED_TRACE(example["id"].get<std::string>());
    if (example["params"]["base"] == "focal")
      expect_example(example, Focal{.gamma = example["params"]["gamma"]}), ++focal;
    else
      expect_example(example, CrossEntropy{}), ++plain;
  }
  EXPECT_EQ(focal, 1);
  EXPECT_EQ(plain, 2);
}

// Weights that are powers of two multiply exactly: every bit is the base's.
TEST(ClassBalanced, ScalesTheBase) {
  const std::vector<float> weights{0.25f, 4, 2}, logits{1, -2, 0.5f, 30, -4, 3};
  const std::vector<int32_t> labels{0, 1, 2};
  const Focal focal{.gamma = 1.5};
  const Result base = run(logits, labels, {1, 1, 1}, focal);
  const Result row = run(logits, labels, {1, 1, 1}, ClassBalanced<Focal>{focal, weights.data(), true});
  const Result element = run(logits, labels, {1, 1, 1}, ClassBalanced<Focal>{focal, weights.data(), false});
  for (size_t i = 0; i < logits.size(); ++i) {
    EXPECT_EQ(row.grad[i], weights[i / 2] * base.grad[i]) << i;
    EXPECT_EQ(element.grad[i], weights[i % 2] * base.grad[i]) << i;
  }
}

TEST(ClassBalanced, FiniteDifferences) {
  const std::vector<float> weights{0.3f, 2.7f, 1};
  const auto weight = ClassBalanced<Focal>{{.gamma = 2.5}, weights.data(), true}.weight<double>();
  for (const EntryPlace place : {EntryPlace{0, 0}, EntryPlace{0, 1}, EntryPlace{1, 0}, EntryPlace{2, 1}})
    for (double z = -6; z < 6; z += 0.31) {
      const double h = 1e-5;
      const double slope =
          (sigmoid_entry(z + h, place, weight).loss - sigmoid_entry(z - h, place, weight).loss) / (2 * h);
      EXPECT_TRUE(near(sigmoid_entry(z, place, weight).grad, slope, 1e-9, 1e-6)) << z;
    }
}

TEST(ClassBalanced, ExtremeLogitsAndIgnoredRows) {
  const std::vector<float> weights{0.5f, 2, 1};
  const ClassBalanced<CrossEntropy> member{{}, weights.data(), true};
  // Class 0 with infinities on the wrong sides, an ignored row of NaN, a label of -1.
  const Result result = run({-kInfinity, kInfinity, kNaN, kNaN, kInfinity, kNaN, kInfinity, -kInfinity}, {0, 1, -1, 0},
                            {1, 0, 1, 1}, member);
  EXPECT_EQ(result.loss, std::numeric_limits<double>::infinity());
  EXPECT_EQ(result.grad, (std::vector<float>{-0.5f, 0.5f, 0, 0, 0, 0, 0, 0}));
  const Result bad = run({1, kNaN}, {2}, {1}, member);
  EXPECT_TRUE(std::isnan(bad.loss) && std::isnan(bad.grad[1]) && std::isfinite(bad.grad[0]));
}

}  // namespace
}  // namespace gradlibra::kernels
