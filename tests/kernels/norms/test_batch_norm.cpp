// SPDX-License-Identifier: MIT
#include "kernels/norms/batch_norm.h"

#include "tests/kernels/map_values.h"
#include "tests/kernels/norms/norm_oracle.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

struct Statistics {
  Floats mean, rstd, running_mean, running_var;
};

Statistics statistics(const Floats& x, float eps = 1e-5f, float momentum = 0.1f, int threads = 1) {
  Cpu cpu(threads);
  const int64_t C = x.shape.dim(-1);
  Statistics s{Floats({C}), Floats({C}), Floats({C}, 0.0f), Floats({C}, 1.0f)};
  Floats workspace({batch_norm_workspace(x.size() / C, C)});
  batch_norm_statistics(cpu, x.view(), eps, momentum, s.mean.view(), s.rstd.view(), s.running_mean.view(),
                        s.running_var.view(), workspace.view());
  return s;
}

Floats normalize(const Floats& x, const Floats& mean, const Floats& rstd, const Floats& weight, const Floats& bias,
                 Activation activation, int threads = 1) {
  Cpu cpu(threads);
  Floats y(x.shape);
  batch_norm(cpu, x.view(), mean.view(), rstd.view(), weight.view(), bias.view(), activation, y.view());
  return y;
}

struct Gradients {
  Floats x, weight, bias;
};

// Adds to gradients that hold `before`, or overwrites NaN.
Gradients backward(const Floats& x, const Floats& y, const Floats& grad_y, const Floats& mean, const Floats& rstd,
                   const Floats& weight, Activation activation, Accumulate accumulate, int threads = 1) {
  Cpu cpu(threads);
  const int64_t C = weight.size();
  const float before = accumulate == Accumulate::add ? 0.5f : kNaN;
  Gradients g{Floats(x.shape, before), Floats({C}, before), Floats({C}, before)};
  Floats workspace({batch_norm_workspace(x.size() / C, C)});
  batch_norm_backward(cpu, x.view(), y.view(), grad_y.view(), mean.view(), rstd.view(), weight.view(), activation,
                      g.x.view(), accumulate, g.weight.view(), g.bias.view(), accumulate, workspace.view());
  return g;
}

// (2, 2, 2, 2), NHWC.
const Floats kX({2, 2, 2, 2}, {1.37097677f, -0.172464229f, 1.81600692f, 0.687925642f, -0.379371409f, 1.13765945f,
                               1.51313145f, 1.29966711f, 0.0982227991f, 0.457089281f, -0.987068377f, -0.756047789f,
                               -0.281583763f, -0.738181219f, 0.495549631f, -0.38452796f});
const Floats kWeight({2}, {1, 0.5f}), kBias({2}, {0, 0.1f});

TEST(BatchNorm, WorkedExampleWithStoredStatistics) {
  const Floats mean({2}, {0.1f, -0.2f}), rstd({2}, {1 / std::sqrt(1 + 1e-5f), 1 / std::sqrt(2 + 1e-5f)});
  const Floats y = normalize(kX, mean, rstd, kWeight, kBias, Activation::none);
  expect_near(y.values,
              std::vector<double>{1.27097041, 0.109735341, 1.71599834, 0.413928337, -0.479369012, 0.572932851,
                                  1.41312438, 0.630211065, -0.00177719198, 0.332315562, -1.08706294, -0.0965920897,
                                  -0.381581855, -0.0902753189, 0.395547653, 0.0347596773},
              1e-6);
}

TEST(BatchNorm, WorkedExampleWithBatchStatistics) {
  Cpu cpu(1);
  Statistics s{Floats({2}), Floats({2}), Floats({2}, {0.1f, -0.2f}), Floats({2}, {1, 2})};
  Floats workspace({batch_norm_workspace(8, 2)});
  batch_norm_statistics(cpu, kX.view(), 1e-5f, 0.1f, s.mean.view(), s.rstd.view(), s.running_mean.view(),
                        s.running_var.view(), workspace.view());
  expect_near(s.running_mean.values, std::vector<double>{0.1355733, -0.160860996}, 1e-6);
  expect_near(s.running_var.values, std::vector<double>{1.00368883, 1.86666657}, 1e-6);
  Floats y = normalize(kX, s.mean, s.rstd, kWeight, kBias, Activation::none);
  std::vector<double> want{0.960869439,  -0.138196653, 1.42808471,   0.425056298, -0.876735068, 0.719473865,
                           1.11011064,   0.825531939,  -0.375332386, 0.273939617, -1.51472624,  -0.520238765,
                           -0.774072625, -0.508542441, 0.0418015214, -0.27702386};
  expect_near(y.values, want, 2e-6);
  y = normalize(kX, s.mean, s.rstd, kWeight, kBias, Activation::relu);
  for (double& v : want) v = std::max(v, 0.0);
  expect_near(y.values, want, 2e-6);
}

TEST(BatchNorm, VarianceSurvivesALargeMean) {
  // Standard deviation 0.01 around 1000: E[x^2] - E[x]^2 in float has no correct digit.
  Floats x = random_array({20000, 3}, 1);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = 1000.0f + 0.01f * x[i];
  x[0] = 1000.5f;  // an outlier where the first chunk takes its shift from
  NormOracle oracle{.N = 1, .R = 20000, .C = 3, .G = 3, .x = as_doubles(x.values)};
  std::vector<double> mean, var;
  oracle.moments(mean, var);
  const Statistics s = statistics(x, 1e-12f);
  for (size_t c = 0; c < 3; ++c) {
    EXPECT_TRUE(near(s.mean.values[c], mean[c], 1e-4));  // half a unit in the last place of 1000 is 3e-5
    EXPECT_TRUE(near(s.rstd.values[c], 1 / std::sqrt(var[c] + 1e-12), 0, 1e-3)) << s.rstd.values[c];
  }
}

TEST(BatchNorm, OneRowAndConstantChannels) {
  const Statistics one = statistics(Floats({1, 2}, {3, -4}), 1e-5f, 1);
  EXPECT_EQ(one.mean.values, (std::vector<float>{3, -4}));
  EXPECT_EQ(one.running_mean.values, (std::vector<float>{3, -4}));
  EXPECT_EQ(one.running_var.values, (std::vector<float>{0, 0}));  // not 0 / 0
  const Statistics constant = statistics(Floats({5000, 1}, 1.0f / 3), 1e-5f);
  EXPECT_EQ(constant.mean[0], 1.0f / 3);
  EXPECT_TRUE(near(constant.rstd[0], 1 / std::sqrt(1e-5), 0, 1e-5));
  const Statistics broken = statistics(Floats({2, 2}, {kNaN, 1, 2, 1}));
  EXPECT_TRUE(std::isnan(broken.mean[0]) && std::isnan(broken.rstd[0]));
  EXPECT_EQ(broken.mean[1], 1.0f);
}

TEST(BatchNorm, GradientsAgainstCentralDifferences) {
  const Floats x = random_array({2, 3, 2, 3}, 2), grad_y = random_array({2, 3, 2, 3}, 3);
  const Floats weight = random_array({3}, 4, 0.5f, 1.5f), bias = random_array({3}, 5);
  for (const Activation activation : {Activation::none, Activation::relu})
    for (const Accumulate accumulate : {Accumulate::overwrite, Accumulate::add}) {
      NormOracle oracle{.N = 1,
                        .R = 12,
                        .C = 3,
                        .G = 3,
                        .relu = activation == Activation::relu,
                        .x = as_doubles(x.values),
                        .weight = as_doubles(weight.values),
                        .bias = as_doubles(bias.values)};
      const Statistics s = statistics(x);
      const Floats y = normalize(x, s.mean, s.rstd, weight, bias, activation);
      const Gradients g = backward(x, y, grad_y, s.mean, s.rstd, weight, activation, accumulate);
      const std::vector<double> dy = as_doubles(grad_y.values);
      const double before = accumulate == Accumulate::add ? 0.5 : 0;
      const auto want = [&](std::vector<double> NormOracle::*values) {
        std::vector<double> result = oracle.gradient(values, dy);
        for (double& v : result) v += before;
        return result;
      };
      // Values of order 1 in float; the differences themselves are good to 1e-9.
      expect_near(g.x.values, want(&NormOracle::x), 5e-6);
      expect_near(g.weight.values, want(&NormOracle::weight), 5e-6);
      expect_near(g.bias.values, want(&NormOracle::bias), 5e-6);
    }
}

TEST(BatchNorm, ChunksTilesAndThreads) {
  // More rows than a chunk, more channels than a tile.
  for (const Shape& shape : {Shape{3, 41, 17, 20}, Shape{70, 300}}) {
    const int64_t C = shape.dim(-1), R = shape.size() / C;
    const Floats x = random_array(shape, 6, -1, 3), grad_y = random_array(shape, 7), weight = random_array({C}, 8),
                 bias = random_array({C}, 9);
    NormOracle oracle{.N = 1,
                      .R = R,
                      .C = C,
                      .G = C,
                      .relu = true,
                      .x = as_doubles(x.values),
                      .weight = as_doubles(weight.values),
                      .bias = as_doubles(bias.values)};
    const Statistics one = statistics(x, 1e-5f, 0.1f, 1), three = statistics(x, 1e-5f, 0.1f, 3);
    EXPECT_EQ(one.mean.values, three.mean.values);
    EXPECT_EQ(one.rstd.values, three.rstd.values);
    EXPECT_EQ(one.running_var.values, three.running_var.values);
    const Floats y = normalize(x, one.mean, one.rstd, weight, bias, Activation::relu, 1);
    expect_near(y.values, oracle.forward(), 5e-6);
    EXPECT_EQ(y.values, normalize(x, one.mean, one.rstd, weight, bias, Activation::relu, 3).values);
    const auto run = [&](int threads) {
      return backward(x, y, grad_y, one.mean, one.rstd, weight, Activation::relu, Accumulate::overwrite, threads);
    };
    const Gradients g = run(1), again = run(3);
    EXPECT_EQ(g.x.values, again.x.values);
    EXPECT_EQ(g.weight.values, again.weight.values);
    EXPECT_EQ(g.bias.values, again.bias.values);
    // The gradient of a normalised channel has neither a mean nor a part along x_hat.
    for (int64_t c = 0; c < C; ++c) {
      double sum = 0, along = 0;
      for (int64_t r = 0; r < R; ++r) {
        sum += static_cast<double>(g.x[r * C + c]);
        along += static_cast<double>(g.x[r * C + c]) * static_cast<double>(x[r * C + c] - one.mean[c]);
      }
      ASSERT_TRUE(near(sum, 0, 1e-3) && near(along, 0, 1e-3)) << c << ": " << sum << ", " << along;
    }
  }
}

// The same float arithmetic on the same values, and one rounding as they are stored.
TEST(BatchNorm, Bfloat16MapsAreTheFloatResultsRounded) {
  Cpu cpu(1);
  for (const Shape& shape : {Shape{3, 41, 17, 20}, Shape{70, 300}, Shape{1, 7}})
    for (const Accumulate accumulate : {Accumulate::overwrite, Accumulate::add}) {
      SCOPED_TRACE(shape.to_string());
      const int64_t C = shape.dim(-1);
      const Floats x(shape, rounded(random_array(shape, 11, 250, 260).values)),
          weight = random_array({C}, 13), grad_y(shape, rounded(random_array(shape, 12).values)),
          bias = random_array({C}, 14);
      const Array<bfloat16> x_stored(shape, stored<bfloat16>(x.values)),
          grad_y_stored(shape, stored<bfloat16>(grad_y.values));
      Statistics s = statistics(x), again = statistics(x);
      Floats workspace({batch_norm_workspace(x.size() / C, C)});
      batch_norm_statistics<bfloat16>(cpu, x_stored.view(), 1e-5f, 0.1f, again.mean.view(), again.rstd.view(), {}, {},
                                      workspace.view());
      EXPECT_EQ(again.mean.values, s.mean.values);
      EXPECT_EQ(again.rstd.values, s.rstd.values);
      Floats y = normalize(x, s.mean, s.rstd, weight, bias, Activation::relu);
      Array<bfloat16> y_stored(shape), grad_x(shape, to_bfloat16(0.5f));
      batch_norm(cpu, x_stored.view(), s.mean.view(), s.rstd.view(), weight.view(), bias.view(), Activation::relu,
                 y_stored.view());
      EXPECT_EQ(widened(y_stored.values), rounded(y.values));
      y.values = widened(y_stored.values);
      const Gradients g = backward(x, y, grad_y, s.mean, s.rstd, weight, Activation::relu, accumulate);
      Floats grad_weight({C}, 0.5f), grad_bias({C}, 0.5f);
      batch_norm_backward(cpu, x_stored.view(), y_stored.view(), grad_y_stored.view(), s.mean.view(), s.rstd.view(),
                          weight.view(), Activation::relu, grad_x.view(), accumulate, grad_weight.view(),
                          grad_bias.view(), accumulate, workspace.view());
      EXPECT_EQ(widened(grad_x.values), rounded(g.x.values));
      EXPECT_EQ(grad_weight.values, g.weight.values);
      EXPECT_EQ(grad_bias.values, g.bias.values);
    }
}

TEST(BatchNorm, LeavesOutWhatIsNotAskedFor) {
  Cpu cpu(1);
  const Floats grad_y = random_array({5, 2}, 10), mean({2}, 0.0f), rstd({2}, 2.0f), weight({2}, {1, 3});
  // Parameters only.
  Floats grad_weight({2}), grad_bias({2}), workspace({batch_norm_workspace(5, 2)});
  batch_norm_backward(cpu, grad_y.view(), {}, grad_y.view(), mean.view(), rstd.view(), weight.view(), Activation::none,
                      {}, Accumulate::overwrite, grad_weight.view(), grad_bias.view(), Accumulate::overwrite,
                      workspace.view());
  // The map only.
  Floats grad_x({5, 2}), grad_x_alone({5, 2});
  batch_norm_backward(cpu, grad_y.view(), {}, grad_y.view(), mean.view(), rstd.view(), weight.view(), Activation::none,
                      grad_x.view(), Accumulate::overwrite, grad_weight.view(), grad_bias.view(), Accumulate::overwrite,
                      workspace.view());
  batch_norm_backward(cpu, grad_y.view(), {}, grad_y.view(), mean.view(), rstd.view(), weight.view(), Activation::none,
                      grad_x_alone.view(), Accumulate::overwrite, {}, {}, Accumulate::overwrite, workspace.view());
  EXPECT_EQ(grad_x_alone.values, grad_x.values);
  double squares = 0;
  for (int64_t r = 0; r < 5; ++r)
    squares += 2.0 * static_cast<double>(grad_y[2 * r]) * static_cast<double>(grad_y[2 * r]);
  EXPECT_TRUE(near(grad_weight[0], squares, 1e-6));
}

TEST(BatchNorm, EmptyAndWrongShapes) {
  Cpu cpu(1);
  Floats x({0, 4, 4, 2}, std::vector<float>{}), two({2}, 1.0f), three({3}, 1.0f);
  batch_norm(cpu, x.view(), two.view(), two.view(), two.view(), two.view(), Activation::relu, x.view());
  Floats grad_weight({2}), grad_bias({2});
  batch_norm_backward(cpu, x.view(), x.view(), x.view(), two.view(), two.view(), two.view(), Activation::relu, x.view(),
                      Accumulate::overwrite, grad_weight.view(), grad_bias.view(), Accumulate::overwrite, {});
  EXPECT_EQ(grad_weight.values, (std::vector<float>{0, 0}));
  EXPECT_EQ(grad_bias.values, (std::vector<float>{0, 0}));
  EXPECT_THROW(batch_norm_statistics(cpu, x.view(), 1e-5f, 0.1f, two.view(), two.view(), {}, {}, {}),
               std::invalid_argument);
  EXPECT_THROW(batch_norm(cpu, x.view(), two.view(), two.view(), three.view(), two.view(), Activation::none, x.view()),
               std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
