// SPDX-License-Identifier: MIT
// Point sets to boxes (RepPoints, arXiv:1904.11490, sec. 3.2), from offsets to absolute image coordinates.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

enum class BoxTransform {
  moment,          // mean -+ deviation * exp(m), m = (m0 for x, m1 for y); sample deviation, divisor K - 1
  minmax,          // min and max over all K points
  partial_minmax,  // min and max over the first 4 points
};

// Row r of image n (offsets row n*P + r) belongs to prior r = (x, y, stride). With (dy_k, dx_k) = offsets[2k],
// offsets[2k+1]:
//   box = transform({(dx_k, dy_k)}) * stride + (x, y, x, y)      as (x1, y1, x2, y2)
// offsets (N, P, 2K), priors (P, 3), moment (2) (read by `moment` only, may be empty otherwise), boxes (N, P, 4). K >=
// 2 (moment), K >= 4 (partial_minmax). Only float32 rounding differs between versions: sums run over k in order,
// relative to the first point, so that equal points have deviation exactly 0. A NaN offset gives a NaN box.
void points_to_boxes(Cpu&, View<const float> offsets, View<const float> priors, View<const float> moment,
                     BoxTransform transform, View<float> boxes);
void points_to_boxes(Cuda&, View<const float> offsets, View<const float> priors, View<const float> moment,
                     BoxTransform transform, View<float> boxes);

// grad_offsets (+)= ; grad_moment (2) (+)= moment_mul * gradient by m, rows in a fixed order (a null view skips it; 0
// for the transforms without m). Deviation 0: no gradient through it. minmax: the side's gradient goes to the point
// that set it, at a tie to the lowest k. workspace: points_to_boxes_workspace(N*P) floats, two partial sums for each
// kPointsToBoxesRows rows.
inline constexpr int kPointsToBoxesRows = 256;
int64_t points_to_boxes_workspace(int64_t rows);
void points_to_boxes_backward(Cpu&, View<const float> offsets, View<const float> priors, View<const float> moment,
                              BoxTransform transform, float moment_mul, View<const float> grad_boxes,
                              View<float> grad_offsets, Accumulate mode, View<float> grad_moment,
                              Accumulate mode_moment, View<float> workspace);
void points_to_boxes_backward(Cuda&, View<const float> offsets, View<const float> priors, View<const float> moment,
                              BoxTransform transform, float moment_mul, View<const float> grad_boxes,
                              View<float> grad_offsets, Accumulate mode, View<float> grad_moment,
                              Accumulate mode_moment, View<float> workspace);

}  // namespace gradlibra::kernels
