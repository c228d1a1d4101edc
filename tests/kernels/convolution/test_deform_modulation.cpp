// SPDX-License-Identifier: MIT
// Masks of deformable columns on the host against double precision and its differences.
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
using Doubles = std::vector<double>;

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

// 0.5 * (1, 2, 3) and 2 * (..): the mask's gradient is the product with the columns before the mask.
TEST(DeformModulation, ColumnsTimesMask) {
  Cpu cpu(1);
  const Floats columns({1, 1, 1, 2, 3}, {1, 2, 3, 4, 5, 6}), mask({1, 1, 1, 2}, {0.5f, 2});
  Floats modulated(columns.shape), grad(columns.shape, std::vector<float>{1, 1, 1, 1, 0, -1}), grad_mask(mask.shape);
  modulate_columns<float>(cpu, columns.view(), mask.view(), modulated.view());
  EXPECT_EQ(modulated.values, (std::vector<float>{0.5f, 1, 1.5f, 8, 10, 12}));
  modulate_columns_backward<float>(cpu, columns.view(), mask.view(), grad.view(), grad_mask.view());
  EXPECT_EQ(grad_mask.values, (std::vector<float>{6, -2}));
  EXPECT_EQ(grad.values, (std::vector<float>{0.5f, 0.5f, 0.5f, 2, 0, -2}));

  Floats in_place = columns;
  modulate_columns<float>(cpu, std::as_const(in_place).view(), mask.view(), in_place.view());
  EXPECT_EQ(in_place.values, modulated.values);
}

// Both steps as one function of prediction and columns in double, its differences as the gradient.
TEST(DeformModulation, FiniteDifferences) {
  struct Case {
    int64_t N, H, W, taps, C;
  };
  for (const Case& one : {Case{1, 1, 1, 1, 1}, {2, 3, 2, 9, 5}, {1, 2, 3, 9, 16}, {1, 1, 2, 25, 27}}) {
    const int64_t N = one.N, H = one.H, W = one.W, taps = one.taps, C = one.C;
    const Floats prediction = random_array({N, H, W, 3 * taps}, 1, -4, 4),
                 columns = random_array({N, H, W, taps, C}, 2), seed = random_array({N, H, W, taps, C}, 3),
                 seed_offsets = random_array({N, H, W, 2 * taps}, 4);
    Cpu cpu(2);
    Floats offsets({N, H, W, 2 * taps}), mask({N, H, W, taps}), modulated(columns.shape);
    split_modulation<float>(cpu, prediction.view(), offsets.view(), mask.view());
    modulate_columns<float>(cpu, columns.view(), mask.view(), modulated.view());
    Floats grad = seed, grad_mask(mask.shape), grad_prediction(prediction.shape);
    modulate_columns_backward<float>(cpu, columns.view(), mask.view(), grad.view(), grad_mask.view());
    split_modulation_backward<float>(cpu, prediction.view(), seed_offsets.view(), grad_mask.view(),
                                     {grad_prediction.view()});

    const auto logit_at = [&](int64_t sample) { return sample / taps * 3 * taps + 2 * taps + sample % taps; };
    const auto modulated_at = [&](const Doubles& p, int64_t i) {
      return sigmoid(p[static_cast<size_t>(logit_at(i / C))]) * double{columns[i]};
    };
    Doubles at(prediction.values.begin(), prediction.values.end());
    for (int64_t i = 0; i < columns.size(); ++i) {
      ASSERT_TRUE(near(modulated[i], modulated_at(at, i), 1e-6)) << i;
      ASSERT_TRUE(near(grad[i], double{seed[i]} * sigmoid(at[static_cast<size_t>(logit_at(i / C))]), 1e-6)) << i;
    }
    for (int64_t k = 0; k < prediction.size(); ++k) {
      const int64_t channel = k % (3 * taps), row = k / (3 * taps);
      double slope = 0;
      if (channel < 2 * taps) {
        slope = seed_offsets[row * 2 * taps + channel];
      } else {
        const double here = at[static_cast<size_t>(k)], h = 1e-6;
        const int64_t first = (row * taps + channel - 2 * taps) * C;
        for (const double side : {1.0, -1.0}) {
          at[static_cast<size_t>(k)] = here + side * h;
          for (int64_t c = 0; c < C; ++c)
            slope += side * double{seed[first + c]} * modulated_at(at, first + c) / (2 * h);
        }
        at[static_cast<size_t>(k)] = here;
      }
      ASSERT_TRUE(near(grad_prediction[k], slope, 3e-6, 1e-5)) << k;
    }
  }
}

// Against the float version on the same (rounded) values: one rounding of the result, none on the way.
TEST(DeformModulation, Bfloat16RoundsOnce) {
  Cpu cpu(1);
  const Shape of_prediction{1, 2, 3, 27}, of_columns{1, 2, 3, 9, 10}, of_mask{1, 2, 3, 9}, of_offsets{1, 2, 3, 18};
  const auto values = [](const Shape& shape, uint32_t seed) {
    return rounded(random_floats(shape.size(), seed, -3, 3));
  };
  const std::vector<float> prediction = values(of_prediction, 1), columns = values(of_columns, 2),
                           seed = values(of_columns, 3), before = values(of_prediction, 4);
  const Floats grad_offsets = random_array(of_offsets, 5);
  struct Result {
    std::vector<float> offsets, mask, modulated, grad, grad_mask, grad_prediction;
  };
  const auto run = [&]<class T>(T) {
    Floats offsets(of_offsets), mask(of_mask), grad_mask(of_mask);
    std::vector<T> p = stored<T>(prediction), c = stored<T>(columns), m(c.size()), g = stored<T>(seed),
                   to = stored<T>(before);
    split_modulation<T>(cpu, {p.data(), of_prediction}, offsets.view(), mask.view());
    modulate_columns<T>(cpu, {c.data(), of_columns}, mask.view(), {m.data(), of_columns});
    modulate_columns_backward<T>(cpu, {c.data(), of_columns}, mask.view(), {g.data(), of_columns}, grad_mask.view());
    split_modulation_backward<T>(cpu, {p.data(), of_prediction}, grad_offsets.view(), grad_mask.view(),
                                 {{to.data(), of_prediction}, Accumulate::add});
    return Result{offsets.values, mask.values, widened(m), widened(g), grad_mask.values, widened(to)};
  };
  const Result got = run(bfloat16{}), want = run(0.0f);
  EXPECT_EQ(got.offsets, want.offsets);
  EXPECT_EQ(got.mask, want.mask);
  EXPECT_EQ(got.grad_mask, want.grad_mask);
  EXPECT_EQ(got.modulated, rounded(want.modulated));
  EXPECT_EQ(got.grad, rounded(want.grad));
  EXPECT_EQ(got.grad_prediction, rounded(want.grad_prediction));
}

TEST(DeformModulation, NaNShows) {
  Cpu cpu(1);
  const Floats columns({1, 1, 1, 2, 2}, {1, kNaN, 3, 4}), mask({1, 1, 1, 2}, {0, kNaN});
  Floats modulated(columns.shape), grad(columns.shape, 1.0f), grad_mask(mask.shape);
  modulate_columns<float>(cpu, columns.view(), mask.view(), modulated.view());
  EXPECT_EQ(modulated[0], 0);
  for (const int64_t i : {1, 2, 3}) EXPECT_TRUE(std::isnan(modulated[i])) << i;
  modulate_columns_backward<float>(cpu, columns.view(), mask.view(), grad.view(), grad_mask.view());
  EXPECT_TRUE(std::isnan(grad_mask[0]));
  EXPECT_EQ(grad_mask[1], 7);
  EXPECT_TRUE(std::isnan(grad[2]) && std::isnan(grad[3]));
}

TEST(DeformModulation, NoCellsAndNoChannels) {
  Cpu cpu(2);
  Floats none({0, 3, 3, 27}), offsets({0, 3, 3, 18}), mask({0, 3, 3, 9}), columns({0, 3, 3, 9, 4});
  split_modulation<float>(cpu, none.view(), offsets.view(), mask.view());
  split_modulation_backward<float>(cpu, none.view(), offsets.view(), mask.view(), {none.view()});
  modulate_columns<float>(cpu, columns.view(), mask.view(), columns.view());
  modulate_columns_backward<float>(cpu, columns.view(), mask.view(), columns.view(), mask.view());
  Floats empty({1, 1, 1, 9, 0}), some({1, 1, 1, 9}, 0.5f), grad_mask({1, 1, 1, 9});
  modulate_columns_backward<float>(cpu, empty.view(), some.view(), empty.view(), grad_mask.view());
  EXPECT_EQ(grad_mask.values, std::vector<float>(9, 0.0f));
}

TEST(DeformModulation, SameBitsForEveryNumberOfThreads) {
  const Floats columns = random_array({3, 9, 7, 9, 40}, 1), seed = random_array({3, 9, 7, 9, 40}, 2),
               mask = random_array({3, 9, 7, 9}, 3);
  const auto run = [&](int threads) {
    Cpu cpu(threads);
    Floats grad = seed, grad_mask(mask.shape);
    modulate_columns_backward<float>(cpu, columns.view(), mask.view(), grad.view(), grad_mask.view());
    grad.values.insert(grad.values.end(), grad_mask.values.begin(), grad_mask.values.end());
    return grad.values;
  };
  for (const int threads : {2, 5}) EXPECT_TRUE(same_bits(run(1), run(threads)));
}

TEST(DeformModulation, WrongShapesThrowWithTheNumbers) {
  Cpu cpu(1);
  Floats p({1, 2, 3, 27}), offsets({1, 2, 3, 18}), mask({1, 2, 3, 9}), columns({1, 2, 3, 9, 4}), odd({1, 2, 3, 28});
  const auto message = [](auto&& body) { return message_of<std::invalid_argument>(body); };
  EXPECT_EQ(message([&] { split_modulation<float>(cpu, odd.view(), offsets.view(), mask.view()); }),
            "split_modulation: prediction has shape (1, 2, 3, 28), expected (N, H, W, 3*K*K)");
  EXPECT_EQ(message([&] { split_modulation<float>(cpu, p.view(), mask.view(), offsets.view()); }),
            "split_modulation: offsets has shape (1, 2, 3, 9), expected (1, 2, 3, 18)");
  EXPECT_EQ(
      message([&] { split_modulation_backward<float>(cpu, p.view(), offsets.view(), mask.view(), {offsets.view()}); }),
      "split_modulation_backward: grad_prediction has shape (1, 2, 3, 18), expected (1, 2, 3, 27)");
  EXPECT_EQ(message([&] { modulate_columns<float>(cpu, columns.view(), offsets.view(), columns.view()); }),
            "modulate_columns: mask has shape (1, 2, 3, 18), expected (1, 2, 3, 9)");
  EXPECT_EQ(message([&] {
              modulate_columns_backward<float>(cpu, columns.view(), mask.view(), columns.view(), offsets.view());
            }),
            "modulate_columns_backward: grad_mask has shape (1, 2, 3, 18), expected (1, 2, 3, 9)");
}

}  // namespace
}  // namespace gradlibra::kernels
