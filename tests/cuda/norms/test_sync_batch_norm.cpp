// SPDX-License-Identifier: MIT
// Moments and gradients that cross ranks: the CUDA versions against the host's, which compute the same expressions.
#include "kernels/norms/sync_batch_norm.h"

#include <random>

#include "kernels/norms/batch_norm.h"
#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class SyncBatchNormCuda : public CudaTest {
 protected:
  std::mt19937 rng{11};

  void compare(int64_t C, int64_t rows) {
    SCOPED_TRACE(C);
    const Shape channels{C}, sums_shape{sync_norm_sums(C)};
    Both<> first(channels, random_floats(C, rng, -3, 3)), second(channels, random_floats(C, rng, 0, 2)),
        weight(channels, random_floats(C, rng, 0.5f, 1.5f));
    const std::vector<double> nothing(static_cast<size_t>(sums_shape.size()), static_cast<double>(kNaN));
    Both<double> sums(sums_shape, nothing), gradient_sums(sums_shape, nothing);
    Both<> mean = unwritten<float>(channels), rstd = unwritten<float>(channels), g = unwritten<float>(channels),
           g_x_hat = unwritten<float>(channels), running_mean(channels, random_floats(C, rng)),
           running_var(channels, random_floats(C, rng, 0.5f, 2));
    on_both([&](auto& device) {
      pack_moments(device, rows, first.on(device), second.on(device), sums.on(device));
      pack_gradients(device, rows, first.on(device), second.on(device), gradient_sums.on(device));
    });
    expect_near(sums.device(), sums.host(), 0, 1e-15);
    expect_near(gradient_sums.device(), gradient_sums.host(), 0, 0);
    on_both([&](auto& device) {
      unpack_moments(
          device, sums.on(device),
          {1e-5f, mean.on(device), rstd.on(device), {0.1f, running_mean.on(device), running_var.on(device)}});
      unpack_gradients(device, gradient_sums.on(device), weight.on(device), {g.on(device), g_x_hat.on(device)});
    });
    expect_near(mean.device(), mean.host(), 0, 1e-6);
    expect_near(rstd.device(), rstd.host(), 0, 1e-6);
    expect_near(running_mean.device(), running_mean.host(), 1e-7, 1e-6);
    expect_near(running_var.device(), running_var.host(), 0, 1e-6);
    expect_near(g.device(), g.host(), 0, 1e-6);
    expect_near(g_x_hat.device(), g_x_hat.host(), 0, 1e-6);
  }
};

TEST_F(SyncBatchNormCuda, PackAndUnpack) {
  for (const int64_t C : {0, 1, 7, 255, 256, 257, 2048}) compare(C, 1000);
  compare(5, 1);
}

}  // namespace
}  // namespace gradlibra::testing
