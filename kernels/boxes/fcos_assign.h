// SPDX-License-Identifier: MIT
// Target assignment of FCOS (arXiv:1904.01355, sec. 3.1 and 3.2): a cell answers for the smallest object that it lies
// in and whose reach belongs to the cell's level.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/host_device.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

inline constexpr int kMaxFcosLevels = 8;

struct FcosAssign {
  // Of each level its stride, and the reach in pixels, ends included, of the objects that belong to it.
  int levels = 0;
  float strides[kMaxFcosLevels] = {}, least[kMaxFcosLevels] = {}, most[kMaxFcosLevels] = {};
  // Centre sampling: cells lie within this many strides of an object's centre on either axis. 0: anywhere inside.
  float center_radius = 0;
};

// priors (P, 3): x, y of a cell's centre in pixels, stride of its level. With l, t, r, b the distances of the point to
// the sides of a box (x - x1, y - y1, x2 - x, y2 - y), the box may claim the cell if
//   min(l, t, r, b) > 0; with centre sampling the point lies strictly inside the box of +-center_radius strides around
//     the centre, cut to the box itself;
//   least <= max(l, t, r, b) <= most of the cell's level.
// The claim of the smallest area (x2 - x1)(y2 - y1) counts (ties: lower index). A level that is none of `strides` gets
// nothing. gt_boxes (N, M, 4), padded; gt_counts (N): the first gt_counts[n] <= M are real. assigned (N, P): k > 0 =
// ground truth k - 1, 0 background; there are no ignored cells. All comparisons are made in double, where differences
// of coordinates are exact, so host and device agree on every one. A NaN box claims nothing.
void fcos_assign(Cpu&, View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                 const FcosAssign& options, View<int32_t> assigned);
void fcos_assign(Cuda&, View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                 const FcosAssign& options, View<int32_t> assigned);

// What both versions check first.
void check_fcos_assign(View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                       const FcosAssign& options, View<int32_t> assigned);

// The level of a stride, -1 if there is none.
GRADLIBRA_HOST_DEVICE inline int fcos_level(const FcosAssign& options, float stride) {
  for (int l = 0; l < options.levels; ++l)
    if (options.strides[l] == stride) return l;
  return -1;
}

// Whether `box` may claim the prior of `level`.
GRADLIBRA_HOST_DEVICE inline bool fcos_may_claim(const FcosAssign& options, int level, const float* prior,
                                                 const float* box) {
  // Nearly all boxes fail here, with centre sampling too, which only cuts them: one branch, and no double yet.
  const int inside = int{prior[0] > box[0]} & int{prior[0] < box[2]} & int{prior[1] > box[1]} & int{prior[1] < box[3]};
  if (inside == 0) return false;
  double reach = 0;
  for (int axis = 0; axis < 2; ++axis) {
    const double at = prior[axis], low = box[axis], high = box[axis + 2];
    double from = low, to = high;
    if (options.center_radius > 0) {
      const double center = (low + high) / 2, radius = static_cast<double>(options.center_radius) * prior[2];
      if (center - radius > low) from = center - radius;
      if (center + radius < high) to = center + radius;
    }
    if (!(at - from > 0 && to - at > 0)) return false;
    if (at - low > reach) reach = at - low;
    if (high - at > reach) reach = high - at;
  }
  return reach >= options.least[level] && reach <= options.most[level];
}

GRADLIBRA_HOST_DEVICE inline double fcos_area(const float* box) {
  return (static_cast<double>(box[2]) - box[0]) * (static_cast<double>(box[3]) - box[1]);
}

}  // namespace gradlibra::kernels
