// SPDX-License-Identifier: MIT
// CUDA group norm against the host version. Both sum in chunks of the same rows but in another order: results differ by
// roundings of float sums over a few hundred values; a bfloat16 map may then round to the neighbouring value.
#include "kernels/norms/group_norm.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class GroupNormCuda : public CudaTest {
 protected:
  void compare(const Shape& shape, int groups, Activation activation) {
    compare_stored<float>(shape, groups, activation, 0);
    compare_stored<bfloat16>(shape, groups, activation, kBfloat16Step);
  }
  // `step`: the relative distance of neighbouring values of a map.
  template <MapType T>
  void compare_stored(const Shape& shape, int groups, Activation activation, double step) {
    SCOPED_TRACE(shape.to_string() + " in " + std::to_string(groups) + " groups");
    const int64_t C = shape.dim(-1);
    const Shape channels{C}, statistics{shape[0], groups}, workspace_shape{group_norm_workspace(shape, groups)};
    const std::vector<T> x = stored<T>(random_floats(shape.size(), rng, 4, 6)),
                         grad_y = stored<T>(random_floats(shape.size(), rng));
    const std::vector<float> weight = random_floats(C, rng, 0.5f, 1.5f), bias = random_floats(C, rng);
    std::vector<float> mean(static_cast<size_t>(statistics.size())), rstd(mean.size()),
        workspace(static_cast<size_t>(workspace_shape[0]));
    const DeviceArray<T> dev_x(shape, x), dev_grad_y(shape, grad_y);
    const DeviceArray<float> dev_weight(channels, weight), dev_bias(channels, bias);
    std::vector<T> y(x.size());
    DeviceArray<T> dev_y(shape);
    DeviceArray<float> dev_mean(statistics), dev_rstd(statistics), dev_workspace(workspace_shape);
    group_norm<T>(cpu, {x.data(), shape}, {weight.data(), channels}, {bias.data(), channels}, groups, 1e-5f, activation,
                  {y.data(), shape}, {mean.data(), statistics}, {rstd.data(), statistics},
                  {workspace.data(), workspace_shape});
    group_norm(cuda, dev_x.view(), dev_weight.view(), dev_bias.view(), groups, 1e-5f, activation, dev_y.view(),
               dev_mean.view(), dev_rstd.view(), dev_workspace.view());
    expect_near_or_nan(dev_mean.to_host(), mean, 0, 1e-6);
    expect_near_or_nan(dev_rstd.to_host(), rstd, 0, 2e-5);
    expect_near_or_nan(widened(dev_y.to_host()), widened(y), 3e-5, 1e-5 + step);

    // Both backward passes start from the host's results.
    const DeviceArray<T> same_y(shape, y);
    const DeviceArray<float> same_mean(statistics, mean), same_rstd(statistics, rstd);
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      const bool add = mode == Accumulate::add;
      std::vector<T> grad_x = stored<T>(random_floats(shape.size(), rng));
      std::vector<float> grad_weight = random_floats(C, rng), grad_bias = random_floats(C, rng);
      const auto start = [add](const auto& v) {
        using V = std::decay_t<decltype(v)>;
        return add ? v : V(v.size(), from_float<typename V::value_type>(NAN));
      };
      DeviceArray<T> dev_grad_x(shape, start(grad_x));
      DeviceArray<float> dev_grad_weight(channels, start(grad_weight)), dev_grad_bias(channels, start(grad_bias));
      group_norm_backward<T>(cpu, {x.data(), shape}, {y.data(), shape}, {grad_y.data(), shape},
                             {weight.data(), channels}, {mean.data(), statistics}, {rstd.data(), statistics}, groups,
                             activation, {grad_x.data(), shape}, mode, {grad_weight.data(), channels},
                             {grad_bias.data(), channels}, mode, {workspace.data(), workspace_shape});
      group_norm_backward(cuda, dev_x.view(), same_y.view(), dev_grad_y.view(), dev_weight.view(), same_mean.view(),
                          same_rstd.view(), groups, activation, dev_grad_x.view(), mode, dev_grad_weight.view(),
                          dev_grad_bias.view(), mode, dev_workspace.view());
      expect_near_or_nan(dev_grad_bias.to_host(), grad_bias, 2e-5, 1e-5);
      expect_near_or_nan(dev_grad_weight.to_host(), grad_weight, 2e-5, 1e-5);
      expect_near_or_nan(widened(dev_grad_x.to_host()), widened(grad_x), 1e-5, 1e-5 + step);
    }
  }
  std::mt19937 rng{1};
  Cpu cpu{1};
};

TEST_F(GroupNormCuda, EqualsHost) {
  for (const Activation activation : {Activation::none, Activation::relu}) {
    compare({2, 5, 7, 8}, 2, activation);
    compare({3, 4, 3, 6}, 3, activation);    // single floats, groups of two
    compare({1, 4, 5, 144}, 6, activation);  // groups across the tiles of channels
    compare({2, 40, 30, 4}, 4, activation);  // several chunks
    compare({1, 9, 8, 264}, 32 / 4, activation);
  }
  compare({2, 1, 1, 7}, 1, Activation::none);
}

// Maps too large for one block per image and tile.
TEST_F(GroupNormCuda, LargeMapsEqualHost) {
  compare({2, 40, 30, 16}, 4, Activation::relu);  // moments joined by the pass that uses them
  compare({1, 37, 31, 12}, 2, Activation::none);  // groups that packs straddle
  compare({2, 8, 5, 1024}, 2, Activation::relu);  // a group in two parts
  compare({1, 6, 6, 514}, 2, Activation::none);   // in 257 parts
}

TEST_F(GroupNormCuda, VarianceSurvivesALargeMean) {
  // Values 256 and 258, bfloat16's neighbours there: E[x^2] - E[x]^2 in float loses all but two digits.
  for (const Shape& shape : {Shape{1, 8, 8, 16}, Shape{1, 40, 40, 16}}) {
    std::vector<float> x = random_floats(shape.size(), rng, 256, 258);
    x[0] = 300;  // an outlier where the first rows take their shift from
    const std::vector<bfloat16> map = stored<bfloat16>(x);
    std::vector<double> average(2, 0.0), variance(2, 0.0), scale(2);
    const auto group = [](size_t i) { return i % 16 / 8; };
    const auto count = static_cast<double>(shape.size() / 2);
    for (size_t i = 0; i < map.size(); ++i) average[group(i)] += static_cast<double>(to_float(map[i])) / count;
    for (size_t i = 0; i < map.size(); ++i) {
      const double d = static_cast<double>(to_float(map[i])) - average[group(i)];
      variance[group(i)] += d * d / count;
    }
    for (size_t g = 0; g < 2; ++g) scale[g] = 1 / std::sqrt(variance[g] + 1e-5);
    const DeviceArray<bfloat16> dev_x(shape, map);
    const DeviceArray<float> one({16}, std::vector<float>(16, 1.0f));
    DeviceArray<bfloat16> y(shape);
    DeviceArray<float> mean({1, 2}), rstd({1, 2}), workspace({group_norm_workspace(shape, 2)});
    group_norm(cuda, dev_x.view(), one.view(), one.view(), 2, 1e-5f, Activation::none, y.view(), mean.view(),
               rstd.view(), workspace.view());
    expect_near_or_nan(mean.to_host(), std::vector<float>(average.begin(), average.end()), 0, 1e-6);
    expect_near_or_nan(rstd.to_host(), std::vector<float>(scale.begin(), scale.end()), 0, 1e-4);
  }
}

TEST_F(GroupNormCuda, Empty) {
  compare({0, 4, 4, 4}, 2, Activation::relu);
  compare({2, 0, 4, 4}, 2, Activation::relu);
}

}  // namespace
}  // namespace gradlibra::testing
