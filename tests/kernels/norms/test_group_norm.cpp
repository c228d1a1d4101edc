// SPDX-License-Identifier: MIT
#include "kernels/norms/group_norm.h"

#include "tests/kernels/map_values.h"
#include "tests/kernels/norms/norm_oracle.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

// One layer with everything its two passes write.
template <class T>
struct LayerOf {
  Array<T> x;
  Floats weight, bias;
  int groups;
  Activation activation = Activation::none;
  float eps = 1e-5f;
  Array<T> y{x.shape}, grad_x{x.shape};
  Floats mean{Shape{x.shape[0], groups}}, rstd{Shape{x.shape[0], groups}};
  Floats grad_weight{weight.shape}, grad_bias{bias.shape};

  void forward(int threads = 1) {
    Cpu cpu(threads);
    Floats workspace({group_norm_workspace(x.shape, groups)});
    group_norm<T>(cpu, {.x = x.view(),
                        .weight = weight.view(),
                        .bias = bias.view(),
                        .groups = groups,
                        .eps = eps,
                        .activation = activation,
                        .y = y.view(),
                        .mean = mean.view(),
                        .rstd = rstd.view(),
                        .workspace = workspace.view()});
  }
  void backward(const Array<T>& grad_y, Accumulate mode, int threads = 1) {
    Cpu cpu(threads);
    Floats workspace({group_norm_workspace(x.shape, groups)});
    if (mode == Accumulate::add) {
      grad_x = Array<T>(x.shape, from_float<T>(0.5f));
      for (Floats* g : {&grad_weight, &grad_bias}) std::fill(g->values.begin(), g->values.end(), 0.5f);
    }
    group_norm_backward<T>(cpu,
                           {.x = x.view(),
                            .y = y.view(),
                            .grad_y = grad_y.view(),
                            .mean = mean.view(),
                            .rstd = rstd.view(),
                            .weight = weight.view(),
                            .activation = activation,
                            .grad_x = {grad_x.view(), mode},
                            .grad_weight = {grad_weight.view(), mode},
                            .grad_bias = {grad_bias.view(), mode},
                            .workspace = workspace.view()},
                           groups);
  }
  [[nodiscard]] NormOracle oracle() const {
    return {.N = x.shape[0],
            .R = x.shape[1] * x.shape[2],
            .C = x.shape[3],
            .G = groups,
            .eps = static_cast<double>(eps),
            .relu = activation == Activation::relu,
            .x = as_doubles(x.values),
            .weight = as_doubles(weight.values),
            .bias = as_doubles(bias.values)};
  }
};
using Layer = LayerOf<float>;

Layer random_layer(const Shape& shape, int groups, Activation activation, uint32_t seed) {
  return {random_array(shape, seed, -1, 2), random_array({shape[3]}, seed + 1, 0.5f, 1.5f),
          random_array({shape[3]}, seed + 2), groups, activation};
}

TEST(GroupNorm, WorkedExample) {
  Layer layer{Floats({1, 2, 2, 4}, {1.02830616f, 0.412506024f, 1.15534243f, 0.124648274f, -0.974805463f, 0.298002887f,
                                    -0.937194159f, 1.87596722f, -0.355271664f, -0.0370017008f, 0.600270936f,
                                    1.04574564f, 0.141326027f, 1.45211484f, -0.312771261f, -0.52213362f}),
              Floats({4}, {1, 0.5f, 2, 1}), Floats({4}, {0, 0.1f, -0.1f, 0}), 2};
  std::vector<double> want{1.10133163,   0.217399124, 1.63318542,   -0.283526842,  -1.71738012, 0.13683663,
                           -3.03680758,  1.6707155,   -0.845592858, -0.0988670008, 0.394411387, 0.744297067,
                           -0.146797183, 0.948850513, -1.64325939,  -1.00525064};
  layer.forward();
  expect_near(layer.y.values, want, 2e-6);
  layer.activation = Activation::relu;
  layer.forward();
  for (double& v : want) v = std::max(v, 0.0);
  expect_near(layer.y.values, want, 2e-6);
}

TEST(GroupNorm, AgainstTheOracleForAnyNumberOfThreads) {
  struct Case {
    Shape shape;
    int groups;
  };
  // Several chunks of rows; groups that lie across the tiles of channels; one channel per group; one group.
  for (const Case& c :
       {Case{{2, 50, 27, 16}, 4}, Case{{1, 9, 9, 264}, 11}, Case{{3, 5, 3, 6}, 6}, Case{{2, 1, 1, 7}, 1}}) {
    SCOPED_TRACE(c.shape.to_string());
    Layer layer = random_layer(c.shape, c.groups, Activation::relu, 10);
    layer.forward();
    expect_near(layer.y.values, layer.oracle().forward(), 1e-5);
    std::vector<double> mean, var;
    layer.oracle().moments(mean, var);
    expect_near(layer.mean.values, mean, 1e-6);
    for (size_t i = 0; i < var.size(); ++i)
      EXPECT_TRUE(near(layer.rstd.values[i], 1 / std::sqrt(var[i] + 1e-5), 0, 1e-5));
    const Floats grad_y = random_array(c.shape, 20);
    layer.backward(grad_y, Accumulate::overwrite);
    Layer again = layer;
    again.forward(3);
    again.backward(grad_y, Accumulate::overwrite, 3);
    EXPECT_EQ(again.y.values, layer.y.values);
    EXPECT_EQ(again.grad_x.values, layer.grad_x.values);
    EXPECT_EQ(again.grad_weight.values, layer.grad_weight.values);
    EXPECT_EQ(again.grad_bias.values, layer.grad_bias.values);
  }
}

TEST(GroupNorm, GradientsAgainstCentralDifferences) {
  for (const Activation activation : {Activation::none, Activation::relu})
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add})
      for (const int groups : {1, 2, 6}) {
        Layer layer = random_layer({2, 2, 3, 6}, groups, activation, 30);
        const Floats grad_y = random_array(layer.x.shape, 40);
        layer.forward();
        layer.backward(grad_y, mode);
        const double before = mode == Accumulate::add ? 0.5 : 0;
        const auto want = [&](std::vector<double> NormOracle::*values) {
          std::vector<double> result = layer.oracle().gradient(values, as_doubles(grad_y.values));
          for (double& v : result) v += before;
          return result;
        };
        expect_near(layer.grad_x.values, want(&NormOracle::x), 5e-6);
        expect_near(layer.grad_weight.values, want(&NormOracle::weight), 5e-6);
        expect_near(layer.grad_bias.values, want(&NormOracle::bias), 5e-6);
      }
}

// Too large for differences: dx of a group has no mean after division by the weights' slope, nor a part along x_hat.
TEST(GroupNorm, GradientOfALargeMapIsOrthogonalToItsStatistics) {
  Layer layer = random_layer({2, 40, 30, 64}, 8, Activation::relu, 50);
  layer.forward();
  layer.backward(random_array(layer.x.shape, 51), Accumulate::overwrite);
  const NormOracle oracle = layer.oracle();
  std::vector<double> sum(16, 0.0), along(16, 0.0), mean, var;
  oracle.moments(mean, var);
  for (size_t i = 0; i < oracle.x.size(); ++i) {
    const size_t g = oracle.group(i);
    sum[g] += static_cast<double>(layer.grad_x.values[i]);
    along[g] += static_cast<double>(layer.grad_x.values[i]) * (oracle.x[i] - mean[g]);
  }
  expect_near(sum, std::vector<double>(16, 0.0), 2e-3);
  expect_near(along, std::vector<double>(16, 0.0), 2e-3);
}

TEST(GroupNorm, VarianceSurvivesALargeMean) {
  Layer layer = random_layer({1, 64, 64, 4}, 2, Activation::none, 60);
  for (float& v : layer.x.values) v = -2000.0f + 0.1f * v;
  layer.eps = 1e-10f;
  layer.forward();
  expect_near(layer.y.values, layer.oracle().forward(), 5e-3);  // x itself has 1e-4 / 0.1 of rounding, y is up to 2.5
}

// The same float arithmetic on the same values, and one rounding as they are stored.
TEST(GroupNorm, Bfloat16MapsAreTheFloatResultsRounded) {
  struct Case {
    Shape shape;
    int groups;
    float mean;
  };
  for (const Case& c : {Case{{2, 50, 27, 16}, 4, 0}, Case{{1, 9, 9, 264}, 11, 0}, Case{{3, 5, 3, 6}, 6, 0},
                        Case{{2, 1, 1, 7}, 1, 0}, Case{{1, 30, 30, 8}, 2, 256}})
    for (const Activation activation : {Activation::none, Activation::relu})
      for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
        SCOPED_TRACE(c.shape.to_string());
        Layer layer = random_layer(c.shape, c.groups, activation, 70);
        for (float& v : layer.x.values) v = to_float(to_bfloat16(v + c.mean));
        layer.forward();
        LayerOf<bfloat16> got{Array<bfloat16>(c.shape, stored<bfloat16>(layer.x.values)),
                              layer.weight,
                              layer.bias,
                              c.groups,
                              activation,
                              layer.eps};
        got.forward();
        EXPECT_EQ(got.mean.values, layer.mean.values);
        EXPECT_EQ(got.rstd.values, layer.rstd.values);
        EXPECT_EQ(widened(got.y.values), rounded(layer.y.values));

        layer.y.values = widened(got.y.values);
        const Floats grad_y(c.shape, rounded(random_array(c.shape, 71).values));
        layer.backward(grad_y, mode);
        got.backward(Array<bfloat16>(c.shape, stored<bfloat16>(grad_y.values)), mode);
        EXPECT_EQ(got.grad_weight.values, layer.grad_weight.values);
        EXPECT_EQ(got.grad_bias.values, layer.grad_bias.values);
        EXPECT_EQ(widened(got.grad_x.values), rounded(layer.grad_x.values));
      }
}

TEST(GroupNorm, EmptyAndWrongShapes) {
  Layer none{Floats({0, 4, 4, 4}, std::vector<float>{}), Floats({4}, 1.0f), Floats({4}, 0.0f), 2};
  none.forward();
  none.backward(none.x, Accumulate::overwrite);
  EXPECT_EQ(none.grad_weight.values, std::vector<float>(4, 0.0f));
  Layer flat{Floats({2, 0, 4, 4}, std::vector<float>{}), Floats({4}, 1.0f), Floats({4}, 0.0f), 2};
  flat.forward();
  EXPECT_EQ(flat.mean.values, std::vector<float>(4, 0.0f));
  EXPECT_TRUE(near(flat.rstd[0], 1 / std::sqrt(1e-5), 0, 1e-6));
  flat.backward(flat.x, Accumulate::add);
  EXPECT_EQ(flat.grad_bias.values, std::vector<float>(4, 0.5f));
  Layer odd{Floats({1, 1, 1, 4}, 0.0f), Floats({4}, 1.0f), Floats({4}, 0.0f), 3};
  EXPECT_THROW(odd.forward(), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
