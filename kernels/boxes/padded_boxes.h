// SPDX-License-Identifier: MIT
// Ground truth and priors as assigners find them in memory.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"

namespace gradlibra::kernels {

// Image n has count(n) boxes, the rest is padding.
struct PaddedBoxes {
  const float* boxes;     // (N, M, 4)
  const int32_t* counts;  // (N)
  int64_t N, M;
  GRADLIBRA_HOST_DEVICE int64_t count(int64_t n) const {
    const int64_t c = counts[n];
    return c < 0 ? 0 : c < M ? c : M;
  }
};

// Whether the prior of a row of (N, P) lies in its image: kernels/boxes/valid_cells.h. Null: all do.
GRADLIBRA_HOST_DEVICE inline bool takes_part(const uint8_t* valid, int64_t row) {
  return valid == nullptr || valid[row] != 0;
}

}  // namespace gradlibra::kernels
