// SPDX-License-Identifier: MIT
#include "kernels/convolution/bias_activation.h"

#include "tests/kernels/host_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

TEST(BiasActivation, WorkedValues) {
  Cpu cpu(1);
  const Floats x({2, 3}, {1, -2, 3, -4, 5, -6}), bias({3}, {10, 1, -5}), residual({2, 3}, {-20, 0, 1, 100, -5, 2});
  Floats y({2, 3});
  const View<const float> none;
  bias_activation<float>(cpu, x.view(), bias.view(), residual.view(), Activation::none, y.view());
  EXPECT_EQ(y.values, (std::vector<float>{-9, -1, -1, 106, 1, -9}));
  bias_activation<float>(cpu, x.view(), bias.view(), residual.view(), Activation::relu, y.view());
  EXPECT_EQ(y.values, (std::vector<float>{0, 0, 0, 106, 1, 0}));
  bias_activation<float>(cpu, x.view(), bias.view(), none, Activation::none, y.view());
  EXPECT_EQ(y.values, (std::vector<float>{11, -1, -2, 6, 6, -11}));
  bias_activation<float>(cpu, x.view(), none, residual.view(), Activation::none, y.view());
  EXPECT_EQ(y.values, (std::vector<float>{-19, -2, 4, 96, 0, -4}));
  bias_activation<float>(cpu, x.view(), none, none, Activation::relu, y.view());
  EXPECT_EQ(y.values, (std::vector<float>{1, 0, 3, 0, 5, 0}));
}

// Every combination on many rows, against double precision; bfloat16 within half a step of it.
TEST(BiasActivation, EqualsDoublePrecision) {
  for (const int64_t C : {1, 10, 18, 64})
    for (int parts = 0; parts < 8; ++parts) {
      SCOPED_TRACE(std::to_string(C) + " channels, parts " + std::to_string(parts));
      const int64_t rows = 70'000 / C;
      const Floats x = random_array({rows, C}, 1), bias = random_array({C}, 2), residual = random_array({rows, C}, 3);
      const auto x16 = stored<bfloat16>(x.values), residual16 = stored<bfloat16>(residual.values),
                 bias16 = stored<bfloat16>(bias.values);
      std::vector<bfloat16> y16(x16.size());
      Floats y({rows, C});
      const View<const float> b = (parts & 1) != 0 ? bias.view() : View<const float>();
      const Activation activation = (parts & 4) != 0 ? Activation::relu : Activation::none;
      Cpu cpu(2);
      bias_activation<float>(cpu, x.view(), b, (parts & 2) != 0 ? residual.view() : View<const float>(), activation,
                             y.view());
      bias_activation<bfloat16>(
          cpu, {x16.data(), x.shape},
          (parts & 1) != 0 ? View<const bfloat16>(bias16.data(), {C}) : View<const bfloat16>(),
          (parts & 2) != 0 ? View<const bfloat16>(residual16.data(), x.shape) : View<const bfloat16>(), activation,
          {y16.data(), x.shape});
      const auto want = [&](double v, double added_bias, double added) {
        if ((parts & 1) != 0) v += added_bias;
        if ((parts & 2) != 0) v += added;
        return (parts & 4) != 0 && v < 0 ? 0 : v;
      };
      for (int64_t i = 0; i < x.size(); ++i) {
        const auto at = static_cast<size_t>(i);
        const double exact = want(x[i], bias[i % C], residual[i]);
        ASSERT_NEAR(y[i], exact, 3e-7) << i;
        const double exact16 =
            want(to_float(x16[at]), to_float(bias16[static_cast<size_t>(i % C)]), to_float(residual16[at]));
        ASSERT_NEAR(to_float(y16[at]), exact16, 3e-7 + std::abs(exact16) * kBfloat16Step / 2) << i;
      }
    }
}

TEST(BiasActivation, OutputMayBeAnInputAndNaNStays) {
  Cpu cpu(2);
  const Floats bias({2}, {1, -1}), residual({3, 2}, {0, kNaN, 1, 1, -kInfinity, 2});
  Floats x({3, 2}, {kNaN, 1, -2, kInfinity, kInfinity, -3}), same = residual, want({3, 2});
  bias_activation<float>(cpu, x.view(), bias.view(), residual.view(), Activation::relu, want.view());
  expect_same(want.values, {kNaN, kNaN, 0, kInfinity, kNaN, 0});
  bias_activation<float>(cpu, x.view(), bias.view(), same.view(), Activation::relu, same.view());
  expect_same(same.values, want.values);
  bias_activation<float>(cpu, x.view(), bias.view(), residual.view(), Activation::relu, x.view());
  expect_same(x.values, want.values);
}

TEST(BiasActivation, NothingAndMistakes) {
  Cpu cpu(1);
  Floats none({0, 3}, std::vector<float>{}), flat({3, 0}, std::vector<float>{}), x({2, 3}), other({2, 2});
  const Floats bias({3});
  const View<const float> left_out;
  bias_activation<float>(cpu, none.view(), bias.view(), left_out, Activation::relu, none.view());
  bias_activation<float>(cpu, flat.view(), left_out, left_out, Activation::relu, flat.view());
  const auto refused = [&](View<const float> from, View<const float> b, View<const float> residual) {
    EXPECT_THROW(bias_activation<float>(cpu, from, b, residual, Activation::none, x.view()), std::invalid_argument);
  };
  refused(other.view(), left_out, left_out);
  refused(x.view(), other.view(), left_out);
  refused(x.view(), bias.view(), other.view());
}

}  // namespace
}  // namespace gradlibra::testing
