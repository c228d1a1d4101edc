// SPDX-License-Identifier: MIT
// Group normalisation over NHWC with optional ReLU (arXiv:1803.08494, eq. 2-4).
#pragma once

#include "kernels/activation.h"
#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// The plain definition, per image n and group of C / groups channels, over its m elements x (channels of the group, H,
// W):
//   mean = (1/m) sum x,   var = (1/m) sum (x - mean)^2,   rstd = 1 / sqrt(var + eps)
//   x_hat = (x - mean) * rstd,   y = weight * x_hat + bias,   then max(y, 0) if relu
// kernels/norms/channel_norm.h has it in loops, and says where the plain version stands and what the faster ones do.
//
// x, y (N, H, W, C), C divisible by groups; weight, bias (C); mean, rstd (N, groups) are written for the backward pass.
// Maps are stored as T (kernels/norms/batch_norm.h), statistics are those of the stored x and stay float.
// Variance in two passes (or shifted), sums in a fixed order. N or H*W may be 0. workspace: group_norm_workspace(...)
// floats.
int64_t group_norm_workspace(const Shape& x, int groups);
template <MapType T = float>
void group_norm(Cpu&, In<T> x, View<const float> weight, View<const float> bias, int groups, float eps,
                Activation activation, View<T> y, View<float> mean, View<float> rstd, View<float> workspace);
template <MapType T = float>
void group_norm(Cuda&, In<T> x, View<const float> weight, View<const float> bias, int groups, float eps,
                Activation activation, View<T> y, View<float> mean, View<float> rstd, View<float> workspace);

// g = grad_y where y > 0 if relu, else grad_y (then y may be empty). With m the number of elements of a group:
//   grad_bias (+)= sum g,  grad_weight (+)= sum g * x_hat,
//   grad_x (+)= rstd * (weight*g - (1/m) sum(weight*g) - x_hat * (1/m) sum(weight*g*x_hat)).
template <MapType T = float>
void group_norm_backward(Cpu&, In<T> x, In<T> y, In<T> grad_y, View<const float> weight, View<const float> mean,
                         View<const float> rstd, int groups, Activation activation, View<T> grad_x, Accumulate mode_x,
                         View<float> grad_weight, View<float> grad_bias, Accumulate mode_params, View<float> workspace);
template <MapType T = float>
void group_norm_backward(Cuda&, In<T> x, In<T> y, In<T> grad_y, View<const float> weight, View<const float> mean,
                         View<const float> rstd, int groups, Activation activation, View<T> grad_x, Accumulate mode_x,
                         View<float> grad_weight, View<float> grad_bias, Accumulate mode_params, View<float> workspace);

}  // namespace gradlibra::kernels
