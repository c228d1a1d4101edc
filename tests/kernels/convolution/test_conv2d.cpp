// SPDX-License-Identifier: MIT
// The host convolution against a hand example and against its definition written out in double precision.
#include "kernels/convolution/conv2d.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/messages.h"
#include "tests/support.h"

namespace gradlibra::kernels {
namespace {

using testing::expect_near;
using testing::kInfinity;
using testing::kNaN;
using testing::random_floats;

struct Case {
  int64_t N, H, W, C, K, R, S;
  ConvShape shape;
  [[nodiscard]] Shape x() const { return {N, H, W, C}; }
  [[nodiscard]] Shape weight() const { return {K, R, S, C}; }
  [[nodiscard]] Shape y() const { return {N, conv_size(H, R, shape), conv_size(W, S, shape), K}; }
};

// Calls body(index into x, index into weight, index into y) for every product of the definition.
template <class Body>
void for_products(const Case& t, Body&& body) {
  const Shape y = t.y();
  for (int64_t n = 0; n < t.N; ++n)
    for (int64_t i = 0; i < y[1]; ++i)
      for (int64_t j = 0; j < y[2]; ++j)
        for (int64_t o = 0; o < t.K; ++o)
          for (int64_t kr = 0; kr < t.R; ++kr)
            for (int64_t kc = 0; kc < t.S; ++kc) {
              const int64_t h = i * t.shape.stride - t.shape.padding + kr * t.shape.dilation;
              const int64_t w = j * t.shape.stride - t.shape.padding + kc * t.shape.dilation;
              if (h < 0 || h >= t.H || w < 0 || w >= t.W) continue;
              for (int64_t c = 0; c < t.C; ++c)
                body(((n * t.H + h) * t.W + w) * t.C + c, ((o * t.R + kr) * t.S + kc) * t.C + c,
                     ((n * y[1] + i) * y[2] + j) * t.K + o);
            }
}

// Rounding of a float sum of `terms` products of values in [-1, 1].
double tolerance(int64_t terms) { return 1e-7 * static_cast<double>(terms + 4); }

class Conv2d : public ::testing::Test {
 protected:
  Cpu cpu{2};
};

TEST_F(Conv2d, HandExample) {
  // A 2 x 2 kernel on 3 x 3 values, bias 100: y = x00 + 2 x01 + 3 x10 + 4 x11 + 100.
  const std::vector<float> x{1, 2, 3, 4, 5, 6, 7, 8, 9}, weight{1, 2, 3, 4}, bias{100};
  std::vector<float> y(4, kNaN);
  conv2d(cpu, {x.data(), {1, 3, 3, 1}}, {weight.data(), {1, 2, 2, 1}}, {bias.data(), {1}}, {},
         {y.data(), {1, 2, 2, 1}});
  EXPECT_EQ(y, (std::vector<float>{137, 147, 167, 177}));

  const std::vector<float> grad_y{1, 0, 0, 10};
  std::vector<float> grad_x(9, kNaN), grad_weight(4, kNaN);
  conv2d_backward_data(cpu, {grad_y.data(), {1, 2, 2, 1}}, {weight.data(), {1, 2, 2, 1}}, {},
                       {grad_x.data(), {1, 3, 3, 1}}, Accumulate::overwrite);
  EXPECT_EQ(grad_x, (std::vector<float>{1, 2, 0, 3, 14, 20, 0, 30, 40}));
  conv2d_backward_weight(cpu, {x.data(), {1, 3, 3, 1}}, {grad_y.data(), {1, 2, 2, 1}}, {},
                         {grad_weight.data(), {1, 2, 2, 1}}, Accumulate::overwrite);
  EXPECT_EQ(grad_weight, (std::vector<float>{51, 62, 84, 95}));
}

TEST_F(Conv2d, PaddingStrideDilationByHand) {
  // One row 1..5, kernel (1, 10, 100), dilation 2, padding 2, stride 2: taps at j*2-2, j*2, j*2+2.
  const std::vector<float> x{1, 2, 3, 4, 5}, weight{1, 10, 100};
  std::vector<float> y(15, kNaN);
  conv2d(cpu, {x.data(), {1, 1, 5, 1}}, {weight.data(), {1, 1, 3, 1}}, {}, {.stride = 2, .padding = 2, .dilation = 2},
         {y.data(), {1, 3, 3, 1}});
  // Rows 0 and 2 of the output lie in the padding.
  EXPECT_EQ(y[3], 310);
  EXPECT_EQ(y[4], 531);
  EXPECT_EQ(y[5], 53);
  EXPECT_EQ(y[0], 0);
  EXPECT_EQ(y[8], 0);
}

TEST_F(Conv2d, DefinitionOverManyShapes) {
  const Case cases[] = {
      {1, 1, 1, 1, 1, 1, 1, {}},
      {2, 5, 7, 3, 4, 3, 3, {.padding = 1}},
      {1, 9, 8, 8, 16, 3, 3, {.stride = 2, .padding = 1}},
      {3, 6, 5, 9, 11, 1, 1, {}},
      {2, 7, 7, 17, 8, 1, 1, {.stride = 2}},
      {1, 15, 13, 3, 10, 7, 7, {.stride = 2, .padding = 3}},
      {2, 9, 9, 5, 6, 3, 3, {.padding = 2, .dilation = 2}},
      {1, 4, 6, 2, 3, 2, 5, {.stride = 3, .padding = 4}},
      {5, 2, 2, 24, 7, 3, 3, {.padding = 1}},
      {1, 12, 12, 8, 8, 3, 3, {.padding = 8, .dilation = 8}},
  };
  for (const Case& t : cases) {
    SCOPED_TRACE(t.x().to_string() + " * " + t.weight().to_string());
    const std::vector<float> x = random_floats(t.x().size(), 1), weight = random_floats(t.weight().size(), 2),
                             bias = random_floats(t.K, 3);
    const std::vector<float> grad_y = random_floats(t.y().size(), 4);
    std::vector<double> want_y(static_cast<size_t>(t.y().size())), want_x(x.size()), want_weight(weight.size());
    for (size_t i = 0; i < want_y.size(); ++i) want_y[i] = bias[i % static_cast<size_t>(t.K)];
    for_products(t, [&](int64_t xi, int64_t wi, int64_t yi) {
      const auto a = static_cast<size_t>(xi), b = static_cast<size_t>(wi), c = static_cast<size_t>(yi);
      want_y[c] += double{x[a]} * weight[b];
      want_x[a] += double{weight[b]} * grad_y[c];
      want_weight[b] += double{x[a]} * grad_y[c];
    });

    std::vector<float> y(want_y.size(), kNaN), grad_x(x.size(), kNaN), grad_weight(weight.size(), kNaN);
    conv2d(cpu, {x.data(), t.x()}, {weight.data(), t.weight()}, {bias.data(), {t.K}}, t.shape, {y.data(), t.y()});
    expect_near("y", y, want_y, tolerance(t.R * t.S * t.C));
    conv2d_backward_data(cpu, {grad_y.data(), t.y()}, {weight.data(), t.weight()}, t.shape, {grad_x.data(), t.x()},
                         Accumulate::overwrite);
    expect_near("grad_x", grad_x, want_x, tolerance(t.R * t.S * t.K));
    conv2d_backward_weight(cpu, {x.data(), t.x()}, {grad_y.data(), t.y()}, t.shape, {grad_weight.data(), t.weight()},
                           Accumulate::overwrite);
    expect_near("grad_weight", grad_weight, want_weight, tolerance(t.y().size() / std::max<int64_t>(t.K, 1)));

    // Adding to what is there.
    conv2d_backward_data(cpu, {grad_y.data(), t.y()}, {weight.data(), t.weight()}, t.shape, {grad_x.data(), t.x()},
                         Accumulate::add);
    conv2d_backward_weight(cpu, {x.data(), t.x()}, {grad_y.data(), t.y()}, t.shape, {grad_weight.data(), t.weight()},
                           Accumulate::add);
    for (double& v : want_x) v *= 2;
    for (double& v : want_weight) v *= 2;
    expect_near("grad_x, added", grad_x, want_x, 2 * tolerance(t.R * t.S * t.K));
    expect_near("grad_weight, added", grad_weight, want_weight, 2 * tolerance(t.y().size() / t.K));
  }
}

// The convolution is linear in x and in the weight, so central differences are exact up to rounding for any step.
TEST_F(Conv2d, BackwardAgainstDifferencesOfForward) {
  const Case t{2, 5, 6, 3, 9, 3, 3, {.stride = 2, .padding = 1}};
  std::vector<float> x = random_floats(t.x().size(), 5), weight = random_floats(t.weight().size(), 6);
  const std::vector<float> grad_y = random_floats(t.y().size(), 7);
  std::vector<float> y(grad_y.size()), grad_x(x.size()), grad_weight(weight.size());
  conv2d_backward_data(cpu, {grad_y.data(), t.y()}, {weight.data(), t.weight()}, t.shape, {grad_x.data(), t.x()},
                       Accumulate::overwrite);
  conv2d_backward_weight(cpu, {x.data(), t.x()}, {grad_y.data(), t.y()}, t.shape, {grad_weight.data(), t.weight()},
                         Accumulate::overwrite);
  const auto loss = [&] {
    conv2d(cpu, {x.data(), t.x()}, {weight.data(), t.weight()}, {}, t.shape, {y.data(), t.y()});
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += double{grad_y[i]} * y[i];
    return sum;
  };
  const auto check_slope = [&](std::vector<float>& values, const std::vector<float>& gradient) {
    for (size_t i = 0; i < values.size(); ++i) {
      const float at = values[i];
      values[i] = at + 1;
      const double above = loss(), high = values[i];
      values[i] = at - 1;
      const double below = loss(), low = values[i];
      values[i] = at;
      ASSERT_TRUE(std::abs((above - below) / (high - low) - gradient[i]) <= 2e-5) << i;
    }
  };
  check_slope(x, grad_x);
  check_slope(weight, grad_weight);
}

TEST_F(Conv2d, SameBitsForEveryNumberOfThreads) {
  const Case t{3, 11, 9, 13, 21, 3, 3, {.padding = 1}};
  const std::vector<float> x = random_floats(t.x().size(), 8), weight = random_floats(t.weight().size(), 9),
                           grad_y = random_floats(t.y().size(), 10);
  std::vector<std::vector<float>> results[3];
  for (const int threads : {1, 2, 5}) {
    Cpu some(threads);
    std::vector<float> y(grad_y.size()), grad_x(x.size()), grad_weight(weight.size());
    conv2d(some, {x.data(), t.x()}, {weight.data(), t.weight()}, {}, t.shape, {y.data(), t.y()});
    conv2d_backward_data(some, {grad_y.data(), t.y()}, {weight.data(), t.weight()}, t.shape, {grad_x.data(), t.x()},
                         Accumulate::overwrite);
    conv2d_backward_weight(some, {x.data(), t.x()}, {grad_y.data(), t.y()}, t.shape, {grad_weight.data(), t.weight()},
                           Accumulate::overwrite);
    results[0].push_back(y);
    results[1].push_back(grad_x);
    results[2].push_back(grad_weight);
  }
  for (const auto& runs : results) {
    EXPECT_EQ(runs[0], runs[1]);
    EXPECT_EQ(runs[0], runs[2]);
  }
}

TEST_F(Conv2d, NoImages) {
  const std::vector<float> weight(2 * 3 * 3 * 4, 1.0f);
  std::vector<float> grad_weight(weight.size(), kNaN);
  const ConvShape same{.padding = 1};
  conv2d(cpu, {nullptr, {0, 5, 5, 4}}, {weight.data(), {2, 3, 3, 4}}, {}, same, {nullptr, {0, 5, 5, 2}});
  conv2d_backward_data(cpu, {nullptr, {0, 5, 5, 2}}, {weight.data(), {2, 3, 3, 4}}, same, {nullptr, {0, 5, 5, 4}},
                       Accumulate::overwrite);
  conv2d_backward_weight(cpu, {nullptr, {0, 5, 5, 4}}, {nullptr, {0, 5, 5, 2}}, same,
                         {grad_weight.data(), {2, 3, 3, 4}}, Accumulate::overwrite);
  EXPECT_EQ(grad_weight, std::vector<float>(weight.size(), 0.0f));
}

// Padding is skipped, not multiplied by zero; what is read spreads its NaN.
TEST_F(Conv2d, InfiniteWeightMeetsNoPadding) {
  std::vector<float> x(9, 1.0f), weight(9, 1.0f), y(9, kNaN);
  weight[0] = kInfinity;
  const auto run = [&] {
    conv2d(cpu, {x.data(), {1, 3, 3, 1}}, {weight.data(), {1, 3, 3, 1}}, {}, {.padding = 1}, {y.data(), {1, 3, 3, 1}});
  };
  run();
  EXPECT_EQ(y[0], 4);  // the infinite tap of the first cell lies outside
  EXPECT_EQ(y[8], kInfinity);
  weight[0] = 1;
  x[8] = kNaN;
  run();
  EXPECT_EQ(y[0], 4);
  EXPECT_TRUE(std::isnan(y[4]));
}

TEST_F(Conv2d, WrongShapesThrowWithTheNumbers) {
  std::vector<float> a(1000), b(1000), c(1000);
  const auto message = [&](const Shape& x, const Shape& weight, const Shape& y, const ConvShape& shape) {
    return message_of<std::invalid_argument>([&] {
      conv2d(cpu, {a.data(), x}, {b.data(), weight}, {}, shape, {c.data(), y});
    });
  };
  EXPECT_EQ(message({1, 4, 4, 3}, {2, 3, 3, 5}, {1, 2, 2, 2}, {}), "conv2d: x has 3 channels, weight expects 5");
  EXPECT_HAS(message({1, 4, 4, 3}, {2, 3, 3, 3}, {1, 4, 4, 2}, {}), "(1, 2, 2, 2)");
  EXPECT_HAS(message({1, 2, 2, 3}, {2, 3, 3, 3}, {1, 0, 0, 2}, {}), "larger than the padded map");
  EXPECT_HAS(message({1, 2, 2, 3}, {2, 3, 3, 3}, {1, 1, 1, 2}, {.stride = 2}), "larger");
  EXPECT_HAS(message({1, 4, 4, 3}, {2, 3, 3, 3}, {1, 2, 2, 2}, {.stride = 0}), "stride 0");
  EXPECT_HAS(message({4, 4, 3}, {2, 3, 3, 3}, {1, 2, 2, 2}, {}), "four dimensions");
}

}  // namespace
}  // namespace gradlibra::kernels
