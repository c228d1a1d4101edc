// SPDX-License-Identifier: MIT
// Batch norm over the rows of several ranks against the definition over all of them.
#include "kernels/norms/sync_batch_norm.h"

#include "kernels/norms/batch_norm.h"
#include "tests/kernels/map_values.h"
#include "tests/kernels/norms/norm_oracle.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;
using Doubles = std::vector<double>;

// The rows of x shared out among ranks that have so many each.
template <class T>
struct Shares {
  std::vector<Array<T>> parts;
  Shares(const Array<T>& x, const std::vector<int64_t>& rows) {
    const int64_t C = x.shape.dim(-1);
    auto from = x.values.begin();
    for (const int64_t r : rows) {
      Array<T> part({r, C});
      std::copy_n(from, r * C, part.values.begin());
      from += r * C;
      parts.push_back(std::move(part));
    }
  }
};

struct OfAll {
  Floats mean, rstd, running_mean, running_var;
};

template <class T>
OfAll statistics(const std::vector<Array<T>>& parts, float eps = 1e-5f, float momentum = 0.1f) {
  Cpu cpu(1);
  const int64_t C = parts[0].shape.dim(-1);
  Array<double> sums({sync_norm_sums(C)}, 0.0);
  for (const Array<T>& x : parts) {
    Floats mean({C}), rstd({C}), own_mean({C}, 0.0f), own_var({C}, 0.0f),
        workspace({batch_norm_workspace(x.size() / C, C)});
    batch_norm_statistics<T>(cpu, {.x = x.view(),
                                   .eps = eps,
                                   .mean = mean.view(),
                                   .rstd = rstd.view(),
                                   .running = {1, own_mean.view(), own_var.view()},
                                   .workspace = workspace.view()});
    Array<double> own({sync_norm_sums(C)});
    pack_moments(cpu, x.size() / C, std::as_const(own_mean).view(), std::as_const(own_var).view(), own.view());
    for (int64_t i = 0; i < own.size(); ++i) sums[i] += own[i];
  }
  OfAll all{Floats({C}), Floats({C}), Floats({C}, 0.25f), Floats({C}, 2.0f)};
  unpack_moments(cpu, std::as_const(sums).view(),
                 {eps, all.mean.view(), all.rstd.view(), {momentum, all.running_mean.view(), all.running_var.view()}});
  return all;
}

TEST(SyncBatchNorm, MomentsOfAllRows) {
  for (const std::vector<int64_t>& rows : {std::vector<int64_t>{30}, {10, 20}, {1, 1, 28}, {2000, 3, 701, 1}}) {
    int64_t R = 0;
    for (const int64_t r : rows) R += r;
    const int64_t C = 5;
    const Floats x = random_array({R, C}, static_cast<uint32_t>(R), -3, 8);
    NormOracle oracle{.N = 1, .R = R, .C = C, .G = C, .x = as_doubles(x.values)};
    Doubles mean, var;
    oracle.moments(mean, var);
    const OfAll all = statistics(Shares(x, rows).parts);
    for (size_t c = 0; c < static_cast<size_t>(C); ++c) {
      EXPECT_TRUE(near(all.mean.values[c], mean[c], 1e-6, 1e-6));
      EXPECT_TRUE(near(all.rstd.values[c], 1 / std::sqrt(var[c] + 1e-5), 0, 2e-5));
      EXPECT_TRUE(near(all.running_mean.values[c], 0.9 * 0.25 + 0.1 * mean[c], 1e-6, 1e-6));
      const double unbiased = var[c] * static_cast<double>(R) / static_cast<double>(R - 1);
      EXPECT_TRUE(near(all.running_var.values[c], 0.9 * 2 + 0.1 * unbiased, 0, 2e-5));
    }
  }
}

TEST(SyncBatchNorm, ExtremeValues) {
  // A standard deviation of 0.01 around 100, a constant channel, one that is not a number on one rank.
  Floats x = random_array({4000, 3}, 3);
  for (int64_t r = 0; r < 4000; ++r) {
    x[3 * r] = (r < 1999 ? 100 : 100.01f) + 0.01f * x[3 * r];  // the second rank's mean is a deviation higher
    x[3 * r + 1] = 1.0f / 3;
  }
  x[2] = kNaN;
  NormOracle oracle{.N = 1, .R = 4000, .C = 3, .G = 3, .x = as_doubles(x.values)};
  Doubles mean, var;
  oracle.moments(mean, var);
  const OfAll all = statistics(Shares(x, {1999, 2001}).parts, 1e-12f);
  EXPECT_TRUE(near(all.mean[0], mean[0], 1e-5));
  EXPECT_TRUE(near(all.rstd[0], 1 / std::sqrt(var[0] + 1e-12), 0, 1e-3)) << all.rstd[0];
  EXPECT_EQ(all.mean[1], 1.0f / 3);
  EXPECT_TRUE(near(all.rstd[1], 1e6, 0, 1e-3)) << all.rstd[1];
  EXPECT_TRUE(std::isnan(all.mean[2]) && std::isnan(all.rstd[2]));
  // One row in all: no variance, and not 0 / 0.
  const OfAll one = statistics<float>({Floats({1, 2}, {3, -4})}, 1e-5f, 1);
  EXPECT_EQ(one.mean.values, (std::vector<float>{3, -4}));
  EXPECT_EQ(one.running_var.values, (std::vector<float>{0, 0}));
}

TEST(SyncBatchNorm, GradientsAgainstCentralDifferences) {
  Cpu cpu(1);
  const int64_t R = 24, C = 3;
  const std::vector<int64_t> rows{7, 16, 1};
  const Floats x = random_array({R, C}, 5), grad_y = random_array({R, C}, 6), weight = random_array({C}, 7, 0.5f, 1.5f),
               bias = random_array({C}, 8);
  const std::vector<Floats> xs = Shares(x, rows).parts, grads = Shares(grad_y, rows).parts;
  for (const Activation activation : {Activation::none, Activation::relu}) {
    NormOracle oracle{.N = 1,
                      .R = R,
                      .C = C,
                      .G = C,
                      .relu = activation == Activation::relu,
                      .x = as_doubles(x.values),
                      .weight = as_doubles(weight.values),
                      .bias = as_doubles(bias.values)};
    const Doubles go = as_doubles(grad_y.values);
    const OfAll all = statistics(xs);
    Array<double> sums({sync_norm_sums(C)}, 0.0);
    std::vector<NormBackwardPass<float>> passes;
    std::vector<Floats> ys, sum_g, sum_g_x_hat, workspaces;
    for (size_t k = 0; k < rows.size(); ++k) {
      ys.emplace_back(xs[k].shape);
      batch_norm<float>(
          cpu, {xs[k].view(), all.mean.view(), all.rstd.view(), weight.view(), bias.view(), activation, ys[k].view()});
      sum_g.emplace_back(Shape{C}), sum_g_x_hat.emplace_back(Shape{C});
      workspaces.emplace_back(Shape{batch_norm_workspace(rows[k], C)});
    }
    for (size_t k = 0; k < rows.size(); ++k) {
      passes.push_back({.x = xs[k].view(),
                        .y = std::as_const(ys[k]).view(),
                        .grad_y = grads[k].view(),
                        .mean = all.mean.view(),
                        .rstd = all.rstd.view(),
                        .weight = weight.view(),
                        .activation = activation,
                        .grad_weight = {sum_g_x_hat[k].view(), Accumulate::overwrite},
                        .grad_bias = {sum_g[k].view(), Accumulate::overwrite},
                        .workspace = workspaces[k].view()});
      batch_norm_backward<float>(cpu, passes[k]);
      Array<double> own({sync_norm_sums(C)});
      pack_gradients(cpu, rows[k], std::as_const(sum_g[k]).view(), std::as_const(sum_g_x_hat[k]).view(), own.view());
      for (int64_t i = 0; i < own.size(); ++i) sums[i] += own[i];
    }
    expect_near(Doubles(sums.values.begin() + 1, sums.values.begin() + 1 + C), oracle.gradient(&NormOracle::bias, go),
                1e-5);
    expect_near(Doubles(sums.values.begin() + 1 + C, sums.values.end()), oracle.gradient(&NormOracle::weight, go),
                1e-5);

    Floats average_g({C}), average_g_x_hat({C});
    unpack_gradients(cpu, std::as_const(sums).view(), weight.view(), {average_g.view(), average_g_x_hat.view()});
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      std::vector<float> grad_x;
      for (size_t k = 0; k < rows.size(); ++k) {
        Floats part(xs[k].shape, mode == Accumulate::add ? 0.5f : kNaN);
        passes[k].grad_x = {part.view(), mode};
        batch_norm_input_gradient<float>(cpu, passes[k], std::as_const(average_g).view(),
                                         std::as_const(average_g_x_hat).view());
        grad_x.insert(grad_x.end(), part.values.begin(), part.values.end());
      }
      Doubles want = oracle.gradient(&NormOracle::x, go);
      if (mode == Accumulate::add)
        for (double& v : want) v += 0.5;
      expect_near(grad_x, want, 2e-5);
    }
  }
}

TEST(SyncBatchNorm, NoChannels) {
  Cpu cpu(1);
  Array<double> sums({1});
  const Floats none({0});
  pack_moments(cpu, 4, none.view(), none.view(), sums.view());
  EXPECT_EQ(sums[0], 4);
  EXPECT_THROW(pack_gradients(cpu, 4, none.view(), Floats({1}, 0.0f).view(), sums.view()), std::invalid_argument);
  Array<double> wrong({4}, 0.0);
  EXPECT_THROW(pack_moments(cpu, 4, none.view(), none.view(), wrong.view()), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
