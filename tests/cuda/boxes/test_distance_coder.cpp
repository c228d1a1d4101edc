// SPDX-License-Identifier: MIT
// Distances of box sides from points: CUDA against the host.
#include "kernels/boxes/distance_coder.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/boxes/fcos_cases.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class DistanceCoderCuda : public CudaTest {};

TEST_F(DistanceCoderCuda, EqualsHost) {
  std::mt19937 rng(3);
  Cpu cpu(2);
  for (const DistanceUnit unit : {DistanceUnit::pixel, DistanceUnit::stride})
    for (const auto& levels : {std::vector<Level>{}, {{1, 1, 8}}, kFcosPyramid}) {
      const std::vector<float> priors = center_priors(levels);
      const auto P = static_cast<int64_t>(priors.size()) / 3;
      const std::vector<float> boxes = random_boxes(2 * P, 128, 0, rng);
      std::vector<float> weights = random_floats(2 * P, rng, 0, 1);
      for (float& w : weights)
        if (w < 0.5f) w = 0;
      const DeviceArray<float> p({P, 3}, priors), b({2, P, 4}, boxes), w({2, P}, weights);
      DeviceArray<float> distances({2, P, 4}), decoded({2, P, 4});
      encode_distances(cuda, b.view(), w.view(), p.view(), unit, distances.view());
      decode_distances(cuda, std::as_const(distances).view(), p.view(), unit, decoded.view());
      std::vector<float> want(boxes.size()), want_boxes(boxes.size());
      encode_distances(cpu, View<const float>(boxes.data(), {2, P, 4}), View<const float>(weights.data(), {2, P}),
                       View<const float>(priors.data(), {P, 3}), unit, View<float>(want.data(), {2, P, 4}));
      decode_distances(cpu, View<const float>(want.data(), {2, P, 4}), View<const float>(priors.data(), {P, 3}), unit,
                       View<float>(want_boxes.data(), {2, P, 4}));
      expect_near(distances.to_host(), want, 1e-6, 1e-6);
      expect_near(decoded.to_host(), want_boxes, 1e-5, 1e-6);
    }
}

}  // namespace
}  // namespace gradlibra::kernels
