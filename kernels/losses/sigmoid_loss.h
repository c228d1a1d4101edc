// SPDX-License-Identifier: MIT
// Losses of the sigmoid family, value and gradient in one pass: one kernel for all of them. A member is a header of
// this folder with its psi(g) and slope(g); it is instantiated at the end of sigmoid_loss.cpp and sigmoid_loss.cu.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/losses/loss_sum.h"
#include "kernels/losses/sigmoid_entry.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// Row i has label in 0..C-1, C for background, -1 for ignored, and a weight w. Rows with w == 0 or label -1 contribute
// exactly 0 whatever their logits hold (by selection, not multiplication). With s = out.weight / out.normalizer[0] and
// l of sigmoid_entry.h:
//   out.loss[0]   = s * sum_i w_i sum_c l          double, fixed order
//   out.grad[i,c] = s * w_i * dl/dz                written for every entry, 0 for ignored rows
// NaN logits give NaN for their entry and the total; an infinite logit on the wrong side gives an infinite loss and a
// finite gradient, on the right side 0 and 0. No clamps: |z| up to 1e4 and beyond is exact. Entries are evaluated in
// float32, sums run in double (in the CUDA version from w_i * l on, or w_i times the l of four neighbours). logits
// (R, C), labels (R), weights (R). R may be 0: loss 0. Options of `member` outside their range throw, as do, in the
// CUDA version, 2^30 rows and more, and 2^32 logits and more (2^30 where C < 4 or data do not lie on 16 bytes).
// out.workspace: sigmoid_loss_workspace(R, C) doubles, the partial sums of kSigmoidLossRows rows each.
inline constexpr int kSigmoidLossRows = 64;
int64_t sigmoid_loss_workspace(int64_t rows, int64_t classes);
template <class Loss>
void sigmoid_loss(Cpu&, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                  const Loss& member, const LossSum& out);
template <class Loss>
void sigmoid_loss(Cuda&, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                  const Loss& member, const LossSum& out);

// scores = sigmoid(logits), any shape.
void sigmoid(Cpu&, View<const float> logits, View<float> scores);
void sigmoid(Cuda&, View<const float> logits, View<float> scores);

// What both versions of sigmoid_loss check first.
void check_sigmoid_loss(View<const float> logits, View<const int32_t> labels, View<const float> weights,
                        const LossSum& out);

}  // namespace gradlibra::kernels
