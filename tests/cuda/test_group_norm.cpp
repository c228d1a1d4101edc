// SPDX-License-Identifier: MIT
// CUDA group norm against the host version. Both sum in chunks of the same rows but in another order: results differ by
// roundings of float sums over a few hundred values.
#include "kernels/group_norm.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class GroupNormCuda : public CudaTest {
 protected:
  void compare(const Shape& shape, int groups, Activation activation) {
    SCOPED_TRACE(shape.to_string() + " in " + std::to_string(groups) + " groups");
    const int64_t C = shape.dim(-1);
    const Shape channels{C}, statistics{shape[0], groups}, workspace_shape{group_norm_workspace(shape, groups)};
    const std::vector<float> x = random_floats(shape.size(), rng, 4, 6), grad_y = random_floats(shape.size(), rng),
                             weight = random_floats(C, rng, 0.5f, 1.5f), bias = random_floats(C, rng);
    std::vector<float> mean(static_cast<size_t>(statistics.size())), rstd(mean.size()), y(x.size()),
        workspace(static_cast<size_t>(workspace_shape[0]));
    const DeviceArray<float> dev_x(shape, x), dev_grad_y(shape, grad_y), dev_weight(channels, weight),
        dev_bias(channels, bias);
    DeviceArray<float> dev_y(shape), dev_mean(statistics), dev_rstd(statistics), dev_workspace(workspace_shape);
    group_norm(cpu, {x.data(), shape}, {weight.data(), channels}, {bias.data(), channels}, groups, 1e-5f, activation,
               {y.data(), shape}, {mean.data(), statistics}, {rstd.data(), statistics},
               {workspace.data(), workspace_shape});
    group_norm(cuda, dev_x.view(), dev_weight.view(), dev_bias.view(), groups, 1e-5f, activation, dev_y.view(),
               dev_mean.view(), dev_rstd.view(), dev_workspace.view());
    expect_close(dev_mean.to_host(), mean, 0, 1e-6);
    expect_close(dev_rstd.to_host(), rstd, 0, 2e-5);
    expect_close(dev_y.to_host(), y, 3e-5, 1e-5);

    // Both backward passes start from the host's results.
    const DeviceArray<float> same_y(shape, y), same_mean(statistics, mean), same_rstd(statistics, rstd);
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      const bool add = mode == Accumulate::add;
      std::vector<float> grad_x = random_floats(shape.size(), rng), grad_weight = random_floats(C, rng),
                         grad_bias = random_floats(C, rng);
      const auto start = [add](const std::vector<float>& v) { return add ? v : std::vector<float>(v.size(), NAN); };
      DeviceArray<float> dev_grad_x(shape, start(grad_x)), dev_grad_weight(channels, start(grad_weight)),
          dev_grad_bias(channels, start(grad_bias));
      group_norm_backward(cpu, {x.data(), shape}, {y.data(), shape}, {grad_y.data(), shape}, {weight.data(), channels},
                          {mean.data(), statistics}, {rstd.data(), statistics}, groups, activation,
                          {grad_x.data(), shape}, mode, {grad_weight.data(), channels}, {grad_bias.data(), channels},
                          mode, {workspace.data(), workspace_shape});
      group_norm_backward(cuda, dev_x.view(), same_y.view(), dev_grad_y.view(), dev_weight.view(), same_mean.view(),
                          same_rstd.view(), groups, activation, dev_grad_x.view(), mode, dev_grad_weight.view(),
                          dev_grad_bias.view(), mode, dev_workspace.view());
      expect_close(dev_grad_bias.to_host(), grad_bias, 2e-5, 1e-5);
      expect_close(dev_grad_weight.to_host(), grad_weight, 2e-5, 1e-5);
      expect_close(dev_grad_x.to_host(), grad_x, 1e-5, 1e-5);
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

TEST_F(GroupNormCuda, Empty) {
  compare({0, 4, 4, 4}, 2, Activation::relu);
  compare({2, 0, 4, 4}, 2, Activation::relu);
}

}  // namespace
}  // namespace gradlibra::testing
