// SPDX-License-Identifier: MIT
// Sigmoid losses: CUDA against the host over shapes, kinds of loss and extreme logits.
#include "kernels/losses/sigmoid_loss.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/losses/any_sigmoid_loss.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class SigmoidLossCuda : public CudaTest {
 protected:
  struct Result {
    std::vector<double> loss;
    std::vector<float> grad;
  };
  Result on_device(const std::vector<float>& logits, const std::vector<int32_t>& labels,
                   const std::vector<float>& weights, int64_t C, const AnySigmoidLoss& options, double loss_weight,
                   double normalizer) {
    const auto R = static_cast<int64_t>(labels.size());
    const DeviceArray<float> z({R, C}, logits), w({R}, weights);
    const DeviceArray<int32_t> l({R}, labels);
    const DeviceArray<double> norm({1}, {normalizer});
    DeviceArray<double> loss({1}), workspace({sigmoid_loss_workspace(R, C)});
    DeviceArray<float> grad({R, C});
    std::visit(
        [&](const auto& member) {
          sigmoid_loss(cuda, z.view(), l.view(), w.view(), member,
                       {loss_weight, norm.view(), loss.view(), grad.view(), workspace.view()});
        },
        options);
    return {loss.to_host(), grad.to_host()};
  }
  static Result on_host(std::vector<float> logits, std::vector<int32_t> labels, std::vector<float> weights, int64_t C,
                        const AnySigmoidLoss& options, double loss_weight, double normalizer) {
    const auto R = static_cast<int64_t>(labels.size());
    Cpu cpu(2);
    Result result{std::vector<double>(1), std::vector<float>(logits.size())};
    std::vector<double> workspace(static_cast<size_t>(sigmoid_loss_workspace(R, C)));
    std::visit(
        [&](const auto& member) {
          sigmoid_loss(cpu, View<const float>(logits.data(), {R, C}), View<const int32_t>(labels.data(), {R}),
                       View<const float>(weights.data(), {R}), member,
                       {loss_weight,
                        {&normalizer, {1}},
                        {result.loss.data(), {1}},
                        {result.grad.data(), {R, C}},
                        {workspace.data(), {static_cast<int64_t>(workspace.size())}}});
        },
        options);
    return result;
  }
  static std::vector<AnySigmoidLoss> losses() {
    return {CrossEntropy{},
            Focal{.alpha = 0.25},
            Focal{.gamma = 1.5},
            Focal{.gamma = 0},
            {},
            GradLibra{.alpha_pos = 0, .alpha_neg = 1},
            GradLibra{.alpha_pos = 0.3, .alpha_neg = kWeightOff},
            GradLibra{.alpha_pos = 1, .alpha_neg = 1, .weight_grad = WeightGrad::full},
            GradLibra{.alpha_pos = kWeightOff, .alpha_neg = 0.4, .weight_grad = WeightGrad::full}};
  }
};

TEST_F(SigmoidLossCuda, EqualsHost) {
  std::mt19937 rng(1);
  for (const auto& [R, C] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {7, 5}, {64, 10}, {65, 3}, {200, 1}, {33, 300}, {37, 301}, {1000, 10}})
    for (const AnySigmoidLoss& options : losses()) {
      const auto logits = random_floats(R * C, rng, -20, 20);
      std::vector<float> weights;
      std::vector<int32_t> labels;
      for (int64_t i = 0; i < R; ++i) {
        labels.push_back(static_cast<int32_t>(static_cast<int64_t>(rng() % static_cast<unsigned>(C + 2)) - 1));
        weights.push_back(static_cast<float>(rng() % 4) / 2);
      }
      const Result got = on_device(logits, labels, weights, C, options, 0.7, 3),
                   want = on_host(logits, labels, weights, C, options, 0.7, 3);
      expect_near_or_nan(got.loss, want.loss, 0, 1e-6);
      expect_near_or_nan(got.grad, want.grad, 1e-30, 3e-6);  // a few roundings apart: fused multiply-adds, another exp
    }
}

// Rows as a dense head has them: nearly all background of one weight, which a warp evaluates by forms of their own.
// Some shapes take several blocks, and those several rounds; none divides by a warp's 128 entries (32 for three
// classes).
TEST_F(SigmoidLossCuda, MostlyBackground) {
  std::mt19937 rng(4);
  for (const auto& [R, C] :
       std::vector<std::pair<int64_t, int64_t>>{{901, 4}, {903, 5}, {2003, 10}, {203, 300}, {301, 3}})
    for (const AnySigmoidLoss& options : losses()) {
      const auto logits = random_floats(R * C, rng, -12, 4);
      std::vector<float> weights;
      std::vector<int32_t> labels;
      for (int64_t i = 0; i < R; ++i) {
        labels.push_back(static_cast<int32_t>(rng() % 50 > 0 ? C : static_cast<int64_t>(rng() % unsigned(C + 1)) - 1));
        weights.push_back(rng() % 60 > 0 ? 1 : static_cast<float>(rng() % 3) / 2);
      }
      const Result got = on_device(logits, labels, weights, C, options, 0.7, 3),
                   want = on_host(logits, labels, weights, C, options, 0.7, 3);
      expect_near_or_nan(got.loss, want.loss, 0, 1e-6);
      expect_near_or_nan(got.grad, want.grad, 1e-30, 3e-6);
    }
}

// One entry that differs, in every place of a thread's four, and all others of its warp; a second warp has background
// only, and two entries are left.
TEST_F(SigmoidLossCuda, OneEntryAmongBackground) {
  constexpr int64_t R = 43, C = 6;
  std::mt19937 rng(5);
  const auto plain = random_floats(R * C, rng, -9, 3);
  for (const AnySigmoidLoss& options : losses()) {
    std::vector<int64_t> places{130, R * C - 3, R * C - 2, R * C - 1};
    for (int64_t i = 114; i < 128; ++i) places.push_back(i);
    for (const int64_t i : places) {
      auto check = [&](float logit, bool positive, float weight) {
        auto logits = plain;
        logits[static_cast<size_t>(i)] = logit;
        std::vector<int32_t> labels(R, C);
        std::vector<float> weights(R, 1);
        if (positive) labels[static_cast<size_t>(i / C)] = static_cast<int32_t>(i % C);
        weights[static_cast<size_t>(i / C)] = weight;
        const Result got = on_device(logits, labels, weights, C, options, 1, 2),
                     want = on_host(logits, labels, weights, C, options, 1, 2);
        expect_near_or_nan(got.loss, want.loss, 0, 1e-6);
        expect_near_or_nan(got.grad, want.grad, 1e-30, 3e-6);
      };
      check(-1.5f, true, 1);
      for (const float logit : {kNaN, kInfinity, -kInfinity, 3e38f, -3e38f, 1e4f}) check(logit, false, 1);
      check(kNaN, true, 1);
      check(0.5f, false, 0.25f);
      check(kNaN, false, 0);
    }
  }
}

// Finite each, but not the sum of a thread's four in float, or not with the row's weight.
TEST_F(SigmoidLossCuda, LargeSums) {
  constexpr int64_t R = 32, C = 10;
  for (const auto& [logit, weight] : std::vector<std::pair<float, float>>{{2e38f, 1.f}, {7e37f, 2.f}, {7e37f, -2.f}}) {
    const std::vector<int32_t> background(R, C);
    const Result got =
        on_device(std::vector<float>(R * C, logit), background, std::vector<float>(R, weight), C, CrossEntropy{}, 1, 1);
    EXPECT_NEAR(got.loss[0] / (R * C * double{logit} * double{weight}), 1, 1e-6);
  }
}

// The versions of entries that the device has to itself, against the definition in double: one alone, and a warp's.
TEST_F(SigmoidLossCuda, EqualsDefinition) {
  for (const AnySigmoidLoss& options : losses())
    for (float z = -90; z <= 90; z += z > -12 && z < 12 ? 0.37f : 3.7f)
      for (const int32_t label : {0, 1})
        for (const int64_t R : {1, 32}) {
          const size_t rows = static_cast<size_t>(R);
          const Result got = on_device(std::vector<float>(rows, z), std::vector<int32_t>(rows, label),
                                       std::vector<float>(rows, 1), 1, options, 1, 1);
          const Entry<double> want = double_entry(static_cast<double>(z), label == 0, options);
          expect_near_or_nan(got.loss, std::vector{static_cast<double>(R) * want.loss}, 1e-30, 3e-6);
          expect_near_or_nan(got.grad, std::vector<float>(rows, static_cast<float>(want.grad)), 1e-30, 3e-6);
        }
}

// One float further on nothing lies on 16 bytes: entries are taken one by one.
TEST_F(SigmoidLossCuda, Unaligned) {
  std::mt19937 rng(3);
  for (const int64_t C : {10, 300}) {
    const int64_t R = 70;
    const auto logits = random_floats(R * C + 1, rng, -20, 20);
    const auto weights = random_floats(R, rng, 0, 2);
    std::vector<int32_t> labels;
    for (int64_t i = 0; i < R; ++i) labels.push_back(static_cast<int32_t>(i % (C + 2)) - 1);
    const DeviceArray<float> z({R * C + 1}, logits), w({R}, weights);
    const DeviceArray<int32_t> l({R}, labels);
    const DeviceArray<double> norm({1}, {3});
    DeviceArray<double> loss({1}), workspace({sigmoid_loss_workspace(R, C)});
    DeviceArray<float> grad({R * C + 1});
    sigmoid_loss(cuda, View<const float>(z.view().data() + 1, {R, C}), l.view(), w.view(), GradLibra{},
                 {0.7, norm.view(), loss.view(), {grad.view().data() + 1, {R, C}}, workspace.view()});
    const Result want = on_host({logits.begin() + 1, logits.end()}, labels, weights, C, GradLibra{}, 0.7, 3);
    auto got = grad.to_host();
    got.erase(got.begin());
    expect_near_or_nan(loss.to_host(), want.loss, 0, 1e-6);
    expect_near_or_nan(got, want.grad, 1e-30, 3e-6);
  }
}

TEST_F(SigmoidLossCuda, ExtremeLogits) {
  std::vector<float> logits;
  for (const float z : {0.f, 1e-30f, 17.f, 88.f, 104.f, 1e4f, 3e38f, kInfinity}) logits.insert(logits.end(), {z, -z});
  for (const AnySigmoidLoss& options : losses())
    for (size_t i = 0; i < logits.size(); ++i)
      for (const int32_t label : {0, 1}) {
        const Result got = on_device({logits[i]}, {label}, {1}, 1, options, 1, 1),
                     want = on_host({logits[i]}, {label}, {1}, 1, options, 1, 1);
        expect_near_or_nan(got.loss, want.loss, 1e-30, 3e-6);
        expect_near_or_nan(got.grad, want.grad, 1e-30, 3e-6);
        ASSERT_TRUE(std::isfinite(got.grad[0])) << logits[i];
      }
}

TEST_F(SigmoidLossCuda, IgnoredRowsAndNaN) {
  const std::vector<float> logits = {1, -2, kNaN, 3, kNaN, kNaN, 0.5f, -0.25f};
  const Result ignored = on_device(logits, {0, 1, -1, 2}, {1, 0, 1, 0.5f}, 2, {}, 1, 1);
  const Result want = on_host(logits, {0, 1, -1, 2}, {1, 0, 1, 0.5f}, 2, {}, 1, 1);
  EXPECT_TRUE(std::isfinite(ignored.loss[0]));
  expect_near_or_nan(ignored.loss, want.loss, 0, 1e-6);
  expect_near_or_nan(ignored.grad, want.grad, 0, 3e-6);
  for (const size_t i : {2u, 3u, 4u, 5u}) EXPECT_EQ(ignored.grad[i], 0);
  const Result bad = on_device(logits, {0, 1, 2, 2}, {1, 1, 0, 1}, 2, {}, 1, 1);
  EXPECT_TRUE(std::isnan(bad.loss[0]));
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(std::isnan(bad.grad[i]), i == 2) << i;
}

TEST_F(SigmoidLossCuda, MoreThanItCounts) {
  const int64_t R = int64_t{1} << 30;
  std::vector<double> one(1);
  const View<double> number(one.data(), {1});
  try {
    sigmoid_loss(cuda, View<const float>(nullptr, {R, 1}), {nullptr, {R}}, {nullptr, {R}}, CrossEntropy{},
                 {1, number, number, {nullptr, {R, 1}}, {nullptr, {sigmoid_loss_workspace(R, 1)}}});
    FAIL() << "accepted";
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find("(1073741824, 1)"), std::string::npos) << error.what();
  }
}

TEST_F(SigmoidLossCuda, NoRows) { EXPECT_EQ(on_device({}, {}, {}, 10, {}, 1, 1).loss[0], 0); }

TEST_F(SigmoidLossCuda, SigmoidEqualsHost) {
  std::mt19937 rng(2);
  for (const int64_t size : {0, 1, 255, 256, 1000}) {
    auto logits = random_floats(size, rng, -100, 100);
    if (size > 3) logits[1] = kInfinity, logits[2] = -logits[1], logits[3] = logits[1] - logits[1];
    const DeviceArray<float> z({size}, logits);
    DeviceArray<float> scores({size});
    sigmoid(cuda, z.view(), scores.view());
    Cpu cpu(2);
    std::vector<float> want(logits.size());
    sigmoid(cpu, View<const float>(logits.data(), {size}), View<float>(want.data(), {size}));
    expect_near_or_nan(scores.to_host(), want, 1e-37, 1e-6);
  }
}

}  // namespace
}  // namespace gradlibra::kernels
