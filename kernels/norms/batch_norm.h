// SPDX-License-Identifier: MIT
// Batch normalisation over NHWC by the statistics of the batch, with optional ReLU. With stored statistics it is a part
// of the convolution before it: kernels/norms/batch_norm_fold.h.
#pragma once

#include "kernels/executor.h"
#include "kernels/norms/norm_passes.h"

namespace gradlibra::kernels {

// The plain definition, per channel, over its m elements x in all rows (n, h, w):
//   mean = (1/m) sum x,   var = (1/m) sum (x - mean)^2,   rstd = 1 / sqrt(var + eps)
//   x_hat = (x - mean) * rstd,   y = weight * x_hat + bias,   then, if asked, ReLU: max(y, 0)
// It is group norm with one "image" that has all rows and as many groups as channels: kernels/norms/channel_norm.h has
// both in loops, and says where the plain version stands and what the faster ones do.
//
// x, y and their gradients (..., C): leading dimensions are rows. weight, bias, mean, rstd and theirs (C).
// T is float unless the caller says otherwise.

// Floats of workspace for the statistics and for the backward pass.
int64_t batch_norm_workspace(int64_t rows, int64_t channels);

// mean = sum x / rows, rstd = 1 / sqrt(biased variance + eps), and the running statistics, their variance with divisor
// rows - 1 (rows = 1: biased). Variance by shifted sums, never E[x^2] - E[x]^2. rows >= 1.
// workspace: batch_norm_workspace(rows, C) floats.
template <MapType T = float>
void batch_norm_statistics(Cpu&, const NormStatisticsPass<T>&);
template <MapType T = float>
void batch_norm_statistics(Cuda&, const NormStatisticsPass<T>&);

// y from given mean and rstd. y may be x.
template <MapType T = float>
void batch_norm(Cpu&, const NormForwardPass<T>&);
template <MapType T = float>
void batch_norm(Cuda&, const NormForwardPass<T>&);

// g = grad_y where the output y > 0 (or everywhere if activation is none).
//   grad_weight (+)= sum g * x_hat,   grad_bias (+)= sum g,
//   grad_x (+)= weight * rstd * (g - mean(g) - x_hat * mean(g * x_hat)),   since mean and rstd depend on x.
// Sums are taken in a fixed order. workspace: batch_norm_workspace(rows, C) floats.
template <MapType T = float>
void batch_norm_backward(Cpu&, const NormBackwardPass<T>&);
template <MapType T = float>
void batch_norm_backward(Cuda&, const NormBackwardPass<T>&);

// grad_x alone, from given averages (C): weight * mean(g) and weight * mean(g * x_hat), which may be those of more rows
// than x has (kernels/norms/sync_batch_norm.h). Needs x, no workspace.
template <MapType T = float>
void batch_norm_input_gradient(Cpu&, const NormBackwardPass<T>&, View<const float> average_g,
                               View<const float> average_g_x_hat);
template <MapType T = float>
void batch_norm_input_gradient(Cuda&, const NormBackwardPass<T>&, View<const float> average_g,
                               View<const float> average_g_x_hat);

}  // namespace gradlibra::kernels
