// SPDX-License-Identifier: MIT
// Offsets and masks out of one prediction, on the host, against double precision and its differences.
#include "kernels/convolution/deform_modulation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/host_array.h"
#include "tests/kernels/map_values.h"
#include "tests/messages.h"

namespace gradlibra::kernels {
namespace {

using namespace testing;
double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

// Two cells of a kernel with one tap: channels y, x, logit of the mask.
TEST(DeformModulation, OffsetsThenLogits) {
  Cpu cpu(1);
  const Floats prediction({1, 1, 2, 3}, {0.5f, -2, 0, 7, 8, std::log(3.0f)});
  Floats offsets({1, 1, 2, 2}), mask({1, 1, 2, 1});
  split_modulation<float>(cpu, prediction.view(), offsets.view(), mask.view());
  EXPECT_EQ(offsets.values, (std::vector<float>{0.5f, -2, 7, 8}));
  EXPECT_EQ(mask[0], 0.5f);
  EXPECT_TRUE(near(mask[1], 0.75, 1e-6));

  const Floats grad_offsets({1, 1, 2, 2}, {1, 2, 3, 4}), grad_mask({1, 1, 2, 1}, {8, 16});
  Floats grad({1, 1, 2, 3});
  split_modulation_backward<float>(cpu, prediction.view(), grad_offsets.view(), grad_mask.view(), {grad.view()});
  expect_near(grad.values, std::vector<float>{1, 2, 2, 3, 4, 3}, 1e-6);  // 16 * 0.75 * 0.25
  split_modulation_backward<float>(cpu, prediction.view(), grad_offsets.view(), grad_mask.view(),
                                   {grad.view(), Accumulate::add});
  expect_near(grad.values, std::vector<float>{2, 4, 4, 6, 8, 6}, 1e-6);
}

// The slope keeps its digits where mask * (1 - mask) has lost them, and nothing overflows.
TEST(DeformModulation, ExtremeLogits) {
  for (const float z : {0.0f, 1e-8f, 3.0f, -3.0f, 17.0f, -17.0f, 40.0f, -40.0f, 80.0f, -80.0f}) {
    const MaskValue m = mask_of(z);
    const double e = std::exp(-std::abs(double{z})), slope = e / ((1 + e) * (1 + e));
    EXPECT_TRUE(near(m.mask, sigmoid(z), 0, 2e-6)) << z;
    EXPECT_TRUE(near(m.slope, slope, 0, 2e-6)) << z;
  }
  for (const float z : {1e4f, kInfinity}) {
    EXPECT_EQ(mask_of(z).mask, 1);
    EXPECT_EQ(mask_of(-z).mask, 0);
    EXPECT_EQ(mask_of(z).slope, 0);
    EXPECT_EQ(mask_of(-z).slope, 0);
  }
  EXPECT_TRUE(std::isnan(mask_of(kNaN).mask));
  EXPECT_TRUE(std::isnan(mask_of(kNaN).slope));
}

TEST(DeformModulation, FiniteDifferences) {
  struct Case {
    int64_t N, H, W, taps;
  };
  for (const Case& one : {Case{1, 1, 1, 1}, {2, 3, 2, 9}, {1, 1, 2, 25}}) {
    const int64_t N = one.N, H = one.H, W = one.W, taps = one.taps;
    const Floats prediction = random_array({N, H, W, 3 * taps}, 1, -4, 4),
                 seed_offsets = random_array({N, H, W, 2 * taps}, 2), seed_mask = random_array({N, H, W, taps}, 3);
    Cpu cpu(2);
    Floats grad(prediction.shape);
    split_modulation_backward<float>(cpu, prediction.view(), seed_offsets.view(), seed_mask.view(), {grad.view()});
    for (int64_t k = 0; k < prediction.size(); ++k) {
      const int64_t channel = k % (3 * taps), row = k / (3 * taps);
      const double h = 1e-6, z = prediction[k];
      const double slope = channel < 2 * taps ? double{seed_offsets[row * 2 * taps + channel]}
                                              : double{seed_mask[row * taps + channel - 2 * taps]} *
                                                    (sigmoid(z + h) - sigmoid(z - h)) / (2 * h);
      ASSERT_TRUE(near(grad[k], slope, 3e-6, 1e-5)) << k;
    }
  }
}

// Against the float version on the same (rounded) values: one rounding of the result, none on the way.
TEST(DeformModulation, Bfloat16RoundsOnce) {
  Cpu cpu(1);
  const Shape of_prediction{1, 2, 3, 27}, of_mask{1, 2, 3, 9}, of_offsets{1, 2, 3, 18};
  const auto values = [&](uint32_t seed) { return rounded(random_floats(of_prediction.size(), seed, -3, 3)); };
  const std::vector<float> prediction = values(1), before = values(2);
  const Floats grad_offsets = random_array(of_offsets, 3), grad_mask = random_array(of_mask, 4);
  struct Result {
    std::vector<float> offsets, mask, grad;
  };
  const auto run = [&]<class T>(T) {
    Floats offsets(of_offsets), mask(of_mask);
    std::vector<T> p = stored<T>(prediction), to = stored<T>(before);
    split_modulation<T>(cpu, {p.data(), of_prediction}, offsets.view(), mask.view());
    split_modulation_backward<T>(cpu, {p.data(), of_prediction}, grad_offsets.view(), grad_mask.view(),
                                 {{to.data(), of_prediction}, Accumulate::add});
    return Result{offsets.values, mask.values, widened(to)};
  };
  const Result got = run(bfloat16{}), want = run(0.0f);
  EXPECT_EQ(got.offsets, want.offsets);
  EXPECT_EQ(got.mask, want.mask);
  EXPECT_EQ(got.grad, rounded(want.grad));
}

TEST(DeformModulation, NoCells) {
  Cpu cpu(2);
  Floats none({0, 3, 3, 27}), offsets({0, 3, 3, 18}), mask({0, 3, 3, 9});
  split_modulation<float>(cpu, none.view(), offsets.view(), mask.view());
  split_modulation_backward<float>(cpu, none.view(), offsets.view(), mask.view(), {none.view()});
}

TEST(DeformModulation, WrongShapesThrowWithTheNumbers) {
  Cpu cpu(1);
  Floats p({1, 2, 3, 27}), offsets({1, 2, 3, 18}), mask({1, 2, 3, 9}), odd({1, 2, 3, 28});
  const auto message = [](auto&& body) { return message_of<std::invalid_argument>(body); };
  EXPECT_EQ(message([&] { split_modulation<float>(cpu, odd.view(), offsets.view(), mask.view()); }),
            "split_modulation: prediction has shape (1, 2, 3, 28), expected (N, H, W, 3*K*K)");
  EXPECT_EQ(message([&] { split_modulation<float>(cpu, p.view(), mask.view(), offsets.view()); }),
            "split_modulation: offsets has shape (1, 2, 3, 9), expected (1, 2, 3, 18)");
  EXPECT_EQ(
      message([&] { split_modulation_backward<float>(cpu, p.view(), offsets.view(), mask.view(), {offsets.view()}); }),
      "split_modulation_backward: grad_prediction has shape (1, 2, 3, 18), expected (1, 2, 3, 27)");
}

}  // namespace
}  // namespace gradlibra::kernels
