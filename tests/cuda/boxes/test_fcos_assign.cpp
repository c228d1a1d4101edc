// SPDX-License-Identifier: MIT
// FCOS assignment: CUDA against the host, every cell alike.
#include "kernels/boxes/fcos_assign.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/boxes/fcos_cases.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class FcosAssignCuda : public CudaTest {
 protected:
  void compare(const std::vector<float>& priors, const std::vector<float>& gt, const std::vector<int32_t>& counts,
               const FcosAssign& options) {
    const auto P = static_cast<int64_t>(priors.size()) / 3, N = static_cast<int64_t>(counts.size());
    const int64_t M = static_cast<int64_t>(gt.size()) / 4 / N;
    const DeviceArray<float> p({P, 3}, priors), g({N, M, 4}, gt);
    const DeviceArray<int32_t> c({N}, counts);
    DeviceArray<int32_t> assigned({N, P});
    fcos_assign(cuda, p.view(), g.view(), c.view(), options, assigned.view());
    Cpu cpu(2);
    std::vector<int32_t> want(static_cast<size_t>(N * P));
    fcos_assign(cpu, View<const float>(priors.data(), {P, 3}), View<const float>(gt.data(), {N, M, 4}),
                View<const int32_t>(counts.data(), {N}), options, View<int32_t>(want.data(), {N, P}));
    EXPECT_EQ(assigned.to_host(), want);
  }
};

TEST_F(FcosAssignCuda, EqualsHost) {
  std::mt19937 rng(6);
  const std::vector<float> priors = center_priors(kFcosPyramid);
  for (const float radius : {0.0f, 1.5f})
    for (const float grid : {0.0f, 1.0f, 8.0f})
      compare(priors, random_boxes(3 * 12, 128, grid, rng), {12, 0, 7}, fcos_options(radius));
}

TEST_F(FcosAssignCuda, EdgesEqualHost) {
  const FcosAssign options = fcos_options(0);
  compare({}, {0, 0, 8, 8}, {1}, options);
  compare({4, 4, 8, 4, 4, 5}, {}, {0}, options);
  compare({4, 4, 8}, {kNaN, 0, 8, 8, 0, 0, 8, 8}, {9}, options);  // more than there are
}

}  // namespace
}  // namespace gradlibra::kernels
