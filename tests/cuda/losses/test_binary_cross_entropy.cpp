// SPDX-License-Identifier: MIT
// Binary cross-entropy: CUDA against the host.
#include "kernels/losses/binary_cross_entropy.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class BinaryCrossEntropyCuda : public CudaTest {
 protected:
  double compare(const std::vector<float>& logits, const std::vector<float>& targets,
                 const std::vector<float>& weights) {
    const double loss_weight = 0.5, normalizer = 3;
    const auto R = static_cast<int64_t>(weights.size());
    const DeviceArray<float> z({R}, logits), t({R}, targets), w({R}, weights);
    const DeviceArray<double> norm({1}, {normalizer});
    DeviceArray<double> loss({1}), workspace({binary_cross_entropy_workspace(R)});
    DeviceArray<float> grad({R});
    binary_cross_entropy(cuda, z.view(), t.view(), w.view(),
                         {loss_weight, norm.view(), loss.view(), grad.view(), workspace.view()});
    Cpu cpu(2);
    std::vector<double> want_loss(1), host_workspace(static_cast<size_t>(binary_cross_entropy_workspace(R)));
    std::vector<float> want_grad(logits.size());
    binary_cross_entropy(cpu, View<const float>(logits.data(), {R}), View<const float>(targets.data(), {R}),
                         View<const float>(weights.data(), {R}),
                         {loss_weight, View<const double>(&normalizer, {1}), View<double>(want_loss.data(), {1}),
                          View<float>(want_grad.data(), {R}),
                          View<double>(host_workspace.data(), {static_cast<int64_t>(host_workspace.size())})});
    expect_near_or_nan(loss.to_host(), want_loss, 0, 1e-6);
    expect_near_or_nan(grad.to_host(), want_grad, 1e-30, 1e-6);
    return loss.to_host()[0];
  }
};

TEST_F(BinaryCrossEntropyCuda, EqualsHost) {
  std::mt19937 rng(3);
  for (const int64_t R : {1, 256, 1033}) {
    std::vector<float> weights = random_floats(R, rng, 0, 1);
    for (float& w : weights)
      if (w < 0.5f) w = 0;
    EXPECT_GE(compare(random_floats(R, rng, -20, 20), random_floats(R, rng, 0, 1), weights), 0);
  }
}

TEST_F(BinaryCrossEntropyCuda, EdgesEqualHost) {
  EXPECT_EQ(compare({}, {}, {}), 0);
  EXPECT_EQ(compare({kNaN, kInfinity, -kInfinity}, {0, 1, 0}, {0, 1, 1}), 0);
  EXPECT_EQ(compare({kInfinity}, {0}, {1}), INFINITY);
  EXPECT_TRUE(std::isnan(compare({kNaN, 1}, {0.5f, 0.5f}, {1, 1})));
}

}  // namespace
}  // namespace gradlibra::kernels
