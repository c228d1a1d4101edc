// SPDX-License-Identifier: MIT
// Batch normalisation over NHWC by the statistics of the batch, with optional ReLU. With stored statistics it is a part
// of the convolution before it: kernels/norms/batch_norm_fold.h.
#pragma once

#include "kernels/activation.h"
#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// The plain definition, per channel, over its m elements x in all rows (n, h, w):
//   mean = (1/m) sum x,   var = (1/m) sum (x - mean)^2,   rstd = 1 / sqrt(var + eps)
//   x_hat = (x - mean) * rstd,   y = weight * x_hat + bias,   then, if asked, ReLU: max(y, 0)
// It is group norm with one "image" that has all rows and as many groups as channels: kernels/norms/channel_norm.h has
// both in loops, and says where the plain version stands and what the faster ones do.
//
// x, y (..., C): leading dimensions are rows. weight, bias, mean, rstd (C).
// Feature maps and their gradients are stored as T, everything else as float; arithmetic is float and rounds to T once,
// as it is stored. T is float unless an output map or the caller says otherwise.

// Floats of workspace for the statistics and for the backward pass.
int64_t batch_norm_workspace(int64_t rows, int64_t channels);

// mean = sum x / rows, rstd = 1 / sqrt(biased variance + eps), and the running statistics
//   running = (1 - momentum) * running + momentum * batch,   the variance with divisor rows - 1 (rows = 1: biased).
// Variance by shifted sums, never E[x^2] - E[x]^2. rows >= 1. Empty running views are left out.
// workspace: batch_norm_workspace(rows, C) floats.
template <MapType T = float>
void batch_norm_statistics(Cpu&, In<T> x, float eps, float momentum, View<float> mean, View<float> rstd,
                           View<float> running_mean, View<float> running_var, View<float> workspace);
template <MapType T = float>
void batch_norm_statistics(Cuda&, In<T> x, float eps, float momentum, View<float> mean, View<float> rstd,
                           View<float> running_mean, View<float> running_var, View<float> workspace);

// y from given mean and rstd. y may be x.
template <MapType T = float>
void batch_norm(Cpu&, In<T> x, View<const float> mean, View<const float> rstd, View<const float> weight,
                View<const float> bias, Activation activation, View<T> y);
template <MapType T = float>
void batch_norm(Cuda&, In<T> x, View<const float> mean, View<const float> rstd, View<const float> weight,
                View<const float> bias, Activation activation, View<T> y);

// g = grad_y where the output y > 0 (or everywhere if activation is none; then y is not read and may be empty).
//   grad_weight (+)= sum g * x_hat,   grad_bias (+)= sum g,
//   grad_x (+)= weight * rstd * (g - mean(g) - x_hat * mean(g * x_hat)),   since mean and rstd depend on x.
// Sums are taken in a fixed order. x, y, grad_y, grad_x (..., C). A grad_x view without data skips it; likewise
// grad_weight and grad_bias (both or neither). grad_x may be grad_y.
// `mode_params` and `mode_x` say add or overwrite. workspace: batch_norm_workspace(rows, C) floats.
template <MapType T = float>
void batch_norm_backward(Cpu&, In<T> x, In<T> y, In<T> grad_y, View<const float> mean, View<const float> rstd,
                         View<const float> weight, Activation activation, View<T> grad_x, Accumulate mode_x,
                         View<float> grad_weight, View<float> grad_bias, Accumulate mode_params, View<float> workspace);
template <MapType T = float>
void batch_norm_backward(Cuda&, In<T> x, In<T> y, In<T> grad_y, View<const float> mean, View<const float> rstd,
                         View<const float> weight, Activation activation, View<T> grad_x, Accumulate mode_x,
                         View<float> grad_weight, View<float> grad_bias, Accumulate mode_params, View<float> workspace);

}  // namespace gradlibra::kernels
