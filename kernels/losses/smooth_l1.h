// SPDX-License-Identifier: MIT
// Smooth L1 loss of boxes, value and gradient in one pass.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/losses/loss_sum.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// With d = (pred - target) * row_scale, l = d^2 / (2 beta) if |d| < beta else |d| - beta/2, s = out.weight /
// out.normalizer[0]:
//   out.loss[0] = s * sum_i w_i * (sum over four coordinates of l)           double, fixed order
//   out.grad    = s * w_i * (|d| < beta ? d / beta : sign d) * row_scale   for every row; 0, by selection, where w == 0
// pred, target (N, P, 4); weights (N, P); row_scales (P), shared by images (RepPoints: 1 / (4 * stride)).
// beta > 0. N*P may be 0: loss 0. NaN in a row with w != 0 gives NaN.
// (N, P, 4) arrays are 16-byte aligned. out.workspace: smooth_l1_workspace(N*P) doubles, the partial sums of
// kSmoothL1Rows rows each.
inline constexpr int kSmoothL1Rows = 256;
int64_t smooth_l1_workspace(int64_t rows);
void smooth_l1(Cpu&, View<const float> pred, View<const float> target, View<const float> weights,
               View<const float> row_scales, float beta, const LossSum& out);
void smooth_l1(Cuda&, View<const float> pred, View<const float> target, View<const float> weights,
               View<const float> row_scales, float beta, const LossSum& out);

// What both versions check first.
void check_smooth_l1(View<const float> pred, View<const float> target, View<const float> weights,
                     View<const float> row_scales, float beta, const LossSum& out);

}  // namespace gradlibra::kernels
