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
    Both<T> x(shape, stored<T>(random_floats(shape.size(), rng, 4, 6))),
        grad_y(shape, stored<T>(random_floats(shape.size(), rng))), y = unwritten<T>(shape);
    Both<> weight(channels, random_floats(C, rng, 0.5f, 1.5f)), bias(channels, random_floats(C, rng)),
        running_mean(channels, random_floats(C, rng, 4, 6)), running_var(channels, random_floats(C, rng, 0.5f, 2)),
        mean = unwritten<float>(channels), rstd = unwritten<float>(channels),
        workspace = unwritten<float>(workspace_shape);

    on_both([&](auto& device) {
      batch_norm_statistics<T>(device, {.x = x.on(device),
                                        .eps = 1e-5f,
                                        .mean = mean.on(device),
                                        .rstd = rstd.on(device),
                                        .running = {0.1f, running_mean.on(device), running_var.on(device)},
                                        .workspace = workspace.on(device)});
    });
    expect_near(mean.device(), mean.host(), 0, 1e-6);
    expect_near(rstd.device(), rstd.host(), 0, 2e-5);
    expect_near(running_mean.device(), running_mean.host(), 0, 1e-6);
    expect_near(running_var.device(), running_var.host(), 0, 2e-5);
    // From here on both sides start from the host's statistics.
    mean.share();
    rstd.share();
    on_both([&](auto& device) {
      batch_norm<T>(device, {x.on(device), mean.on(device), rstd.on(device), weight.on(device), bias.on(device),
                             activation, y.on(device)});
    });
    expect_near(widened(y.device()), widened(y.host()), 1e-6, 1e-6 + step);

    y.share();
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      Both<T> grad_x(shape, stored<T>(random_floats(shape.size(), rng)));
      Both<> grad_weight(channels, random_floats(C, rng)), grad_bias(channels, random_floats(C, rng));
      if (mode == Accumulate::overwrite) {
        grad_x.spoil_device();
        grad_weight.spoil_device();
        grad_bias.spoil_device();
      }
      on_both([&](auto& device) {
        batch_norm_backward<T>(device, {.x = x.on(device),
                                        .y = y.on(device),
                                        .grad_y = grad_y.on(device),
                                        .mean = mean.on(device),
                                        .rstd = rstd.on(device),
                                        .weight = weight.on(device),
                                        .activation = activation,
                                        .grad_x = {grad_x.on(device), mode},
                                        .grad_weight = {grad_weight.on(device), mode},
                                        .grad_bias = {grad_bias.on(device), mode},
                                        .workspace = workspace.on(device)});
      });
      expect_near(grad_bias.device(), grad_bias.host(), 2e-5, 1e-5);
      expect_near(grad_weight.device(), grad_weight.host(), 2e-5, 1e-5);
      expect_near(widened(grad_x.device()), widened(grad_x.host()), 1e-5, 1e-5 + step);
    }
  }
  std::mt19937 rng{1};
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
  batch_norm_statistics(cuda, {.x = x.view(),
                               .eps = 1e-5f,
                               .mean = mean.view(),
                               .rstd = rstd.view(),
                               .running = {1, running_mean.view(), running_var.view()},
                               .workspace = workspace.view()});
  EXPECT_EQ(mean.to_host(), (std::vector<float>{3, -4}));
  EXPECT_EQ(running_var.to_host(), (std::vector<float>{0, 0}));
}

// y may be x, grad_x may be grad_y, and maps may begin where no pack of 16 bytes does.
TEST_F(BatchNormCuda, InPlaceAndUnaligned) {
  const Shape shape{5, 8}, channels{8};
  const std::vector<bfloat16> x = stored<bfloat16>(random_floats(40, rng));
  Both<> mean(channels, random_floats(8, rng)), rstd(channels, random_floats(8, rng, 1, 2)),
      workspace = unwritten<float>({batch_norm_workspace(5, 8)});
  for (const int64_t offset : {0, 1}) {
    SCOPED_TRACE(offset);
    std::vector<bfloat16> shifted(static_cast<size_t>(offset));
    shifted.insert(shifted.end(), x.begin(), x.end());
    const Shape all{40 + offset};
    Both<bfloat16> input(all, shifted), output(all, shifted), gradient(all, shifted);
    Both<> grad_weight = unwritten<float>(channels), grad_bias = unwritten<float>(channels);
    const auto map = [&](Both<bfloat16>& memory, auto& device) {
      return View<bfloat16>(memory.on(device).data() + offset, shape);
    };
    on_both([&](auto& device) {
      const View<bfloat16> y = map(output, device), grad = map(gradient, device);
      batch_norm<bfloat16>(
          device, {y, mean.on(device), rstd.on(device), rstd.on(device), mean.on(device), Activation::relu, y});
      batch_norm_backward<bfloat16>(device, {.x = map(input, device),
                                             .y = y,
                                             .grad_y = grad,
                                             .mean = mean.on(device),
                                             .rstd = rstd.on(device),
                                             .weight = rstd.on(device),
                                             .activation = Activation::relu,
                                             .grad_x = {grad},
                                             .grad_weight = {grad_weight.on(device)},
                                             .grad_bias = {grad_bias.on(device)},
                                             .workspace = workspace.on(device)});
    });
    expect_near(widened(output.device()), widened(output.host()), 1e-6, kBfloat16Step);
    expect_near(widened(gradient.device()), widened(gradient.host()), 1e-6, kBfloat16Step);
    expect_near(grad_weight.device(), grad_weight.host(), 1e-5, 1e-5);
    expect_near(grad_bias.device(), grad_bias.host(), 1e-5, 1e-5);
  }
}

// Each gradient by itself has the bits that it has beside the others; what is not asked for stays as it was.
TEST_F(BatchNormCuda, LeavesOutWhatIsNotAskedFor) {
  const Shape shape{40, 12}, channels{12};
  const DeviceArray<float> x(shape, random_floats(480, rng)), grad_y(shape, random_floats(480, rng)),
      mean(channels, random_floats(12, rng)), rstd(channels, random_floats(12, rng, 1, 2));
  DeviceArray<float> workspace({batch_norm_workspace(40, 12)});
  std::vector<std::vector<float>> all;
  for (int asked = 7; asked >= 0; --asked) {
    DeviceArray<float> grad_x(shape), grad_weight(channels), grad_bias(channels);
    NormBackwardPass<float> pass{.x = x.view(),
                                 .grad_y = grad_y.view(),
                                 .mean = mean.view(),
                                 .rstd = rstd.view(),
                                 .weight = rstd.view(),
                                 .workspace = workspace.view()};
    if ((asked & 1) != 0) pass.grad_x = {grad_x.view()};
    if ((asked & 2) != 0) pass.grad_weight = {grad_weight.view()};
    if ((asked & 4) != 0) pass.grad_bias = {grad_bias.view()};
    batch_norm_backward(cuda, pass);
    const std::vector<std::vector<float>> got{grad_x.to_host(), grad_weight.to_host(), grad_bias.to_host()};
    if (asked == 7) all = got;
    for (size_t i = 0; i < 3; ++i)
      expect_same(got[i], (asked >> i & 1) != 0 ? all[i] : std::vector<float>(all[i].size(), kNaN));
  }
}

TEST_F(BatchNormCuda, Empty) {
  DeviceArray<float> none({0, 2}), mean({2}, {0, 0}), rstd({2}, {2, 2}), weight({2}, {1, 3}), grad_weight({2}),
      grad_bias({2});
  batch_norm(cuda, {none.view(), mean.view(), rstd.view(), weight.view(), mean.view(), Activation::none, none.view()});
  batch_norm_backward(cuda, {.x = none.view(),
                             .y = none.view(),
                             .grad_y = none.view(),
                             .mean = mean.view(),
                             .rstd = rstd.view(),
                             .weight = weight.view(),
                             .activation = Activation::relu,
                             .grad_x = {none.view()},
                             .grad_weight = {grad_weight.view()},
                             .grad_bias = {grad_bias.view()}});
  EXPECT_EQ(grad_weight.to_host(), (std::vector<float>{0, 0}));
  EXPECT_EQ(grad_bias.to_host(), (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace gradlibra::testing
