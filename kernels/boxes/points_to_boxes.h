// SPDX-License-Identifier: MIT
// Point sets to boxes (RepPoints, arXiv:1904.11490, sec. 3.2), from offsets to absolute image coordinates.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/grad_target.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

enum class BoxTransform {
  moment,          // mean -+ deviation * exp(m), m = (m0 for x, m1 for y); sample deviation, divisor K - 1
  minmax,          // min and max over all K points
  partial_minmax,  // min and max over the first 4 points
};

// offsets (N, P, 2K), priors (P, 3), moment (2): m, read by `moment` only, may be empty otherwise. K >= 2 (moment), K
// >= 4 (partial_minmax).
struct PointSets {
  View<const float> offsets, priors, moment{};
  BoxTransform transform;
};

// Row r of image n (offsets row n*P + r) belongs to prior r = (x, y, stride). With (dy_k, dx_k) = offsets[2k],
// offsets[2k+1]:
//   box = transform({(dx_k, dy_k)}) * stride + (x, y, x, y)      as (x1, y1, x2, y2)
// boxes (N, P, 4). Only float32 rounding differs between versions: sums run over k in order, relative to the first
// point, so that equal points have deviation exactly 0. A NaN offset gives a NaN box.
void points_to_boxes(Cpu&, const PointSets&, View<float> boxes);
void points_to_boxes(Cuda&, const PointSets&, View<float> boxes);

// grad_offsets (+)= ; grad_moment (2) (+)= moment_mul * gradient by m, rows in a fixed order (without memory it is left
// out; 0 for the transforms without m). Deviation 0: no gradient through it. minmax: the side's gradient goes to the
// point that set it, at a tie to the lowest k. workspace: points_to_boxes_workspace(N*P) floats, two partial sums for
// each kPointsToBoxesRows rows.
inline constexpr int kPointsToBoxesRows = 256;
int64_t points_to_boxes_workspace(int64_t rows);
struct PointSetGradients {
  GradTarget<> offsets, moment{};
  float moment_mul = 1;
};
void points_to_boxes_backward(Cpu&, const PointSets&, View<const float> grad_boxes, const PointSetGradients&,
                              View<float> workspace);
void points_to_boxes_backward(Cuda&, const PointSets&, View<const float> grad_boxes, const PointSetGradients&,
                              View<float> workspace);

// What both versions check first, and its sizes; `seen`: the points that transforms without m look at.
struct PointSetDims {
  int64_t rows, P, K, seen;
};
PointSetDims check_points_to_boxes(const char* op, const PointSets&, const Shape& boxes);
PointSetDims check_points_to_boxes_backward(const PointSets&, const Shape& grad_boxes, const PointSetGradients&,
                                            View<float> workspace);

}  // namespace gradlibra::kernels
