// SPDX-License-Identifier: MIT
// CUDA batch norm against the host version. Both sum in chunks of the same rows but in another order: results differ by
// roundings of float sums over a few hundred values; a bfloat16 map may then round to the neighbouring value.
#include "kernels/norms/batch_norm.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class BatchNormCuda : public CudaTest {
 protected:
  void compare(const Shape& shape, Activation activation) {
    compare_stored<float>(shape, activation, 0);
    compare_stored<bfloat16>(shape, activation, kBfloat16Step);
  }
  // `step`: the relative distance of neighbouring values of a map.
  template <MapType T>
  void compare_stored(const Shape& shape, Activation activation, double step) {
    SCOPED_TRACE(shape.to_string());
    const int64_t C = shape.dim(-1), R = shape.size() / C;
    const Shape channels{C}, workspace_shape{batch_norm_workspace(R, C)};
    const std::vector<T> x = stored<T>(random_floats(shape.size(), rng, 4, 6)),
                         grad_y = stored<T>(random_floats(shape.size(), rng));
    const std::vector<float> weight = random_floats(C, rng, 0.5f, 1.5f), bias = random_floats(C, rng);
    std::vector<float> mean = random_floats(C, rng, 4, 6), rstd(mean.size()), running_mean = mean,
                       running_var = random_floats(C, rng, 0.5f, 2);
    std::vector<T> y(x.size());
    std::vector<float> workspace(static_cast<size_t>(workspace_shape[0]));
    const DeviceArray<T> dev_x(shape, x), dev_grad_y(shape, grad_y);
    const DeviceArray<float> dev_weight(channels, weight), dev_bias(channels, bias);
    DeviceArray<float> dev_mean(channels), dev_rstd(channels), dev_running_mean(channels, running_mean),
        dev_running_var(channels, running_var), dev_workspace(workspace_shape);
    DeviceArray<T> dev_y(shape);

    batch_norm_statistics<T>(cpu, {x.data(), shape}, 1e-5f, 0.1f, {mean.data(), channels}, {rstd.data(), channels},
                             {running_mean.data(), channels}, {running_var.data(), channels},
                             {workspace.data(), workspace_shape});
    batch_norm_statistics<T>(cuda, dev_x.view(), 1e-5f, 0.1f, dev_mean.view(), dev_rstd.view(), dev_running_mean.view(),
                             dev_running_var.view(), dev_workspace.view());
    expect_near_or_nan(dev_mean.to_host(), mean, 0, 1e-6);
    expect_near_or_nan(dev_rstd.to_host(), rstd, 0, 2e-5);
    expect_near_or_nan(dev_running_mean.to_host(), running_mean, 0, 1e-6);
    expect_near_or_nan(dev_running_var.to_host(), running_var, 0, 2e-5);
    // From here on both sides start from the host's statistics.
    const DeviceArray<float> same_mean(channels, mean), same_rstd(channels, rstd);
    batch_norm<T>(cpu, {x.data(), shape}, {mean.data(), channels}, {rstd.data(), channels}, {weight.data(), channels},
                  {bias.data(), channels}, activation, {y.data(), shape});
    batch_norm(cuda, dev_x.view(), same_mean.view(), same_rstd.view(), dev_weight.view(), dev_bias.view(), activation,
               dev_y.view());
    expect_near_or_nan(widened(dev_y.to_host()), widened(y), 1e-6, 1e-6 + step);

    const DeviceArray<T> same_y(shape, y);
    for (const Accumulate accumulate : {Accumulate::overwrite, Accumulate::add}) {
      const bool add = accumulate == Accumulate::add;
      std::vector<T> grad_x = stored<T>(random_floats(shape.size(), rng));
      std::vector<float> grad_weight = random_floats(C, rng), grad_bias = random_floats(C, rng);
      const auto start = [add](const auto& v) {
        using V = std::decay_t<decltype(v)>;
        return add ? v : V(v.size(), from_float<typename V::value_type>(NAN));
      };
      DeviceArray<T> dev_grad_x(shape, start(grad_x));
      DeviceArray<float> dev_grad_weight(channels, start(grad_weight)), dev_grad_bias(channels, start(grad_bias));
      batch_norm_backward<T>(cpu, {x.data(), shape}, {y.data(), shape}, {grad_y.data(), shape}, {mean.data(), channels},
                             {rstd.data(), channels}, {weight.data(), channels}, activation, {grad_x.data(), shape},
                             accumulate, {grad_weight.data(), channels}, {grad_bias.data(), channels}, accumulate,
                             {workspace.data(), workspace_shape});
      batch_norm_backward(cuda, dev_x.view(), same_y.view(), dev_grad_y.view(), same_mean.view(), same_rstd.view(),
                          dev_weight.view(), activation, dev_grad_x.view(), accumulate, dev_grad_weight.view(),
                          dev_grad_bias.view(), accumulate, dev_workspace.view());
      expect_near_or_nan(dev_grad_bias.to_host(), grad_bias, 2e-5, 1e-5);
      expect_near_or_nan(dev_grad_weight.to_host(), grad_weight, 2e-5, 1e-5);
      expect_near_or_nan(widened(dev_grad_x.to_host()), widened(grad_x), 1e-5, 1e-5 + step);
    }
  }
  std::mt19937 rng{1};
  Cpu cpu{1};
};

TEST_F(BatchNormCuda, EqualsHost) {
  for (const Activation activation : {Activation::none, Activation::relu}) {
    compare({2, 5, 7, 8}, activation);   // packs, few lanes
    compare({1, 3, 11, 5}, activation);  // single floats
    compare({2500, 3}, activation);      // several chunks
    compare({70, 140}, activation);      // several tiles of channels and chunks
    compare({40, 37}, activation);       // two tiles of single channels
  }
  compare({2, 3}, Activation::none);
  compare({3, 2056}, Activation::none);  // more packs than a block has threads
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

// y may be x, grad_x may be grad_y, and maps may begin where no pack of 16 bytes does.
TEST_F(BatchNormCuda, InPlaceAndUnaligned) {
  const Shape shape{5, 8}, channels{8};
  const std::vector<bfloat16> x = stored<bfloat16>(random_floats(40, rng));
  const std::vector<float> mean = random_floats(8, rng), rstd = random_floats(8, rng, 1, 2);
  const DeviceArray<float> dev_mean(channels, mean), dev_rstd(channels, rstd);
  std::vector<bfloat16> y(40), grad(40);
  batch_norm<bfloat16>(cpu, {x.data(), shape}, {mean.data(), channels}, {rstd.data(), channels},
                       {rstd.data(), channels}, {mean.data(), channels}, Activation::relu, {y.data(), shape});
  std::vector<float> grad_weight(8), grad_bias(8), workspace(static_cast<size_t>(batch_norm_workspace(5, 8)));
  batch_norm_backward<bfloat16>(cpu, {x.data(), shape}, {y.data(), shape}, {x.data(), shape}, {mean.data(), channels},
                                {rstd.data(), channels}, {rstd.data(), channels}, Activation::relu,
                                {grad.data(), shape}, Accumulate::overwrite, {grad_weight.data(), channels},
                                {grad_bias.data(), channels}, Accumulate::overwrite,
                                {workspace.data(), {batch_norm_workspace(5, 8)}});
  for (const size_t offset : {size_t{0}, size_t{1}}) {
    std::vector<bfloat16> shifted(offset);
    shifted.insert(shifted.end(), x.begin(), x.end());
    const Shape all{static_cast<int64_t>(shifted.size())};
    DeviceArray<bfloat16> map(all, shifted), gradient(all, shifted);
    const DeviceArray<bfloat16> input(all, shifted);
    const View<bfloat16> y_view(map.view().data() + offset, shape), grad_view(gradient.view().data() + offset, shape);
    const View<const bfloat16> x_view(input.view().data() + offset, shape);
    batch_norm(cuda, y_view, dev_mean.view(), dev_rstd.view(), dev_rstd.view(), dev_mean.view(), Activation::relu,
               y_view);
    std::vector<bfloat16> got = map.to_host();
    expect_near_or_nan(widened(std::vector(got.begin() + static_cast<int64_t>(offset), got.end())), widened(y), 1e-6,
                       kBfloat16Step);
    DeviceArray<float> dev_weight(channels), dev_bias(channels), dev_workspace({batch_norm_workspace(5, 8)});
    batch_norm_backward(cuda, x_view, y_view, grad_view, dev_mean.view(), dev_rstd.view(), dev_rstd.view(),
                        Activation::relu, grad_view, Accumulate::overwrite, dev_weight.view(), dev_bias.view(),
                        Accumulate::overwrite, dev_workspace.view());
    got = gradient.to_host();
    expect_near_or_nan(widened(std::vector(got.begin() + static_cast<int64_t>(offset), got.end())), widened(grad), 1e-6,
                       kBfloat16Step);
    expect_near_or_nan(dev_weight.to_host(), grad_weight, 1e-5, 1e-5);
    expect_near_or_nan(dev_bias.to_host(), grad_bias, 1e-5, 1e-5);
  }
}

TEST_F(BatchNormCuda, EmptyAndLeftOut) {
  DeviceArray<float> none({0, 2}), mean({2}, {0, 0}), rstd({2}, {2, 2}), weight({2}, {1, 3}), grad_weight({2}),
      grad_bias({2});
  batch_norm(cuda, none.view(), mean.view(), rstd.view(), weight.view(), mean.view(), Activation::none, none.view());
  batch_norm_backward(cuda, none.view(), none.view(), none.view(), mean.view(), rstd.view(), weight.view(),
                      Activation::relu, none.view(), Accumulate::overwrite, grad_weight.view(), grad_bias.view(),
                      Accumulate::overwrite, {});
  EXPECT_EQ(grad_weight.to_host(), (std::vector<float>{0, 0}));
  EXPECT_EQ(grad_bias.to_host(), (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace gradlibra::testing
