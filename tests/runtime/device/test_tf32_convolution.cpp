// SPDX-License-Identifier: MIT
// TF32 on a host: the products of rounded factors, and nothing else changed.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "runtime/device/context.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

using testing::kInfinity;
using testing::kNaN;
using Floats = std::vector<float>;

// Ten bits of mantissa, by arithmetic instead of bits; ties to even.
float rounded(float v) {
  if (v == 0 || !std::isfinite(v)) return v;
  int exponent = 0;
  std::frexp(v, &exponent);  // v = m 2^exponent with 0.5 <= |m| < 1
  const double unit = std::ldexp(1.0, exponent - 11);
  return static_cast<float>(std::nearbyint(v / unit) * unit);
}

class Tf32Convolutions : public ::testing::TestWithParam<ConvolutionLibrary> {
 protected:
  Tf32Convolutions() { tf32.configure({.precision = "tf32"}); }

  Floats random(const Shape& of) { return testing::random_floats(of.size(), rng); }
  static Floats rounded_all(Floats values) {
    for (float& v : values) v = rounded(v);
    return values;
  }

  // One convolution with everything, and its gradients.
  struct Results {
    Floats y, grad_x, grad_weight, grad_bias;
  };
  Results compute(Context& context, const Floats& x, const Floats& weight, const Floats& grad_y) const {
    const Tensor dev_x = context.upload<float>(x, x_shape), dev_weight = context.upload<float>(weight, weight_shape),
                 dev_grad_y = context.upload<float>(grad_y, y_shape), dev_bias = context.upload<float>(bias, {5}),
                 dev_residual = context.upload<float>(residual, y_shape);
    Tensor y = context.zeros(y_shape), grad_x = context.upload<float>(x, x_shape),
           grad_weight = context.upload<float>(weight, weight_shape), grad_bias = context.upload<float>(bias, {5});
    Convolution& library = context.convolution();
    library.weight_changed(dev_weight.data());  // another one lay there before
    library.forward({.x = dev_x,
                     .weight = dev_weight,
                     .bias = dev_bias.view(),
                     .residual = dev_residual,
                     .shape = shape,
                     .activation = kernels::Activation::relu,
                     .y = y});
    library.backward_data(dev_grad_y, dev_weight, shape, grad_x, Accumulate::add);
    library.backward_weight(dev_x, dev_grad_y, shape, grad_weight.view(), grad_bias.view(), Accumulate::add);
    return {context.download<float>(y), context.download<float>(grad_x), context.download<float>(grad_weight),
            context.download<float>(grad_bias)};
  }
  static void expect_near(const Floats& got, const Floats& want) { testing::expect_near(got, want, 2e-6, 2e-6); }

  const Shape x_shape{2, 7, 6, 3}, weight_shape{5, 3, 3, 3}, y_shape{2, 4, 3, 5};
  const kernels::ConvShape shape{.stride = 2, .padding = 1};
  std::mt19937 rng{5};
  const Floats bias = random({5}), residual = random(y_shape);
  Context fp32{1, GetParam()}, tf32{1, GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Libraries, Tf32Convolutions,
                         ::testing::Values(ConvolutionLibrary::best, ConvolutionLibrary::plain),
                         [](const auto& library) {
                           return library.param == ConvolutionLibrary::best ? "best" : "plain";
                         });

TEST_P(Tf32Convolutions, RoundsFactorsAndNothingElse) {
  for (int round = 0; round < 3; ++round) {  // weights of another step lie where the last ones lay
    const Floats x = random(x_shape), weight = random(weight_shape), grad_y = random(y_shape);
    const Results got = compute(tf32, x, weight, grad_y);
    Results want = compute(fp32, rounded_all(x), rounded_all(weight), rounded_all(grad_y));
    // What the gradients are added to, and the bias's gradient, has no factors.
    const Results exact = compute(fp32, x, weight, grad_y);
    for (size_t i = 0; i < want.grad_x.size(); ++i) want.grad_x[i] += x[i] - rounded(x[i]);
    for (size_t i = 0; i < want.grad_weight.size(); ++i) want.grad_weight[i] += weight[i] - rounded(weight[i]);
    expect_near(got.y, want.y);
    expect_near(got.grad_x, want.grad_x);
    expect_near(got.grad_weight, want.grad_weight);
    expect_near(got.grad_bias, exact.grad_bias);
    EXPECT_NE(got.y, exact.y);
  }
}

TEST_P(Tf32Convolutions, ChangesNothingThatFits) {
  const Floats x = rounded_all(random(x_shape)), weight = rounded_all(random(weight_shape)),
               grad_y = rounded_all(random(y_shape));
  const Results got = compute(tf32, x, weight, grad_y), want = compute(fp32, x, weight, grad_y);
  EXPECT_EQ(got.y, want.y);
  EXPECT_EQ(got.grad_x, want.grad_x);
  EXPECT_EQ(got.grad_weight, want.grad_weight);
}

TEST_P(Tf32Convolutions, KeepsInfinityAndNaN) {
  const Floats x{kInfinity, -kInfinity, kNaN, std::numeric_limits<float>::max()};
  const Tensor dev_x = tf32.upload<float>(x, {1, 4, 1, 1}), one = tf32.upload<float>(Floats{1}, {1, 1, 1, 1});
  Tensor y = tf32.zeros({1, 4, 1, 1});
  tf32.convolution().forward({.x = dev_x, .weight = one, .y = y});
  const Floats got = tf32.download<float>(y);
  EXPECT_EQ(got[0], kInfinity);
  EXPECT_EQ(got[1], -kInfinity);
  EXPECT_TRUE(std::isnan(got[2]));
  EXPECT_EQ(got[3], kInfinity);  // rounds up, beyond what TF32 holds
}

}  // namespace
}  // namespace gradlibra
