// SPDX-License-Identifier: MIT
// A box cut to an image, one instruction sequence for host and device.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"

namespace gradlibra::kernels {

struct ClippedBox {
  float x1, y1, x2, y2;
  // False for NaN.
  [[nodiscard]] GRADLIBRA_HOST_DEVICE bool has_area() const { return x2 > x1 && y2 > y1; }
};

// x to [0, width], y to [0, height]; NaN stays. box: x1, y1, x2, y2; size: height, width.
GRADLIBRA_HOST_DEVICE inline float clip(float value, float limit) {
  return value < 0 ? 0.0f : limit < value ? limit : value;
}
GRADLIBRA_HOST_DEVICE inline ClippedBox clip_box(const float* box, const int32_t* size) {
  const auto height = static_cast<float>(size[0]), width = static_cast<float>(size[1]);
  return {clip(box[0], width), clip(box[1], height), clip(box[2], width), clip(box[3], height)};
}

}  // namespace gradlibra::kernels
