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
    Both<T> x(shape, stored<T>(random_floats(shape.size(), rng, 4, 6))),
        grad_y(shape, stored<T>(random_floats(shape.size(), rng))), y = unwritten<T>(shape);
    Both<> weight(channels, random_floats(C, rng, 0.5f, 1.5f)), bias(channels, random_floats(C, rng)),
        mean = unwritten<float>(statistics), rstd = unwritten<float>(statistics),
        workspace = unwritten<float>(workspace_shape);
    on_both([&](auto& device) {
      group_norm<T>(device, {.x = x.on(device),
                             .weight = weight.on(device),
                             .bias = bias.on(device),
                             .groups = groups,
                             .eps = 1e-5f,
                             .activation = activation,
                             .y = y.on(device),
                             .mean = mean.on(device),
                             .rstd = rstd.on(device),
                             .workspace = workspace.on(device)});
    });
    expect_near(mean.device(), mean.host(), 0, 1e-6);
    expect_near(rstd.device(), rstd.host(), 0, 2e-5);
    expect_near(widened(y.device()), widened(y.host()), 3e-5, 1e-5 + step);

    // Both backward passes start from the host's results.
    y.share();
    mean.share();
    rstd.share();
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      Both<T> grad_x(shape, stored<T>(random_floats(shape.size(), rng)));
      Both<> grad_weight(channels, random_floats(C, rng)), grad_bias(channels, random_floats(C, rng));
      if (mode == Accumulate::overwrite) {
        grad_x.spoil_device();
        grad_weight.spoil_device();
        grad_bias.spoil_device();
      }
      on_both([&](auto& device) {
        group_norm_backward<T>(device,
                               {.x = x.on(device),
                                .y = y.on(device),
                                .grad_y = grad_y.on(device),
                                .mean = mean.on(device),
                                .rstd = rstd.on(device),
                                .weight = weight.on(device),
                                .activation = activation,
                                .grad_x = {grad_x.on(device), mode},
                                .grad_weight = {grad_weight.on(device), mode},
                                .grad_bias = {grad_bias.on(device), mode},
                                .workspace = workspace.on(device)},
                               groups);
      });
      expect_near(grad_bias.device(), grad_bias.host(), 2e-5, 1e-5);
      expect_near(grad_weight.device(), grad_weight.host(), 2e-5, 1e-5);
      expect_near(widened(grad_x.device()), widened(grad_x.host()), 1e-5, 1e-5 + step);
    }
  }
  std::mt19937 rng{1};
};

TEST_F(GroupNormCuda, EqualsHost) {
  for (const Activation activation : {Activation::none, Activation::relu}) {
    compare({2, 5, 7, 8}, 2, activation);
    compare({3, 4, 3, 6}, 3, activation);    // single floats, groups of two
    compare({1, 4, 5, 144}, 6, activation);  // groups across the tiles of channels
    compare({2, 40, 30, 4}, 4, activation);  // several chunks
    compare({1, 9, 8, 264}, 32 / 4, activation);
    compare({70, 3, 3, 64}, 8, activation);   // more blocks than fit a card at once, so wider ones
    compare({1, 24, 25, 16}, 1, activation);  // one launch forward, passes backward
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
    group_norm<bfloat16>(cuda, {.x = dev_x.view(),
                                .weight = one.view(),
                                .bias = one.view(),
                                .groups = 2,
                                .eps = 1e-5f,
                                .y = y.view(),
                                .mean = mean.view(),
                                .rstd = rstd.view(),
                                .workspace = workspace.view()});
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
