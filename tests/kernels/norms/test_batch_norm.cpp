// SPDX-License-Identifier: MIT
#include "kernels/norms/batch_norm.h"

#include <array>
#include <functional>

#include "tests/kernels/map_values.h"
#include "tests/kernels/norms/norm_oracle.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

struct Statistics {
  Floats mean, rstd, running_mean, running_var;
  explicit Statistics(int64_t C) : mean({C}), rstd({C}), running_mean({C}, 0.0f), running_var({C}, 1.0f) {}

  template <class T>
  void of(const Array<T>& x, float eps, float momentum, int threads = 1) {
    Cpu cpu(threads);
    const int64_t C = mean.size();
    Floats workspace({batch_norm_workspace(x.size() / C, C)});
    batch_norm_statistics<T>(cpu, {.x = x.view(),
                                   .eps = eps,
                                   .mean = mean.view(),
                                   .rstd = rstd.view(),
                                   .running = {momentum, running_mean.view(), running_var.view()},
                                   .workspace = workspace.view()});
  }
};

template <class T>
Statistics statistics(const Array<T>& x, float eps = 1e-5f, float momentum = 0.1f, int threads = 1) {
  Statistics s(x.shape.dim(-1));
  s.of(x, eps, momentum, threads);
  return s;
}

template <class T>
Array<T> normalize(const Array<T>& x, const Floats& mean, const Floats& rstd, const Floats& weight, const Floats& bias,
                   Activation activation, int threads = 1) {
  Cpu cpu(threads);
  Array<T> y(x.shape);
  batch_norm<T>(cpu, {x.view(), mean.view(), rstd.view(), weight.view(), bias.view(), activation, y.view()});
  return y;
}

template <class T>
struct Gradients {
  Array<T> x;
  Floats weight, bias;
};

// One layer's backward pass.
template <class T>
struct Backward {
  const Array<T>&x, &y, &grad_y;
  const Floats &mean, &rstd, &weight;
  Activation activation = Activation::none;
  Accumulate mode = Accumulate::overwrite;
  std::array<bool, 3> wanted{true, true, true};  // the gradients of x, weight and bias

  // Adds to gradients that hold 0.5, or overwrites NaN.
  [[nodiscard]] Gradients<T> run(int threads = 1) const {
    Cpu cpu(threads);
    const int64_t C = weight.size();
    const float before = mode == Accumulate::add ? 0.5f : kNaN;
    Gradients<T> g{Array<T>(x.shape, from_float<T>(before)), Floats({C}, before), Floats({C}, before)};
    Floats workspace({batch_norm_workspace(x.size() / C, C)});
    NormBackwardPass<T> pass{.x = x.view(),
                             .y = y.view(),
                             .grad_y = grad_y.view(),
                             .mean = mean.view(),
                             .rstd = rstd.view(),
                             .weight = weight.view(),
                             .activation = activation,
                             .workspace = workspace.view()};
    if (wanted[0]) pass.grad_x = {g.x.view(), mode};
    if (wanted[1]) pass.grad_weight = {g.weight.view(), mode};
    if (wanted[2]) pass.grad_bias = {g.bias.view(), mode};
    batch_norm_backward<T>(cpu, pass);
    return g;
  }
};

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
  Statistics s(2);
  s.running_mean.values = {0.1f, -0.2f};
  s.running_var.values = {1, 2};
  s.of(kX, 1e-5f, 0.1f);
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
      const auto g = Backward<float>{x, y, grad_y, s.mean, s.rstd, weight, activation, accumulate}.run();
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
    const Backward<float> backward{x, y, grad_y, one.mean, one.rstd, weight, Activation::relu};
    const auto g = backward.run(1), again = backward.run(3);
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
  for (const Shape& shape : {Shape{3, 41, 17, 20}, Shape{70, 300}, Shape{1, 7}})
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      SCOPED_TRACE(shape.to_string());
      const int64_t C = shape.dim(-1);
      const Floats x(shape, rounded(random_array(shape, 11, 250, 260).values)),
          weight = random_array({C}, 13), grad_y(shape, rounded(random_array(shape, 12).values)),
          bias = random_array({C}, 14);
      const Array<bfloat16> x_stored(shape, stored<bfloat16>(x.values)),
          grad_y_stored(shape, stored<bfloat16>(grad_y.values));
      const Statistics s = statistics(x), again = statistics(x_stored);
      EXPECT_EQ(again.mean.values, s.mean.values);
      EXPECT_EQ(again.rstd.values, s.rstd.values);
      Floats y = normalize(x, s.mean, s.rstd, weight, bias, Activation::relu);
      const auto y_stored = normalize(x_stored, s.mean, s.rstd, weight, bias, Activation::relu);
      EXPECT_EQ(widened(y_stored.values), rounded(y.values));
      y.values = widened(y_stored.values);
      const auto want = Backward<float>{x, y, grad_y, s.mean, s.rstd, weight, Activation::relu, mode}.run();
      const auto got =
          Backward<bfloat16>{x_stored, y_stored, grad_y_stored, s.mean, s.rstd, weight, Activation::relu, mode}.run();
      EXPECT_EQ(widened(got.x.values), rounded(want.x.values));
      EXPECT_EQ(got.weight.values, want.weight.values);
      EXPECT_EQ(got.bias.values, want.bias.values);
    }
}

// Each gradient by itself: what is asked for has the bits that it has beside the others, the rest stays as it was.
TEST(BatchNorm, LeavesOutWhatIsNotAskedFor) {
  const Floats grad_y = random_array({5, 2}, 10), mean({2}, 0.0f), rstd({2}, 2.0f), weight({2}, {1, 3});
  Backward<float> backward{grad_y, grad_y, grad_y, mean, rstd, weight};
  const auto all = backward.run();
  double squares = 0;
  for (int64_t r = 0; r < 5; ++r)
    squares += 2.0 * static_cast<double>(grad_y[2 * r]) * static_cast<double>(grad_y[2 * r]);
  EXPECT_TRUE(near(all.weight[0], squares, 1e-6));
  for (int asked = 0; asked < 8; ++asked) {
    backward.wanted = {(asked & 1) != 0, (asked & 2) != 0, (asked & 4) != 0};
    const auto got = backward.run();
    const auto expect = [](bool wanted, const Floats& values, const Floats& want) {
      expect_same(values.values, wanted ? want.values : std::vector<float>(values.values.size(), kNaN));
    };
    expect(backward.wanted[0], got.x, all.x);
    expect(backward.wanted[1], got.weight, all.weight);
    expect(backward.wanted[2], got.bias, all.bias);
  }
}

TEST(BatchNorm, EmptyAndWrongShapes) {
  Cpu cpu(1);
  Floats none({0, 4, 4, 2}, std::vector<float>{}), map({4, 2}, 1.0f), two({2}, 1.0f), three({3}, 1.0f);
  normalize(none, two, two, two, two, Activation::relu);
  EXPECT_THROW(statistics(none), std::invalid_argument);
  EXPECT_THROW(normalize(none, two, two, three, two, Activation::none), std::invalid_argument);

  NormBackwardPass<float> pass{.x = none.view(),
                               .y = none.view(),
                               .grad_y = none.view(),
                               .mean = two.view(),
                               .rstd = two.view(),
                               .weight = two.view(),
                               .activation = Activation::relu};
  Floats grad_weight({2}), grad_bias({2});
  pass.grad_weight = {grad_weight.view()};
  pass.grad_bias = {grad_bias.view()};
  batch_norm_backward(cpu, pass);  // needs no workspace
  EXPECT_EQ(grad_weight.values, (std::vector<float>{0, 0}));
  EXPECT_EQ(grad_bias.values, (std::vector<float>{0, 0}));

  pass.x = pass.y = pass.grad_y = map.view();
  EXPECT_THROW(batch_norm_backward(cpu, pass), std::invalid_argument);  // but here it does
  Floats workspace({batch_norm_workspace(4, 2)});
  pass.workspace = workspace.view();
  batch_norm_backward(cpu, pass);
  for (const auto& spoil : std::vector<std::function<void(NormBackwardPass<float>&)>>{
           [&](auto& b) { b.grad_bias = {three.view()}; }, [&](auto& b) { b.grad_weight = {three.view()}; },
           [&](auto& b) { b.grad_x = {two.view()}; }, [&](auto& b) { b.weight = three.view(); },
           [&](auto& b) { b.mean = three.view(); }, [&](auto& b) { b.y = {}; }, [&](auto& b) { b.x = {}; }}) {
    NormBackwardPass<float> spoilt = pass;
    spoil(spoilt);
    EXPECT_THROW(batch_norm_backward(cpu, spoilt), std::invalid_argument);
  }
}

}  // namespace
}  // namespace gradlibra::testing
