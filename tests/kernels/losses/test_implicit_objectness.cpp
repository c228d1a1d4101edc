// SPDX-License-Identifier: MIT
// Joint logits of YOLOF on the host: worked examples, logits of any size, gradients.
#include "kernels/losses/implicit_objectness.h"

#include <gtest/gtest.h>

#include "tests/kernels/host_array.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

struct Backward {
  std::vector<float> z, by_logits, by_objectness;
};

Backward run(const std::vector<float>& logits, const std::vector<float>& objectness, const std::vector<float>& grad_z) {
  Cpu cpu(2);
  const auto R = static_cast<int64_t>(objectness.size()), C = R == 0 ? 3 : static_cast<int64_t>(logits.size()) / R;
  Backward b{std::vector<float>(logits.size(), kNaN), std::vector<float>(logits.size(), kNaN),
             std::vector<float>(objectness.size(), kNaN)};
  implicit_objectness(cpu, view(logits, {R, C}), view(objectness, {R}), view(b.z, {R, C}));
  implicit_objectness_backward(cpu, view(logits, {R, C}), view(objectness, {R}), view(grad_z, {R, C}),
                               view(b.by_logits, {R, C}), Accumulate::overwrite, view(b.by_objectness, {R}),
                               Accumulate::overwrite);
  return b;
}

// Where the examples' differences have lost their digits, below 1e-12, the next test has more of them.
TEST(ImplicitObjectness, WorkedExamples) {
  const auto vectors = read_vectors("anchors");
  const auto& sum = vectors["implicit_objectness"];
  const Backward got =
      run(flatten<float>(sum["inputs"]["cls"]), flatten<float>(sum["inputs"]["obj"]), std::vector<float>(8, 1));
  const auto& exact = sum["expected"]["exact"];
  expect_near(got.z, flatten(exact["z"]), 0, 1e-6);
  expect_near(got.by_logits, flatten(exact["grad_cls"]), 1e-12, 2e-6);
  expect_near(got.by_objectness, flatten(exact["grad_obj"]), 0, 2e-6);

  const auto& chain = vectors["implicit_objectness_chain"];
  const Backward back = run(flatten<float>(chain["class_logits"]), flatten<float>(chain["objectness_logit"]),
                            flatten<float>(chain["upstream_grad"]));
  expect_near(back.z, flatten(chain["normalized_logits"]), 0, 1e-6);
  expect_near(back.by_logits, flatten(chain["grad_class_logits"]), 1e-12, 1e-6);
  expect_near(back.by_objectness, flatten(chain["grad_objectness"]), 1e-7, 1e-6);
}

// In long double, and as the product of scores.
TEST(ImplicitObjectness, LogitsOfAnySize) {
  const std::vector<float> values{-100, -20, -5, -0.5f, 0, 0.25f, 3, 17, 30, 90};
  for (const float a : values)
    for (const float b : values) {
      const long double ea = std::exp(-static_cast<long double>(a)), eb = std::exp(-static_cast<long double>(b)),
                        S = ea + eb + ea * eb;
      const JointLogit got = joint_logit(a, b);
      EXPECT_TRUE(near(got.z, static_cast<double>(-std::log(S)), 1e-6, 1e-6)) << a << ' ' << b;
      EXPECT_TRUE(near(got.by_class, static_cast<double>((ea + ea * eb) / S), 0, 1e-6)) << a << ' ' << b;
      EXPECT_TRUE(near(got.by_objectness, static_cast<double>((eb + ea * eb) / S), 0, 1e-6)) << a << ' ' << b;
      const auto sigmoid = [](double t) { return 1 / (1 + std::exp(-t)); };
      EXPECT_TRUE(near(sigmoid(got.z), sigmoid(a) * sigmoid(b), 0, 3e-5 + 1e-6 * std::abs(got.z))) << a << ' ' << b;
    }
}

TEST(ImplicitObjectness, InfiniteAndNaN) {
  EXPECT_EQ(joint_logit(kInfinity, -2).z, -2);
  EXPECT_EQ(joint_logit(-2, kInfinity).z, -2);
  EXPECT_EQ(joint_logit(-kInfinity, 5).z, -kInfinity);
  EXPECT_EQ(joint_logit(-kInfinity, -5).z, -kInfinity);
  EXPECT_TRUE(std::isnan(joint_logit(kNaN, 1).z));
  EXPECT_TRUE(std::isnan(joint_logit(1, kNaN).z));
  // A row without weight: its gradient by z is 0.
  const Backward got = run({kNaN, 1, 2, 3}, {0, kNaN}, {0, 1, 0, 0});
  EXPECT_EQ(got.by_logits[0], 0);
  EXPECT_GT(got.by_logits[1], 0);
  EXPECT_EQ(got.by_logits[2], 0);
  EXPECT_GT(got.by_objectness[0], 0);
  EXPECT_EQ(got.by_objectness[1], 0);
}

TEST(ImplicitObjectness, AddsWhereItPromisesTo) {
  Cpu cpu(1);
  const Floats logits = random_array({5, 7}, 1, -4, 4), objectness = random_array({5}, 2, -4, 4),
               grad_z = random_array({5, 7}, 3);
  Floats once({5, 7}), once_b({5});
  implicit_objectness_backward(cpu, logits.view(), objectness.view(), grad_z.view(), once.view(), Accumulate::overwrite,
                               once_b.view(), Accumulate::overwrite);
  Floats again = once, again_b = once_b;
  implicit_objectness_backward(cpu, logits.view(), objectness.view(), grad_z.view(), again.view(), Accumulate::add,
                               again_b.view(), Accumulate::add);
  for (int64_t i = 0; i < once.size(); ++i) EXPECT_EQ(again[i], 2 * once[i]);
  for (int64_t i = 0; i < once_b.size(); ++i) EXPECT_EQ(again_b[i], 2 * once_b[i]);
}

TEST(ImplicitObjectness, NothingAndShapes) {
  EXPECT_TRUE(run({}, {}, {}).z.empty());
  Cpu cpu(1);
  Floats z({2, 3});
  EXPECT_THROW(implicit_objectness(cpu, random_array({2, 3}, 1).view(), random_array({3}, 1).view(), z.view()),
               std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
