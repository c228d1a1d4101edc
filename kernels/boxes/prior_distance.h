// SPDX-License-Identifier: MIT
// The geometry of PointAssigner, one instruction sequence for host and device: which stride a box belongs to, and how
// far a point is from it.
#pragma once

#include "kernels/host_device.h"

namespace gradlibra::kernels {

// Centre and size of a box, in double, where sums and differences of float coordinates are exact but for extreme
// ranges.
struct BoxFrame {
  double cx, cy, w, h;
};
GRADLIBRA_HOST_DEVICE inline BoxFrame box_frame(const float* box) {
  const double x1 = box[0], y1 = box[1], x2 = box[2], y2 = box[3];
  const double w = x2 - x1, h = y2 - y1;
  return {(x1 + x2) / 2, (y1 + y2) / 2, w > 1e-6 ? w : 1e-6, h > 1e-6 ? h : 1e-6};
}

// Squared distance of (x, y) from the centre in units of the box's width and height: ((dx h)^2 + (dy w)^2) / (w h)^2,
// equal to (dx/w)^2 + (dy/h)^2. Squares have the order of the distances, the root being monotone. With one division at
// the end, points that are equally far on paper are equally far here whenever the coordinates have few digits (whole
// pixels, halves): numerator and denominator are exact then, and equal quotients round alike. So ties go to the lower
// index as stated, not as rounding has it. No fused multiply-add on the device.
GRADLIBRA_HOST_DEVICE inline double squared_distance(const BoxFrame& box, float x, float y) {
  const double a = (static_cast<double>(x) - box.cx) * box.h, b = (static_cast<double>(y) - box.cy) * box.w;
  const double area = box.w * box.h;
#ifdef __CUDA_ARCH__
  return __dadd_rn(__dmul_rn(a, a), __dmul_rn(b, b)) / (area * area);
#else
  return (a * a + b * b) / (area * area);
#endif
}

// Whether the level of `stride` = 2^n is at most the box's level L = trunc((log2(w/scale) + log2(h/scale)) / 2). For n
// >= 0, L >= n says log2(w*h/scale^2) >= 2n, that is w*h >= (scale * 2^n)^2: a comparison of products, without the
// rounding of two logarithms. Truncation or floor differ for L < 0 only, which is clamped to the lowest level either
// way. A box's stride is thus the largest one that it fills, and the smallest one present if it fills none.
GRADLIBRA_HOST_DEVICE inline bool box_fills_stride(const BoxFrame& box, float scale, float stride) {
  const double side = static_cast<double>(scale) * static_cast<double>(stride);
  return box.w * box.h >= side * side;
}

}  // namespace gradlibra::kernels
