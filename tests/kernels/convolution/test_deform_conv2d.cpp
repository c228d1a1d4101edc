// SPDX-License-Identifier: MIT
// Deformable convolution on the host: a worked example, and the columns of deform_im2col times the weight in double
// precision.
#include "kernels/convolution/deform_conv2d.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tests/messages.h"
#include "tests/support.h"

namespace gradlibra::kernels {
namespace {

using testing::kNaN;

struct Problem {
  Problem(const Shape& x_shape_, int64_t outputs, int kernel_, uint32_t seed = 5)
      : x_shape(x_shape_),
        offsets_shape{x_shape[0], x_shape[1], x_shape[2], 2 * kernel_ * kernel_},
        weight_shape{outputs, kernel_, kernel_, x_shape[3]},
        y_shape{x_shape[0], x_shape[1], x_shape[2], outputs},
        kernel(kernel_),
        rng(seed) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t i = 0; i < x_shape.size(); ++i) x.push_back(to_bfloat16(uniform(rng)));
    for (int64_t i = 0; i < weight_shape.size(); ++i) weight.push_back(to_bfloat16(uniform(rng)));
    for (int64_t i = 0; i < offsets_shape.size(); ++i) offsets.push_back(2 * uniform(rng));
  }

  // y is NaN before.
  std::vector<float> run(Activation activation, int threads = 2) const {
    Cpu cpu(threads);
    std::vector<bfloat16> y(static_cast<size_t>(y_shape.size()), to_bfloat16(kNaN));
    deform_conv2d(cpu, {x.data(), x_shape}, {offsets.data(), offsets_shape}, {weight.data(), weight_shape}, kernel,
                  activation, {y.data(), y_shape});
    std::vector<float> wide;
    for (const bfloat16 v : y) wide.push_back(to_float(v));
    return wide;
  }

  std::vector<double> columns_times_weight() const {
    const int64_t taps = int64_t{kernel} * kernel, depth = taps * x_shape[3],
                  cells = x_shape[0] * x_shape[1] * x_shape[2];
    std::vector<bfloat16> columns(static_cast<size_t>(cells * depth));
    Cpu cpu(1);
    deform_im2col<bfloat16>(cpu, {x.data(), x_shape}, {offsets.data(), offsets_shape}, kernel,
                            {columns.data(), {x_shape[0], x_shape[1], x_shape[2], taps, x_shape[3]}});
    std::vector<double> y;
    for (int64_t cell = 0; cell < cells; ++cell)
      for (int64_t o = 0; o < y_shape[3]; ++o) {
        double sum = 0;
        for (int64_t k = 0; k < depth; ++k)
          sum += double{to_float(weight[static_cast<size_t>(o * depth + k)])} *
                 double{to_float(columns[static_cast<size_t>(cell * depth + k)])};
        y.push_back(sum);
      }
    return y;
  }

  Shape x_shape, offsets_shape, weight_shape, y_shape;
  int kernel;
  std::mt19937 rng;
  std::vector<bfloat16> x, weight;
  std::vector<float> offsets;
};

// One tap, two cells 1 and 3 side by side in every one of eight channels; outputs are the sum of all channels and minus
// channel 0.
TEST(DeformConv2d, WorkedExample) {
  Problem p({1, 1, 2, 8}, 2, 1);
  for (size_t i = 0; i < 16; ++i) p.x[i] = to_bfloat16(i < 8 ? 1.0f : 3.0f);
  for (size_t i = 0; i < 16; ++i) p.weight[i] = to_bfloat16(i < 8 ? 1.0f : i == 8 ? -1.0f : 0.0f);
  p.offsets = {0, 0.5f, 0, 0};  // cell 0 reads halfway to its neighbour: 2; cell 1 itself: 3
  EXPECT_EQ(p.run(Activation::none), (std::vector<float>{16, -2, 24, -3}));
  EXPECT_EQ(p.run(Activation::relu), (std::vector<float>{16, 0, 24, 0}));
  p.offsets = {0.25f, 0, 0, 0.5f};  // a quarter below the map: 3/4 of 1; half beyond its right side: half of 3
  EXPECT_EQ(p.run(Activation::none), (std::vector<float>{6, -0.75f, 12, -1.5f}));
}

TEST(DeformConv2d, IsColumnsTimesWeight) {
  const Problem problems[] = {{{1, 1, 1, 8}, 1, 1},  {{2, 5, 4, 16}, 3, 3}, {{1, 3, 7, 24}, 5, 5},
                              {{3, 2, 3, 64}, 9, 3}, {{1, 6, 1, 8}, 0, 3},  {{1, 2, 2, 0}, 2, 3}};
  for (const Problem& p : problems) {
    SCOPED_TRACE(p.x_shape.to_string() + " to " + p.weight_shape.to_string());
    const std::vector<double> want = p.columns_times_weight();
    const std::vector<float> got = p.run(Activation::none), positive = p.run(Activation::relu);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      // Half the distance of two bfloat16, and the rounding of up to 600 sums in float.
      ASSERT_TRUE(std::abs(got[i] - want[i]) <= std::abs(want[i]) / 256 + 1e-4)
          << i << ": " << got[i] << " " << want[i];
      ASSERT_EQ(positive[i], got[i] < 0 ? 0 : got[i]) << i;
    }
  }
}

TEST(DeformConv2d, SameBitsForEveryNumberOfThreads) {
  const Problem p({2, 9, 8, 16}, 7, 3);
  for (const int threads : {1, 3, 8}) EXPECT_EQ(p.run(Activation::relu, threads), p.run(Activation::relu, 2));
}

TEST(DeformConv2d, NaNStaysNaNBehindAReLU) {
  Problem p({1, 1, 1, 8}, 2, 1);
  p.offsets = {0, 0};
  p.x[3] = to_bfloat16(kNaN);
  for (const float v : p.run(Activation::relu)) EXPECT_TRUE(std::isnan(v));
}

TEST(DeformConv2d, EmptyInput) {
  for (const Shape& shape : {Shape{0, 4, 4, 8}, Shape{2, 0, 4, 8}, Shape{2, 4, 0, 8}})
    EXPECT_TRUE(Problem(shape, 4, 3).run(Activation::none).empty());
}

TEST(DeformConv2d, WrongShapesThrowWithTheNumbers) {
  const auto message = [](const Shape& x, const Shape& offsets, const Shape& weight, int kernel, const Shape& y) {
    return message_of<std::invalid_argument>([&] { (void)deform_conv2d_dims(x, offsets, weight, kernel, y); });
  };
  const Shape x{1, 2, 3, 16}, offsets{1, 2, 3, 18}, weight{5, 3, 3, 16}, y{1, 2, 3, 5};
  EXPECT_EQ(message(x, offsets, weight, 3, y), "");
  EXPECT_EQ(message({1, 2, 3, 12}, offsets, weight, 3, y),
            "deform_conv2d: x has 12 channels, expected a multiple of 8");
  EXPECT_EQ(message(x, {1, 2, 3, 9}, weight, 3, y),
            "deform_conv2d: offsets have shape (1, 2, 3, 9), expected (1, 2, 3, 18)");
  EXPECT_EQ(message(x, offsets, {5, 3, 3, 8}, 3, y),
            "deform_conv2d: weight has shape (5, 3, 3, 8), expected (O, 3, 3, 16)");
  EXPECT_EQ(message(x, offsets, weight, 3, {1, 2, 3, 4}),
            "deform_conv2d: y has shape (1, 2, 3, 4), expected (1, 2, 3, 5)");
  EXPECT_EQ(message(x, {1, 2, 3, 8}, {5, 2, 2, 16}, 2, y), "deform_conv2d: kernel is 2, expected an odd number");
}

}  // namespace
}  // namespace gradlibra::kernels
