// SPDX-License-Identifier: MIT
// A learned scale with its activation, on the host.
#include "kernels/scaled_activation.h"

#include <gtest/gtest.h>

#include "tests/kernels/host_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

constexpr ScaledActivation kAll[] = {ScaledActivation::identity, ScaledActivation::exp, ScaledActivation::clamp};

double f(ScaledActivation kind, double v) {
  return kind == ScaledActivation::exp ? std::exp(v) : kind == ScaledActivation::clamp ? std::max(v, 0.0) : v;
}

struct Gradients {
  Floats x, scale;
};
Gradients backward(const Floats& x, float scale, ScaledActivation kind, const Floats& grad_y, int threads = 2) {
  Cpu cpu(threads);
  const Floats s({1}, std::vector<float>{scale});
  Floats y(x.shape);
  scaled_activation(cpu, x.view(), s.view(), kind, y.view());
  Gradients result{Floats(x.shape), Floats({1})};
  Array<double> workspace({scaled_activation_workspace(x.size())});
  scaled_activation_backward(cpu, x.view(), s.view(), kind, y.view(), grad_y.view(),
                             {result.x.view(), Accumulate::overwrite}, {result.scale.view(), Accumulate::overwrite},
                             workspace.view());
  return result;
}

TEST(ScaledActivation, ByHand) {
  Cpu cpu(1);
  const Floats x({4}, {-1, 0, 0.5f, 2}), s({}, std::vector<float>{2});
  const auto forward = [&](ScaledActivation kind) {
    Floats y({4});
    scaled_activation(cpu, x.view(), s.view(), kind, y.view());
    return y.values;
  };
  EXPECT_EQ(forward(ScaledActivation::identity), (std::vector<float>{-2, 0, 1, 4}));
  EXPECT_EQ(forward(ScaledActivation::clamp), (std::vector<float>{0, 0, 1, 4}));
  expect_near(forward(ScaledActivation::exp), std::vector<double>{std::exp(-2), 1, std::exp(1), std::exp(4)}, 0, 1e-6);
  // The clamp lets the gradient through at exactly 0.
  const Gradients g = backward(x, 2, ScaledActivation::clamp, {{4}, {1, 10, 100, 1000}});
  EXPECT_EQ(g.x.values, (std::vector<float>{0, 20, 200, 2000}));
  EXPECT_EQ(g.scale[0], 50 + 2000);
}

TEST(ScaledActivation, NaNShows) {
  Cpu cpu(1);
  const Floats x({1}, std::vector<float>{kNaN}), s({1}, std::vector<float>{1});
  for (const ScaledActivation kind : kAll) {
    Floats y({1}, 0);
    scaled_activation(cpu, x.view(), s.view(), kind, y.view());
    EXPECT_TRUE(std::isnan(y[0]));
  }
}

TEST(ScaledActivation, FiniteDifferences) {
  const Floats x = random_array({3, 5, 7, 4}, 1), grad_y = random_array({3, 5, 7, 4}, 2);
  const float scale = 1.3f;
  for (const ScaledActivation kind : kAll) {
    const Gradients g = backward(x, scale, kind, grad_y);
    const auto total = [&](int64_t moved, double by_x, double by_scale) {
      double sum = 0;
      for (int64_t i = 0; i < x.size(); ++i)
        sum += double{grad_y[i]} * f(kind, (double{scale} + by_scale) * (double{x[i]} + (i == moved ? by_x : 0)));
      return sum;
    };
    for (int64_t i = 0; i < x.size(); i += 13)
      EXPECT_TRUE(near(g.x[i], (total(i, 1e-6, 0) - total(i, -1e-6, 0)) / 2e-6, 1e-6, 1e-5)) << i;
    EXPECT_TRUE(near(g.scale[0], (total(0, 0, 1e-6) - total(0, 0, -1e-6)) / 2e-6, 1e-5, 1e-5));
  }
}

TEST(ScaledActivation, AddsWhereToldAndSkipsNull) {
  Cpu cpu(2);
  const Floats x({2}, {1, 2}), s({1}, std::vector<float>{3}), g({2}, {1, 1});
  Floats y({2}), grad_x({2}, 10.0f), grad_scale({1}, 100.0f);
  Array<double> workspace({1});
  scaled_activation(cpu, x.view(), s.view(), ScaledActivation::identity, y.view());
  const auto back = [&](View<float> to_x, View<float> to_scale) {
    scaled_activation_backward(cpu, x.view(), s.view(), ScaledActivation::identity, y.view(), g.view(),
                               {to_x, Accumulate::add}, {to_scale, Accumulate::add}, workspace.view());
  };
  back(grad_x.view(), grad_scale.view());
  EXPECT_EQ(grad_x.values, (std::vector<float>{13, 13}));
  EXPECT_EQ(grad_scale[0], 103);
  back({}, grad_scale.view());
  EXPECT_EQ(grad_scale[0], 106);
  back(grad_x.view(), {});
  EXPECT_EQ(grad_x.values, (std::vector<float>{16, 16}));
}

TEST(ScaledActivation, EmptyMapHasGradientZero) {
  const Gradients g = backward(Floats({0, 4}), 1, ScaledActivation::exp, Floats({0, 4}));
  EXPECT_EQ(g.scale[0], 0);
}

TEST(ScaledActivation, SameBitsForEveryNumberOfThreads) {
  const Floats x = random_array({5000}, 1), grad_y = random_array({5000}, 2);
  const Gradients one = backward(x, 1.1f, ScaledActivation::exp, grad_y, 1);
  for (const int threads : {2, 3}) {
    const Gradients many = backward(x, 1.1f, ScaledActivation::exp, grad_y, threads);
    EXPECT_TRUE(same_bits(one.x.values, many.x.values));
    EXPECT_TRUE(same_bits(one.scale.values, many.scale.values));
  }
}

TEST(ScaledActivation, RefusesWrongShapes) {
  Cpu cpu(1);
  const Floats x({2}, {1, 2}), s({2}, {1, 2}), one({1}, std::vector<float>{1});
  Floats y({2}), short_y({1});
  EXPECT_THROW(scaled_activation(cpu, x.view(), s.view(), ScaledActivation::exp, y.view()), std::invalid_argument);
  EXPECT_THROW(scaled_activation(cpu, x.view(), one.view(), ScaledActivation::exp, short_y.view()),
               std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
