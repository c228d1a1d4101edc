// SPDX-License-Identifier: MIT
// Batch normalisation over NHWC by the statistics of the batch, with optional ReLU. With stored statistics it is a part
// of the convolution before it: kernels/norms/batch_norm_fold.h.
#pragma once

#include "kernels/executor.h"
#include "kernels/norms/channel_norm.h"
#include "kernels/norms/norm_passes.h"

namespace gradlibra::kernels {

// The plain definition, per channel, over its m elements x in all rows (n, h, w):
//   mean = (1/m) sum x,   var = (1/m) sum (x - mean)^2,   rstd = 1 / sqrt(var + eps)
//   x_hat = (x - mean) * rstd,   y = weight * x_hat + bias,   then, if asked, ReLU: max(y, 0)
// It is group norm with one "image" that has all rows and as many groups as channels: kernels/norms/channel_norm.h has
// both in loops, says where the plain version stands and what the faster ones do, and is what runs, on either executor.
//
// x, y and their gradients (..., C): leading dimensions are rows. weight, bias, mean, rstd and theirs (C).
// T is float unless the caller says otherwise.

// Floats of workspace for the statistics and for the backward pass.
constexpr int64_t batch_norm_workspace(int64_t rows, int64_t channels) {
  return NormShape{1, rows, channels, channels}.workspace();
}

// mean = sum x / rows, rstd = 1 / sqrt(biased variance + eps), and the running statistics, their variance with divisor
// rows - 1 (rows = 1: biased). Variance by shifted sums, never E[x^2] - E[x]^2. rows >= 1.
// workspace: batch_norm_workspace(rows, C) floats.
template <MapType T = float, class Executor>
void batch_norm_statistics(Executor& device, const NormStatisticsPass<T>& pass) {
  constexpr auto op = "batch_norm_statistics";
  norm_statistics(device, op, batch_norm_shape(op, pass.x.shape(), 1), pass);
}

// y from given mean and rstd. y may be x.
template <MapType T = float, class Executor>
void batch_norm(Executor& device, const NormForwardPass<T>& pass) {
  constexpr auto op = "batch_norm";
  norm_forward(device, op, batch_norm_shape(op, pass.x.shape()), pass);
}

// g = grad_y where the output y > 0 (or everywhere if activation is none).
//   grad_weight (+)= sum g * x_hat,   grad_bias (+)= sum g,
//   grad_x (+)= weight * rstd * (g - mean(g) - x_hat * mean(g * x_hat)),   since mean and rstd depend on x.
// Sums are taken in a fixed order. workspace: batch_norm_workspace(rows, C) floats.
template <MapType T = float, class Executor>
void batch_norm_backward(Executor& device, const NormBackwardPass<T>& pass) {
  constexpr auto op = "batch_norm_backward";
  norm_backward(device, op, batch_norm_shape(op, pass.grad_y.shape()), pass);
}

// grad_x alone, from given averages (C): weight * mean(g) and weight * mean(g * x_hat), which may be those of more rows
// than x has (kernels/norms/sync_batch_norm.h). Needs x, no workspace.
template <MapType T = float, class Executor>
void batch_norm_input_gradient(Executor& device, const NormBackwardPass<T>& pass, View<const float> average_g,
                               View<const float> average_g_x_hat) {
  constexpr auto op = "batch_norm_input_gradient";
  norm_input_gradient(device, op, batch_norm_shape(op, pass.grad_y.shape()), pass, average_g, average_g_x_hat);
}

}  // namespace gradlibra::kernels
