// SPDX-License-Identifier: MIT
// Smooth L1: CUDA against the host.
#include "kernels/losses/smooth_l1.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class SmoothL1Cuda : public CudaTest {
 protected:
  // Runs both versions on the same input and compares; returns the device's loss.
  double compare(int64_t N, int64_t P, const std::vector<float>& pred, const std::vector<float>& target,
                 const std::vector<float>& weights, const std::vector<float>& scales, float beta) {
    const double loss_weight = 0.5, normalizer = 3;
    const DeviceArray<float> p({N, P, 4}, pred), t({N, P, 4}, target), w({N, P}, weights), s({P}, scales);
    const DeviceArray<double> norm({1}, {normalizer});
    DeviceArray<double> loss({1}), workspace({smooth_l1_workspace(N * P)});
    DeviceArray<float> grad({N, P, 4});
    smooth_l1(cuda, p.view(), t.view(), w.view(), s.view(), beta,
              {loss_weight, norm.view(), loss.view(), grad.view(), workspace.view()});

    Cpu cpu(2);
    std::vector<double> want_loss(1), host_workspace(static_cast<size_t>(smooth_l1_workspace(N * P)));
    std::vector<float> want_grad(pred.size());
    smooth_l1(cpu, View<const float>(pred.data(), {N, P, 4}), View<const float>(target.data(), {N, P, 4}),
              View<const float>(weights.data(), {N, P}), View<const float>(scales.data(), {P}), beta,
              {loss_weight, View<const double>(&normalizer, {1}), View<double>(want_loss.data(), {1}),
               View<float>(want_grad.data(), {N, P, 4}),
               View<double>(host_workspace.data(), {static_cast<int64_t>(host_workspace.size())})});
    expect_near_or_nan(loss.to_host(), want_loss, 0, 1e-6);
    expect_near_or_nan(grad.to_host(), want_grad, 1e-30, 1e-6);
    return loss.to_host()[0];
  }
};

TEST_F(SmoothL1Cuda, EqualsHost) {
  std::mt19937 rng(3);
  for (const auto& [N, P] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 7}, {1, 256}, {2, 129}, {3, 341}}) {
    auto weights = random_floats(N * P, rng, 0, 1);
    for (float& w : weights)
      if (w < 0.5f) w = 0;
    EXPECT_GE(compare(N, P, random_floats(4 * N * P, rng), random_floats(4 * N * P, rng), weights,
                      random_floats(P, rng, 0.1f, 2), 0.4f),
              0);
  }
}

TEST_F(SmoothL1Cuda, EdgesEqualHost) {
  EXPECT_EQ(compare(2, 0, {}, {}, {}, {}, 0.1f), 0);
  EXPECT_EQ(compare(1, 1, {kNaN, 1, 2, 3}, {0, 0, 0, 0}, {0}, {1}, 0.1f), 0);
  EXPECT_GT(compare(1, 1, {0.5f, -0.5f, kInfinity, 0}, {0, 0, 0, 0}, {1}, {1}, 0.5f), 1e30);
  EXPECT_TRUE(std::isnan(compare(1, 2, {kNaN, 1, 2, 3, 1, 1, 1, 1}, {0, 0, 0, 0, 0, 0, 0, 0}, {1, 1}, {1, 1}, 0.1f)));
}

}  // namespace
}  // namespace gradlibra::kernels
