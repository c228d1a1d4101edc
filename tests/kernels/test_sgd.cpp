// SPDX-License-Identifier: MIT
#include "kernels/sgd.h"

#include "kernels/reduce.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

struct Parameter {
  Floats value, velocity;
  explicit Parameter(const std::vector<float>& v)
      : value({static_cast<int64_t>(v.size())}, v), velocity(value.shape, 0.0f) {}

  void step(const std::vector<float>& grad, float lr, float grad_scale, const Sgd& options, int threads = 1) {
    Cpu cpu(threads);
    const Floats g(value.shape, grad), rate({1}, {lr}), factor({1}, {grad_scale});
    sgd_step(cpu, value.view(), g.view(), velocity.view(), rate.view(), factor.view(), options);
  }
};

float clip(double sum_squares, float max_norm, const std::vector<double>& losses = {}) {
  Cpu cpu(1);
  const Array<double> total({1}, {sum_squares});
  Floats factor({1});
  clip_factor(cpu, total.view(), {losses.data(), {static_cast<int64_t>(losses.size())}}, max_norm, factor.view());
  return factor[0];
}

TEST(Sgd, ThreeSteps) {
  Parameter p({1, -2});
  const Sgd options{.momentum = 0.9f, .weight_decay = 0.01f};
  p.step({0.5f, -0.25f}, 0.1f, 1, options);
  expect_near(p.value.values, std::vector<double>{0.949, -1.973}, 5e-7);  // some roundings of values below 2
  p.step({0.1f, 0.3f}, 0.1f, 1, options);
  expect_near(p.value.values, std::vector<double>{0.892151, -1.976727}, 5e-7);
  p.step({0, 0}, 0.1f, 1, options);
  expect_near(p.value.values, std::vector<double>{0.840094749, -1.97810457}, 5e-7);
}

TEST(Sgd, TheVelocityStartsAsTheFirstDecayedGradientAndTheRateStaysOutside) {
  Parameter p({1});
  p.step({0.5f}, 0.1f, 1, {.momentum = 0.9f, .weight_decay = 1e-4f});
  EXPECT_TRUE(near(p.velocity[0], 0.5001, 1e-7));
  EXPECT_TRUE(near(p.value[0], 0.94999, 1e-7));
  Parameter q({1});
  q.step({0.5f}, 0.1f, 1, {.momentum = 0.9f, .weight_decay = 1e-4f, .lr_factor = 2});
  EXPECT_EQ(q.velocity[0], p.velocity[0]);
  EXPECT_TRUE(near(q.value[0], 1 - 0.2 * 0.5001, 1e-7));
}

TEST(Sgd, ALossThatIsNotFiniteStopsTheUpdate) {
  EXPECT_EQ(clip(4, 0, {1, 2}), 1.0f);
  EXPECT_TRUE(std::isnan(clip(4, 0, {1, kNaN})));
  EXPECT_TRUE(std::isnan(clip(4, 35, {-kInfinity, 1, 1})));
}

TEST(Sgd, ClipFactor) {
  const float factor = clip(30.0 * 30 + 40 * 40 + 120 * 120, 35);
  EXPECT_TRUE(near(factor, 0.269230767, 2e-8));
  EXPECT_TRUE(near(factor * 30, 8.07692301, 1e-6));
  EXPECT_EQ(clip(34.9 * 34.9, 35), 1.0f);
  EXPECT_EQ(clip(0, 35), 1.0f);
  EXPECT_EQ(clip(1e6, 0), 1.0f);
  EXPECT_EQ(clip(1e6, -1), 1.0f);
  EXPECT_TRUE(std::isnan(clip(kInfinity, 35)));
  EXPECT_TRUE(std::isnan(clip(kNaN, 0)));
}

TEST(Sgd, NonFiniteScaleChangesNothing) {
  for (const float scale : {kNaN, kInfinity, -kInfinity}) {
    Parameter p({1, -2, 3});
    p.velocity.values = {4, 5, 6};
    p.step({kNaN, 1, kInfinity}, 0.1f, scale, {});
    EXPECT_EQ(p.value.values, (std::vector<float>{1, -2, 3}));
    EXPECT_EQ(p.velocity.values, (std::vector<float>{4, 5, 6}));
  }
}

TEST(Sgd, TwentyStepsWithScheduleAndClipping) {
  const auto example = read_vectors("sgd");
  const auto floats = [](const nlohmann::json& v) { return v.get<std::vector<float>>(); };
  const auto doubles = [](const nlohmann::json& v) { return v.get<std::vector<double>>(); };
  Parameter w(floats(example["initial"]["w"])), b(floats(example["initial"]["b"]));
  Sgd decayed{.momentum = example["momentum"], .weight_decay = example["weight_decay"]}, undecayed = decayed;
  undecayed.weight_decay = 0;
  Cpu cpu(1);
  ASSERT_EQ(example["steps"].size(), 20u);
  for (const auto& step : example["steps"]) {
    const std::vector<float> grad_w = floats(step["mean_grad_w"]), grad_b = floats(step["mean_grad_b"]);
    Array<double> norm2({1}), workspace({1});
    sum_squares(cpu, Floats({3}, grad_w).view(), norm2.view(), Accumulate::overwrite, workspace.view());
    sum_squares(cpu, Floats({2}, grad_b).view(), norm2.view(), Accumulate::add, workspace.view());
    EXPECT_TRUE(near(std::sqrt(norm2[0]), step["grad_norm"], 0, 1e-6));
    const float factor = clip(norm2[0], example["clip_max_norm"]);
    EXPECT_TRUE(near(factor, step["clip_coef"], 1e-6));
    w.step(grad_w, step["lr"], factor, decayed);
    b.step(grad_b, step["lr"], factor, undecayed);
    // 20 steps of float against double.
    expect_near(w.velocity.values, doubles(step["momentum_w"]), 3e-6);
    expect_near(b.velocity.values, doubles(step["momentum_b"]), 3e-6);
    expect_near(w.value.values, doubles(step["w"]), 3e-6);
    expect_near(b.value.values, doubles(step["b"]), 3e-6);
  }
}

TEST(Sgd, ThreadsEmptyAndWrongShapes) {
  const Floats value = random_array({100001}, 1), grad = random_array({100001}, 2);
  Parameter one(value.values), three(value.values);
  one.step(grad.values, 0.1f, 0.5f, {}, 1);
  three.step(grad.values, 0.1f, 0.5f, {}, 3);
  EXPECT_EQ(one.value.values, three.value.values);
  Parameter empty(std::vector<float>{});
  empty.step({}, 0.1f, 1, {});

  Cpu cpu(1);
  Floats p({2}, 1.0f), v({3}, 0.0f);
  const Floats g({2}, 1.0f), scalar({1}, 1.0f);
  EXPECT_THROW(sgd_step(cpu, p.view(), g.view(), v.view(), scalar.view(), scalar.view(), {}), std::invalid_argument);
  EXPECT_THROW(sgd_step(cpu, p.view(), g.view(), p.view(), g.view(), scalar.view(), {}), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
