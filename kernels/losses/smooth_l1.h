// SPDX-License-Identifier: MIT
// Smooth L1 loss of boxes, value and gradient in one pass.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// With d = (pred - target) * row_scale, l = d^2 / (2 beta) if |d| < beta else |d| - beta/2, s = loss_weight /
// normalizer[0]:
//   loss[0] = s * sum_i w_i * (sum over four coordinates of l)           double, fixed order
//   grad_pred = s * w_i * (|d| < beta ? d / beta : sign d) * row_scale   for every row; 0, by selection, where w == 0
// pred, target, grad_pred (N, P, 4); weights (N, P); row_scales (P), shared by images (RepPoints: 1 / (4 * stride)).
// beta > 0. normalizer (1) double, > 0; loss (1). N*P may be 0: loss 0. NaN in a row with w != 0 gives NaN.
// (N, P, 4) arrays are 16-byte aligned. workspace: smooth_l1_workspace(N*P) doubles, the partial sums of kSmoothL1Rows
// rows each.
inline constexpr int kSmoothL1Rows = 256;
int64_t smooth_l1_workspace(int64_t rows);
void smooth_l1(Cpu&, View<const float> pred, View<const float> target, View<const float> weights,
               View<const float> row_scales, float beta, double loss_weight, View<const double> normalizer,
               View<double> loss, View<float> grad_pred, View<double> workspace);
void smooth_l1(Cuda&, View<const float> pred, View<const float> target, View<const float> weights,
               View<const float> row_scales, float beta, double loss_weight, View<const double> normalizer,
               View<double> loss, View<float> grad_pred, View<double> workspace);

// What both versions check first.
void check_smooth_l1(View<const float> pred, View<const float> target, View<const float> weights,
                     View<const float> row_scales, float beta, View<const double> normalizer, View<double> loss,
                     View<float> grad_pred, View<double> workspace);

}  // namespace gradlibra::kernels
