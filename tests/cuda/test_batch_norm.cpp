// SPDX-License-Identifier: MIT
// CUDA batch norm against the host version. Both sum in chunks of the same rows but in another order: results differ by
// roundings of float sums over a few hundred values.
#include "kernels/batch_norm.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class BatchNormCuda : public CudaTest {
 protected:
  void compare(const Shape& shape, Activation activation, BatchNormMode mode) {
    SCOPED_TRACE(shape.to_string());
    const int64_t C = shape.dim(-1), R = shape.size() / C;
    const Shape channels{C}, workspace_shape{batch_norm_workspace(R, C)};
    const std::vector<float> x = random_floats(shape.size(), rng, 4, 6), grad_y = random_floats(shape.size(), rng),
                             weight = random_floats(C, rng, 0.5f, 1.5f), bias = random_floats(C, rng);
    std::vector<float> mean = random_floats(C, rng, 4, 6), rstd(mean.size()), running_mean = mean,
                       running_var = random_floats(C, rng, 0.5f, 2), y(x.size());
    std::vector<float> workspace(static_cast<size_t>(workspace_shape[0]));
    const DeviceArray<float> dev_x(shape, x), dev_grad_y(shape, grad_y), dev_weight(channels, weight),
        dev_bias(channels, bias);
    DeviceArray<float> dev_mean(channels), dev_rstd(channels), dev_running_mean(channels, running_mean),
        dev_running_var(channels, running_var), dev_y(shape), dev_workspace(workspace_shape);

    if (mode == BatchNormMode::batch) {
      batch_norm_statistics(cpu, {x.data(), shape}, 1e-5f, 0.1f, {mean.data(), channels}, {rstd.data(), channels},
                            {running_mean.data(), channels}, {running_var.data(), channels},
                            {workspace.data(), workspace_shape});
      batch_norm_statistics(cuda, dev_x.view(), 1e-5f, 0.1f, dev_mean.view(), dev_rstd.view(), dev_running_mean.view(),
                            dev_running_var.view(), dev_workspace.view());
      expect_close(dev_mean.to_host(), mean, 0, 1e-6);
      expect_close(dev_rstd.to_host(), rstd, 0, 2e-5);
      expect_close(dev_running_mean.to_host(), running_mean, 0, 1e-6);
      expect_close(dev_running_var.to_host(), running_var, 0, 2e-5);
    } else {
      reciprocal_std(cpu, {running_var.data(), channels}, 1e-5f, {rstd.data(), channels});
      reciprocal_std(cuda, std::as_const(dev_running_var).view(), 1e-5f, dev_rstd.view());
      expect_close(dev_rstd.to_host(), rstd, 0, 0);
    }
    // From here on both sides start from the host's statistics.
    const DeviceArray<float> same_mean(channels, mean), same_rstd(channels, rstd);
    batch_norm(cpu, {x.data(), shape}, {mean.data(), channels}, {rstd.data(), channels}, {weight.data(), channels},
               {bias.data(), channels}, activation, {y.data(), shape});
    batch_norm(cuda, dev_x.view(), same_mean.view(), same_rstd.view(), dev_weight.view(), dev_bias.view(), activation,
               dev_y.view());
    expect_close(dev_y.to_host(), y, 1e-6, 1e-6);

    const DeviceArray<float> same_y(shape, y);
    for (const Accumulate accumulate : {Accumulate::overwrite, Accumulate::add}) {
      const bool add = accumulate == Accumulate::add;
      std::vector<float> grad_x = random_floats(shape.size(), rng), grad_weight = random_floats(C, rng),
                         grad_bias = random_floats(C, rng);
      const auto start = [add](const std::vector<float>& v) { return add ? v : std::vector<float>(v.size(), NAN); };
      DeviceArray<float> dev_grad_x(shape, start(grad_x)), dev_grad_weight(channels, start(grad_weight)),
          dev_grad_bias(channels, start(grad_bias));
      batch_norm_backward(cpu, {x.data(), shape}, {y.data(), shape}, {grad_y.data(), shape}, {mean.data(), channels},
                          {rstd.data(), channels}, {weight.data(), channels}, activation, mode, {grad_x.data(), shape},
                          accumulate, {grad_weight.data(), channels}, {grad_bias.data(), channels}, accumulate,
                          {workspace.data(), workspace_shape});
      batch_norm_backward(cuda, dev_x.view(), same_y.view(), dev_grad_y.view(), same_mean.view(), same_rstd.view(),
                          dev_weight.view(), activation, mode, dev_grad_x.view(), accumulate, dev_grad_weight.view(),
                          dev_grad_bias.view(), accumulate, dev_workspace.view());
      expect_close(dev_grad_bias.to_host(), grad_bias, 2e-5, 1e-5);
      expect_close(dev_grad_weight.to_host(), grad_weight, 2e-5, 1e-5);
      expect_close(dev_grad_x.to_host(), grad_x, 1e-5, 1e-5);
    }
  }
  std::mt19937 rng{1};
  Cpu cpu{1};
};

TEST_F(BatchNormCuda, EqualsHost) {
  for (const BatchNormMode mode : {BatchNormMode::frozen, BatchNormMode::batch})
    for (const Activation activation : {Activation::none, Activation::relu}) {
      compare({2, 5, 7, 8}, activation, mode);   // packs, few lanes
      compare({1, 3, 11, 5}, activation, mode);  // single floats
      compare({2500, 3}, activation, mode);      // several chunks
      compare({70, 140}, activation, mode);      // several tiles of channels and chunks
      compare({40, 37}, activation, mode);       // two tiles of single channels
    }
  compare({2, 3}, Activation::none, BatchNormMode::batch);
}

TEST_F(BatchNormCuda, OneRowHasNoVariance) {
  const DeviceArray<float> x({1, 2}, {3, -4});
  DeviceArray<float> mean({2}), rstd({2}), running_mean({2}, {0, 0}), running_var({2}, {1, 1}),
      workspace({batch_norm_workspace(1, 2)});
  batch_norm_statistics(cuda, x.view(), 1e-5f, 1, mean.view(), rstd.view(), running_mean.view(), running_var.view(),
                        workspace.view());
  EXPECT_EQ(mean.to_host(), (std::vector<float>{3, -4}));
  EXPECT_EQ(running_var.to_host(), (std::vector<float>{0, 0}));
}

TEST_F(BatchNormCuda, EmptyAndLeftOut) {
  DeviceArray<float> none({0, 2}), mean({2}, {0, 0}), rstd({2}, {2, 2}), weight({2}, {1, 3}), grad_weight({2}),
      grad_bias({2});
  batch_norm(cuda, none.view(), mean.view(), rstd.view(), weight.view(), mean.view(), Activation::none, none.view());
  batch_norm_backward(cuda, none.view(), none.view(), none.view(), mean.view(), rstd.view(), weight.view(),
                      Activation::relu, BatchNormMode::batch, none.view(), Accumulate::overwrite, grad_weight.view(),
                      grad_bias.view(), Accumulate::overwrite, {});
  EXPECT_EQ(grad_weight.to_host(), (std::vector<float>{0, 0}));
  EXPECT_EQ(grad_bias.to_host(), (std::vector<float>{0, 0}));

  const DeviceArray<float> grad_y({1, 2}, {5, 7});
  DeviceArray<float> grad_x({1, 2});
  batch_norm_backward(cuda, {}, {}, grad_y.view(), mean.view(), rstd.view(), weight.view(), Activation::none,
                      BatchNormMode::frozen, grad_x.view(), Accumulate::overwrite, {}, {}, Accumulate::overwrite, {});
  EXPECT_EQ(grad_x.to_host(), (std::vector<float>{10, 42}));
}

}  // namespace
}  // namespace gradlibra::testing
