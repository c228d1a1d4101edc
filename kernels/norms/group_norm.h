// SPDX-License-Identifier: MIT
// Group normalisation over NHWC with optional ReLU (arXiv:1803.08494, eq. 2-4).
#pragma once

#include "kernels/executor.h"
#include "kernels/norms/norm_passes.h"

namespace gradlibra::kernels {

// The plain definition, per image n and group of C / groups channels, over its m elements x (channels of the group, H,
// W):
//   mean = (1/m) sum x,   var = (1/m) sum (x - mean)^2,   rstd = 1 / sqrt(var + eps)
//   x_hat = (x - mean) * rstd,   y = weight * x_hat + bias,   then max(y, 0) if relu
// kernels/norms/channel_norm.h has it in loops, and says where the plain version stands and what the faster ones do.
//
// x, y (N, H, W, C), C divisible by groups; weight, bias (C); mean, rstd (N, groups) are written for the backward pass.
// Statistics are those of the stored x and stay float. Variance in two passes (or shifted), sums in a fixed order. N or
// H*W may be 0. y may be x. workspace: group_norm_workspace(...) floats.
template <MapType T = float>
struct GroupNorm {
  View<const T> x;
  View<const float> weight, bias;
  int groups;
  float eps;
  Activation activation = Activation::none;
  View<T> y;
  View<float> mean, rstd, workspace;

  [[nodiscard]] NormStatisticsPass<T> statistics() const {
    return {.x = x, .eps = eps, .mean = mean, .rstd = rstd, .workspace = workspace};
  }
  [[nodiscard]] NormForwardPass<T> forward() const {
    return {.x = x, .mean = mean, .rstd = rstd, .weight = weight, .bias = bias, .activation = activation, .y = y};
  }
};
int64_t group_norm_workspace(const Shape& x, int groups);
template <MapType T = float>
void group_norm(Cpu&, const GroupNorm<T>&);
template <MapType T = float>
void group_norm(Cuda&, const GroupNorm<T>&);

// g = grad_y where y > 0 if relu, else grad_y. With m the number of elements of a group:
//   grad_bias (+)= sum g,  grad_weight (+)= sum g * x_hat,
//   grad_x (+)= rstd * (weight*g - (1/m) sum(weight*g) - x_hat * (1/m) sum(weight*g*x_hat)).
// Shapes as above. workspace: group_norm_workspace(...) floats.
template <MapType T = float>
void group_norm_backward(Cpu&, const NormBackwardPass<T>&, int groups);
template <MapType T = float>
void group_norm_backward(Cuda&, const NormBackwardPass<T>&, int groups);

}  // namespace gradlibra::kernels
