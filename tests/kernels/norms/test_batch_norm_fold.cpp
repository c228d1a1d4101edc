// SPDX-License-Identifier: MIT
#include "kernels/norms/batch_norm_fold.h"

#include "tests/kernels/host_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

constexpr float kEps = 1e-5f;

// A norm of K channels and a weight of (K, per_k), with values as training has them.
struct Layer {
  Floats weight, gamma, beta, mean, var;
  Layer(int64_t K, int64_t per_k)
      : weight(random_array({K, per_k}, 1)),
        gamma(random_array({K}, 2, -2, 2)),
        beta(random_array({K}, 3)),
        mean(random_array({K}, 4, -3, 3)),
        var(random_array({K}, 5, 0.1f, 4)) {}
  [[nodiscard]] StoredNorm norm() const { return {gamma.view(), beta.view(), mean.view(), var.view(), kEps}; }
};

struct Folded {
  Floats weight, bias;
};

Folded fold(const Layer& l, int threads = 1) {
  Cpu cpu(threads);
  Folded f{Floats(l.weight.shape), Floats(l.gamma.shape)};
  fold_batch_norm(cpu, l.weight.view(), l.norm(), f.weight.view(), f.bias.view());
  return f;
}

struct Gradients {
  Floats weight, gamma, beta;
  explicit Gradients(const Layer& l, float value = kNaN)
      : weight(l.weight.shape, value), gamma(l.gamma.shape, value), beta(l.gamma.shape, value) {}
};

void fold_backward(const Layer& l, const Floats& grad_weight, const Floats& grad_bias, Gradients& out, Accumulate mode,
                   int threads = 1) {
  Cpu cpu(threads);
  fold_batch_norm_backward<float>(
      cpu, l.weight.view(), l.norm(), {grad_weight.view(), grad_bias.view()},
      {.weight = {out.weight.view(), mode}, .gamma = {out.gamma.view(), mode}, .beta = {out.beta.view(), mode}});
}

TEST(BatchNormFold, WorkedExample) {
  Cpu cpu(1);
  const Floats weight({2, 1, 1, 2}, {1, 2, 3, 4}), gamma({2}, {6, -3}), beta({2}, {10, 20}), mean({2}, {4, 5}),
      var({2}, {3, 0});
  // eps 1: rstd = 1/2, 1;   s = 3, -3
  Floats folded_weight(weight.shape), folded_bias({2});
  const StoredNorm norm{gamma.view(), beta.view(), mean.view(), var.view(), 1};
  fold_batch_norm(cpu, weight.view(), norm, folded_weight.view(), folded_bias.view());
  EXPECT_EQ(folded_weight.values, (std::vector<float>{3, 6, -9, -12}));
  EXPECT_EQ(folded_bias.values, (std::vector<float>{10 - 4 * 3, 20 + 5 * 3}));

  const Floats grad_folded_weight(weight.shape, {1, -1, 0.5f, 2}), grad_folded_bias({2}, {7, 8});
  Floats grad_weight(weight.shape), grad_gamma({2}), grad_beta({2});
  fold_batch_norm_backward<float>(
      cpu, weight.view(), norm, {grad_folded_weight.view(), grad_folded_bias.view()},
      {.weight = {grad_weight.view()}, .gamma = {grad_gamma.view()}, .beta = {grad_beta.view()}});
  EXPECT_EQ(grad_weight.values, (std::vector<float>{3, -3, -1.5f, -6}));
  EXPECT_EQ(grad_gamma.values, (std::vector<float>{(1 - 2 - 4 * 7) / 2.0f, 1.5f + 8 - 5 * 8}));
  EXPECT_EQ(grad_beta.values, (std::vector<float>{7, 8}));
}

// A 1x1 convolution of `rows` positions, then the norm, in double:
//   y[r, k] = gamma[k] * (<x[r, :], weight[k, :]> - mean[k]) / sqrt(var[k] + eps) + beta[k]
struct Composite {
  static constexpr int64_t rows = 5;
  Layer layer;
  Floats x, grad_y;
  Composite(int64_t K, int64_t C) : layer(K, C), x(random_array({rows, C}, 6)), grad_y(random_array({rows, K}, 7)) {}
  [[nodiscard]] int64_t K() const { return layer.gamma.size(); }
  [[nodiscard]] int64_t C() const { return x.shape[1]; }

  // Of a layer whose parameters may differ from this one's, in double.
  [[nodiscard]] double output(int64_t r, int64_t k, const std::vector<double>& weight, const std::vector<double>& gamma,
                              const std::vector<double>& beta) const {
    double product = 0;
    for (int64_t c = 0; c < C(); ++c)
      product += static_cast<double>(x[r * C() + c]) * weight[static_cast<size_t>(k * C() + c)];
    const auto at = static_cast<size_t>(k);
    return gamma[at] * (product - static_cast<double>(layer.mean[k])) /
               std::sqrt(static_cast<double>(layer.var[k]) + static_cast<double>(kEps)) +
           beta[at];
  }
  // sum of grad_y * y
  [[nodiscard]] double loss(const std::vector<double>& weight, const std::vector<double>& gamma,
                            const std::vector<double>& beta) const {
    double total = 0;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < K(); ++k)
        total += static_cast<double>(grad_y[r * K() + k]) * output(r, k, weight, gamma, beta);
    return total;
  }
};

std::vector<double> doubles(const Floats& a) { return {a.values.begin(), a.values.end()}; }

TEST(BatchNormFold, EqualsConvolutionThenNorm) {
  for (const auto& [K, C] : {std::pair<int64_t, int64_t>{1, 1}, {7, 13}, {3, 257}}) {
    const Composite c(K, C);
    const Folded f = fold(c.layer);
    const std::vector<double> weight = doubles(c.layer.weight), gamma = doubles(c.layer.gamma),
                              beta = doubles(c.layer.beta);
    for (int64_t r = 0; r < Composite::rows; ++r)
      for (int64_t k = 0; k < K; ++k) {
        double y = static_cast<double>(f.bias[k]), magnitude = std::abs(y);
        for (int64_t i = 0; i < C; ++i) {
          const double term = static_cast<double>(c.x[r * C + i]) * static_cast<double>(f.weight[k * C + i]);
          y += term;
          magnitude += std::abs(term);
        }
        // The folded parameters have a few roundings each.
        EXPECT_TRUE(near(y, c.output(r, k, weight, gamma, beta), 3e-7 * magnitude + 3e-6)) << r << ", " << k;
      }
  }
}

TEST(BatchNormFold, GradientsEqualDifferencesOfConvolutionThenNorm) {
  for (const auto& [K, C] : {std::pair<int64_t, int64_t>{1, 1}, {7, 13}, {3, 70}}) {
    const Composite c(K, C);
    Floats grad_folded_weight({K, C}, 0.0f), grad_folded_bias({K}, 0.0f);  // as a convolution's backward gives them
    for (int64_t r = 0; r < Composite::rows; ++r)
      for (int64_t k = 0; k < K; ++k) {
        grad_folded_bias[k] += c.grad_y[r * K + k];
        for (int64_t i = 0; i < C; ++i) grad_folded_weight[k * C + i] += c.grad_y[r * K + k] * c.x[r * C + i];
      }
    Gradients got(c.layer);
    fold_backward(c.layer, grad_folded_weight, grad_folded_bias, got, Accumulate::overwrite);

    std::vector<double> weight = doubles(c.layer.weight), gamma = doubles(c.layer.gamma), beta = doubles(c.layer.beta);
    const auto expect_differences = [&](std::vector<double>& parameter, const Floats& gradient, const char* name) {
      SCOPED_TRACE(name);
      for (size_t i = 0; i < parameter.size(); ++i) {
        const double value = parameter[i], h = 1e-3;  // the loss is linear in each parameter: no error of truncation
        parameter[i] = value + h;
        const double above = c.loss(weight, gamma, beta);
        parameter[i] = value - h;
        const double below = c.loss(weight, gamma, beta);
        parameter[i] = value;
        EXPECT_TRUE(near(static_cast<double>(gradient.values[i]), (above - below) / (2 * h), 2e-5, 1e-6)) << i;
      }
    };
    expect_differences(weight, got.weight, "weight");
    expect_differences(gamma, got.gamma, "gamma");
    expect_differences(beta, got.beta, "beta");
  }
}

// A float sum of these would lose all of the small terms.
TEST(BatchNormFold, InnerProductIsSummedInDouble) {
  Layer l(1, 100001);
  std::fill(l.weight.values.begin(), l.weight.values.end(), 1.0f);
  l.mean[0] = 0, l.var[0] = 1;
  Floats grad_folded_weight(l.weight.shape, 1.0f);
  grad_folded_weight[0] = 67108864.0f;
  Gradients got(l);
  fold_backward(l, grad_folded_weight, Floats({1}, 0.0f), got, Accumulate::overwrite);
  EXPECT_TRUE(near(static_cast<double>(got.gamma[0]), 67208864.0 / std::sqrt(1.0 + 1e-5), 8, 1e-7));
}

TEST(BatchNormFold, EachOutputHasItsModeAndMayBeLeftOut) {
  Cpu cpu(1);
  const Layer l(3, 5);
  const Floats grad_weight = random_array({3, 5}, 8), grad_bias = random_array({3}, 9);
  Gradients plain(l), added(l, 0.5f);
  fold_backward(l, grad_weight, grad_bias, plain, Accumulate::overwrite);
  fold_backward(l, grad_weight, grad_bias, added, Accumulate::add);
  const auto expect_added = [](const Floats& sum, const Floats& term) {
    for (int64_t i = 0; i < sum.size(); ++i)
      EXPECT_TRUE(near(static_cast<double>(sum[i]), static_cast<double>(term[i]) + 0.5, 1e-6, 1e-6)) << i;
  };
  expect_added(added.weight, plain.weight);
  expect_added(added.gamma, plain.gamma);
  expect_added(added.beta, plain.beta);

  for (int left_out = 0; left_out < 3; ++left_out) {  // and one is added where the others are overwritten
    Gradients got(l, 0.5f);
    const auto mode = [&](int which) { return which == (left_out + 1) % 3 ? Accumulate::add : Accumulate::overwrite; };
    UnfoldedGradients to{.weight = {got.weight.view(), mode(0)},
                         .gamma = {got.gamma.view(), mode(1)},
                         .beta = {got.beta.view(), mode(2)}};
    (left_out == 0 ? to.weight : left_out == 1 ? to.gamma : to.beta) = {};
    fold_batch_norm_backward<float>(cpu, l.weight.view(), l.norm(), {grad_weight.view(), grad_bias.view()}, to);
    const Gradients untouched(l, 0.5f);
    const auto want = [&](int which, const Floats& kept, const Floats& overwritten, const Floats& sum) {
      return which == left_out ? kept.values : mode(which) == Accumulate::add ? sum.values : overwritten.values;
    };
    EXPECT_EQ(got.weight.values, want(0, untouched.weight, plain.weight, added.weight));
    EXPECT_EQ(got.gamma.values, want(1, untouched.gamma, plain.gamma, added.gamma));
    EXPECT_EQ(got.beta.values, want(2, untouched.beta, plain.beta, added.beta));
  }
}

TEST(BatchNormFold, GradientOfTheWeightMayReplaceThatOfTheFoldedWeight) {
  const Layer l(4, 9);
  const Floats grad_weight = random_array({4, 9}, 8), grad_bias = random_array({4}, 9);
  Gradients want(l), got(l);
  fold_backward(l, grad_weight, grad_bias, want, Accumulate::overwrite);
  got.weight = grad_weight;
  fold_backward(l, got.weight, grad_bias, got, Accumulate::overwrite);
  EXPECT_EQ(got.weight.values, want.weight.values);
  EXPECT_EQ(got.gamma.values, want.gamma.values);
  EXPECT_THROW(fold_backward(l, got.weight, grad_bias, got, Accumulate::add), std::invalid_argument);
}

TEST(BatchNormFold, Bfloat16IsTheFloatResultRounded) {
  Cpu cpu(1);
  const Layer l(7, 13);
  const Folded want = fold(l);
  Array<bfloat16> weight(l.weight.shape, to_bfloat16(kNaN)), bias(l.gamma.shape, to_bfloat16(kNaN));
  fold_batch_norm(cpu, l.weight.view(), l.norm(), weight.view(), bias.view());
  EXPECT_EQ(widened(weight.values), rounded(want.weight.values));
  EXPECT_EQ(widened(bias.values), rounded(want.bias.values));
}

TEST(BatchNormFold, BackwardOfABfloat16Gradient) {
  const Layer l(7, 13);
  const Floats grad_weight(l.weight.shape, rounded(random_array(l.weight.shape, 8).values)),
      grad_bias = random_array(l.gamma.shape, 9);
  const std::vector<bfloat16> stored_grad = stored<bfloat16>(grad_weight.values);
  Gradients want(l), got(l);
  fold_backward(l, grad_weight, grad_bias, want, Accumulate::overwrite);
  Cpu cpu(1);
  StoredNorm without_beta = l.norm();
  without_beta.beta = {};
  fold_batch_norm_backward<bfloat16>(
      cpu, l.weight.view(), without_beta, {{stored_grad.data(), l.weight.shape}, grad_bias.view()},
      {.weight = {got.weight.view()}, .gamma = {got.gamma.view()}, .beta = {got.beta.view()}});
  EXPECT_EQ(got.weight.values, want.weight.values);
  EXPECT_EQ(got.gamma.values, want.gamma.values);
  EXPECT_EQ(got.beta.values, want.beta.values);
}

TEST(BatchNormFold, SameBitsForEveryNumberOfThreads) {
  const Layer l(37, 3001);
  const Floats grad_weight = random_array(l.weight.shape, 8), grad_bias = random_array(l.gamma.shape, 9);
  const Folded one = fold(l, 1), three = fold(l, 3);
  EXPECT_EQ(three.weight.values, one.weight.values);
  EXPECT_EQ(three.bias.values, one.bias.values);
  Gradients first(l), second(l);
  fold_backward(l, grad_weight, grad_bias, first, Accumulate::overwrite, 1);
  fold_backward(l, grad_weight, grad_bias, second, Accumulate::overwrite, 3);
  EXPECT_EQ(second.weight.values, first.weight.values);
  EXPECT_EQ(second.gamma.values, first.gamma.values);
}

TEST(BatchNormFold, EmptyAndWrongShapes) {
  for (const auto& [K, per_k] : {std::pair<int64_t, int64_t>{0, 5}, {0, 0}, {3, 0}}) {
    const Layer l(K, per_k);
    const Folded f = fold(l);
    Gradients got(l);
    fold_backward(l, Floats(l.weight.shape), Floats({K}, 2.0f), got, Accumulate::overwrite);
    for (int64_t k = 0; k < K; ++k) {  // a convolution over no channels is its bias
      const float root = std::sqrt(l.var[k] + kEps);
      EXPECT_TRUE(
          near(static_cast<double>(f.bias[k]), static_cast<double>(l.beta[k] - l.mean[k] * l.gamma[k] / root), 1e-5));
      EXPECT_TRUE(near(static_cast<double>(got.gamma[k]), static_cast<double>(-2 * l.mean[k] / root), 1e-5));
      EXPECT_EQ(got.beta[k], 2.0f);
    }
  }
  Cpu cpu(1);
  const Layer l(3, 5), wrong(4, 5);
  Folded f = fold(l);
  StoredNorm norm = l.norm();
  norm.gamma = wrong.gamma.view();
  EXPECT_THROW(fold_batch_norm(cpu, l.weight.view(), norm, f.weight.view(), f.bias.view()), std::invalid_argument);
  EXPECT_THROW(fold_batch_norm(cpu, wrong.weight.view(), l.norm(), f.weight.view(), f.bias.view()),
               std::invalid_argument);
  Gradients got(wrong);
  EXPECT_THROW(fold_backward(l, Floats({3, 5}), Floats({3}), got, Accumulate::overwrite), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
