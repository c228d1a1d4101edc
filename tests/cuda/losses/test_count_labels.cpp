// SPDX-License-Identifier: MIT
// Rows of each label: CUDA against the host, to the last one.
#include "kernels/losses/count_labels.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class CountLabelsCuda : public CudaTest {};

TEST_F(CountLabelsCuda, EqualsHost) {
  std::mt19937 rng(1);
  Cpu cpu(2);
  for (const auto& [R, K] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 3}, {1, 1}, {257, 11}, {20000, 4}, {300, 700}, {5, 0}}) {
    std::vector<int32_t> labels;
    std::vector<float> weights;
    for (int64_t i = 0; i < R; ++i) {
      labels.push_back(static_cast<int32_t>(rng() % static_cast<unsigned>(K + 2)) - 1);
      weights.push_back(static_cast<float>(rng() % 3));
    }
    std::vector<double> want(static_cast<size_t>(K));
    count_labels(cpu, {labels.data(), {R}}, {weights.data(), {R}}, {want.data(), {K}}, {});
    const DeviceArray<int32_t> l({R}, labels);
    const DeviceArray<float> w({R}, weights);
    DeviceArray<double> counts({K});
    DeviceArray<int32_t> workspace({count_labels_workspace(K)});
    count_labels(cuda, l.view(), w.view(), counts.view(), workspace.view());
    EXPECT_EQ(counts.to_host(), want);
  }
}

}  // namespace
}  // namespace gradlibra::kernels
