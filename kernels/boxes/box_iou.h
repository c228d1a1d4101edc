// SPDX-License-Identifier: MIT
// Overlap of two boxes, one instruction sequence for host and device: assigners compare overlaps for equality.
#pragma once

#include "kernels/host_device.h"

namespace gradlibra::kernels {

// Intersection and A1 + A2 - I of boxes (x1, y1, x2, y2), width x2 - x1, no "+1".
// Intrinsics forbid fused multiply-adds on the device; host files that use it are built with -ffp-contract=off.
struct BoxOverlap {
  float intersection, united;
};
GRADLIBRA_HOST_DEVICE inline BoxOverlap box_overlap(const float* a, const float* b) {
  const float w = (a[2] < b[2] ? a[2] : b[2]) - (a[0] > b[0] ? a[0] : b[0]);
  const float h = (a[3] < b[3] ? a[3] : b[3]) - (a[1] > b[1] ? a[1] : b[1]);
#ifdef __CUDA_ARCH__
  const float intersection = __fmul_rn(w > 0 ? w : 0, h > 0 ? h : 0);
  const float area_a = __fmul_rn(a[2] - a[0], a[3] - a[1]);
  const float area_b = __fmul_rn(b[2] - b[0], b[3] - b[1]);
  return {intersection, __fsub_rn(__fadd_rn(area_a, area_b), intersection)};
#else
  const float intersection = (w > 0 ? w : 0) * (h > 0 ? h : 0);
  const float area_a = (a[2] - a[0]) * (a[3] - a[1]);
  const float area_b = (b[2] - b[0]) * (b[3] - b[1]);
  return {intersection, (area_a + area_b) - intersection};
#endif
}

// IoU = I / max(A1 + A2 - I, 1e-6). Boxes without a common interior have overlap 0, and so has a box with a NaN
// coordinate (its area is NaN, whatever the comparisons above made of it).
GRADLIBRA_HOST_DEVICE inline float box_iou(const float* a, const float* b) {
  const BoxOverlap o = box_overlap(a, b);
  if (!(o.united == o.united)) return 0;
  return o.intersection / (o.united > 1e-6f ? o.united : 1e-6f);
}

// The test of non-maximum suppression, without a division: I > threshold * (A1 + A2 - I), so an IoU of exactly the
// threshold survives. Boxes that do not intersect never suppress each other.
GRADLIBRA_HOST_DEVICE inline bool boxes_overlap_above(const float* a, const float* b, float threshold) {
  const BoxOverlap o = box_overlap(a, b);
  return o.intersection > 0 && o.intersection > threshold * o.united;
}

}  // namespace gradlibra::kernels
