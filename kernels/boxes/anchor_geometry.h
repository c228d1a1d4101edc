// SPDX-License-Identifier: MIT
// How near boxes are to each other for the assigners of anchors, one instruction sequence for host and device: equal
// distances must be equal on both, since ties go by index.
#pragma once

#include "kernels/host_device.h"

namespace gradlibra::kernels {

// In double, where sums, differences and halves of float coordinates are exact but for extreme ranges: boxes that are
// equally far on paper (anchors on a regular grid, objects on whole pixels) are equally far here.
struct CentredBox {
  double cx, cy, w, h;
};
GRADLIBRA_HOST_DEVICE inline CentredBox centred_box(const float* box) {
  const double x1 = box[0], y1 = box[1], x2 = box[2], y2 = box[3];
  return {(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1};
}

// |dcx| + |dcy| + |dw| + |dh|. NaN if a coordinate is.
GRADLIBRA_HOST_DEVICE inline double box_l1_distance(const CentredBox& a, const CentredBox& b) {
  const double dx = a.cx - b.cx, dy = a.cy - b.cy, dw = a.w - b.w, dh = a.h - b.h;
  return ((dx < 0 ? -dx : dx) + (dy < 0 ? -dy : dy)) + ((dw < 0 ? -dw : dw) + (dh < 0 ? -dh : dh));
}

// dcx^2 + dcy^2; squares have the order of the distances. No fused multiply-add on the device.
GRADLIBRA_HOST_DEVICE inline double squared_centre_distance(const CentredBox& a, const CentredBox& b) {
  const double dx = a.cx - b.cx, dy = a.cy - b.cy;
#ifdef __CUDA_ARCH__
  return __dadd_rn(__dmul_rn(dx, dx), __dmul_rn(dy, dy));
#else
  return dx * dx + dy * dy;
#endif
}

// Whether the centre of `box` lies in `object` by more than `margin` on every side. In float, as the overlaps are.
GRADLIBRA_HOST_DEVICE inline bool centre_inside(const float* box, const float* object, float margin) {
  const float x = (box[0] + box[2]) / 2, y = (box[1] + box[3]) / 2;
  return x - object[0] > margin && y - object[1] > margin && object[2] - x > margin && object[3] - y > margin;
}

// A prior and how far it is; nearer ones first, at equal distance by index. One at NaN or infinity is near to nothing.
struct Near {
  double distance;
  int prior;
};
GRADLIBRA_HOST_DEVICE inline bool nearer(const Near& a, const Near& b) {
  return a.distance < b.distance || (a.distance == b.distance && a.prior < b.prior);
}

}  // namespace gradlibra::kernels
