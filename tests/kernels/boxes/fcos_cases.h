// SPDX-License-Identifier: MIT
// Inputs for the tests of FCOS' assigner.
#pragma once

#include <vector>

#include "kernels/boxes/fcos_assign.h"
#include "tests/kernels/boxes/assign_cases.h"

namespace gradlibra::testing {

// Points (x, y, stride) at the centres of the cells of all levels.
inline std::vector<float> center_priors(const std::vector<Level>& levels) {
  std::vector<float> priors = point_priors(levels);
  for (size_t i = 0; i < priors.size(); i += 3) priors[i] += priors[i + 2] / 2, priors[i + 1] += priors[i + 2] / 2;
  return priors;
}

// Of an image of 128 x 128 pixels, with ranges that its objects fill.
inline const std::vector<Level> kFcosPyramid{{16, 16, 8}, {8, 8, 16}, {4, 4, 32}};
inline kernels::FcosAssign fcos_options(float center_radius) {
  return {.levels = 3,
          .strides = {8, 16, 32},
          .least = {-1, 24, 48},
          .most = {24, 48, 1e8f},
          .center_radius = center_radius};
}

}  // namespace gradlibra::testing
