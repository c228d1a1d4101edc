// SPDX-License-Identifier: MIT
// Cells in the padding of a batch: CUDA against the host.
#include "kernels/boxes/valid_cells.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/boxes/assign_cases.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class ValidCellsCuda : public CudaTest {};

TEST_F(ValidCellsCuda, EqualsHost) {
  const std::vector<float> priors = point_priors({{16, 24, 8}, {4, 6, 32}, {1, 2, 128}});
  const std::vector<int32_t> sizes{128, 192, 33, 70, 70, 33, 0, 0, 1, 160}, orientations{0, 3, 4, 0, 7};
  const auto P = static_cast<int64_t>(priors.size()) / 3;
  const DeviceArray<float> p({P, 3}, priors);
  const DeviceArray<int32_t> s({5, 2}, sizes), o({5}, orientations);
  DeviceArray<uint8_t> valid({5, P});
  valid_cells(cuda, p.view(), s.view(), o.view(), 32, valid.view());
  Cpu cpu(2);
  std::vector<uint8_t> want(static_cast<size_t>(5 * P));
  valid_cells(cpu, View<const float>(priors.data(), {P, 3}), View<const int32_t>(sizes.data(), {5, 2}),
              View<const int32_t>(orientations.data(), {5}), 32, View<uint8_t>(want.data(), {5, P}));
  EXPECT_EQ(valid.to_host(), want);
  DeviceArray<uint8_t> none({5, 0});
  valid_cells(cuda, View<const float>(nullptr, {0, 3}), s.view(), o.view(), 32, none.view());
}

}  // namespace
}  // namespace gradlibra::kernels
