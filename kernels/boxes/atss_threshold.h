// SPDX-License-Identifier: MIT
// The threshold of ATSS, one instruction sequence for host and device: overlaps are compared with it.
#pragma once

#include <cmath>

#include "kernels/host_device.h"

namespace gradlibra::kernels {

// How far inside its object the centre of a positive anchor lies, in pixels.
inline constexpr float kAtssMargin = 0.01f;

// Mean + standard deviation (divisor count - 1) of `count` overlaps, in their order; NaN for one alone. No fused
// multiply-add on the device.
GRADLIBRA_HOST_DEVICE inline double atss_threshold(const float* overlaps, int count) {
  double sum = 0, squares = 0;
  for (int i = 0; i < count; ++i) sum += static_cast<double>(overlaps[i]);
  const double mean = sum / count;
  for (int i = 0; i < count; ++i) {
    const double d = static_cast<double>(overlaps[i]) - mean;
#ifdef __CUDA_ARCH__
    squares = __dadd_rn(squares, __dmul_rn(d, d));
#else
    squares += d * d;
#endif
  }
  return mean + std::sqrt(squares / (count - 1));
}

}  // namespace gradlibra::kernels
