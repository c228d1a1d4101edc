// SPDX-License-Identifier: MIT
// Centerness: CUDA against the host.
#include "kernels/boxes/centerness.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class CenternessCuda : public CudaTest {
 protected:
  double compare(int64_t N, const std::vector<float>& priors, const std::vector<float>& boxes,
                 const std::vector<float>& weights) {
    const auto P = static_cast<int64_t>(priors.size()) / 3;
    const DeviceArray<float> p({P, 3}, priors), b({N, P, 4}, boxes), w({N, P}, weights);
    DeviceArray<float> centerness({N, P});
    DeviceArray<double> sum({1}), workspace({centerness_workspace(N * P)});
    centerness_targets(cuda, p.view(), b.view(), w.view(), centerness.view(), sum.view(), workspace.view());
    Cpu cpu(2);
    std::vector<float> want(weights.size());
    std::vector<double> want_sum(1), host_workspace(static_cast<size_t>(centerness_workspace(N * P)));
    centerness_targets(cpu, View<const float>(priors.data(), {P, 3}), View<const float>(boxes.data(), {N, P, 4}),
                       View<const float>(weights.data(), {N, P}), View<float>(want.data(), {N, P}),
                       View<double>(want_sum.data(), {1}),
                       View<double>(host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}));
    expect_near_or_nan(centerness.to_host(), want, 0, 1e-6);
    expect_near_or_nan(sum.to_host(), want_sum, 0, 1e-9);
    return sum.to_host()[0];
  }
};

TEST_F(CenternessCuda, EqualsHost) {
  std::mt19937 rng(3);
  for (const int64_t P : {1, 129, 700}) {
    std::vector<float> weights = random_floats(2 * P, rng, 0, 1);
    for (float& w : weights) w = w < 0.5f ? 0 : 1;
    weights[0] = 1;
    // Points in, on and outside of boxes.
    const std::vector<float> priors = random_floats(3 * P, rng, 0, 8);
    std::vector<float> boxes = random_floats(8 * P, rng, 0, 4);
    for (size_t i = 0; i < boxes.size(); i += 4) boxes[i + 2] += 5, boxes[i + 3] += 5;
    EXPECT_TRUE(std::isfinite(compare(2, priors, boxes, weights)));
  }
}

TEST_F(CenternessCuda, EdgesEqualHost) {
  EXPECT_EQ(compare(2, {}, {}, {}), 0);
  EXPECT_EQ(compare(1, {4, 4, 8}, {kNaN, 0, 8, 8}, {0}), 0);
  EXPECT_TRUE(std::isnan(compare(1, {4, 4, 8}, {kNaN, 0, 8, 8}, {1})));
}

}  // namespace
}  // namespace gradlibra::kernels
