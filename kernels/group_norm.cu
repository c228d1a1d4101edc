// SPDX-License-Identifier: MIT
// Group norm on the device (kernels/channel_norm.h).
#include "kernels/group_norm.h"

#include "kernels/channel_norm.h"
#include "kernels/launch.h"

namespace gradlibra::kernels {

void group_norm(Cuda& cuda, View<const float> x, View<const float> weight, View<const float> bias, int groups,
                float eps, Activation activation, View<float> y, View<float> mean, View<float> rstd,
                View<float> workspace) {
  const NormShape shape = group_norm_shape("group_norm", x.shape(), groups);
  norm_statistics(cuda, "group_norm", shape, x, eps, mean, rstd, {}, workspace);
  norm_forward(cuda, "group_norm", shape, x, mean, rstd, weight, bias, activation, y);
}

void group_norm_backward(Cuda& cuda, View<const float> x, View<const float> y, View<const float> grad_y,
                         View<const float> weight, View<const float> mean, View<const float> rstd, int groups,
                         Activation activation, View<float> grad_x, Accumulate mode_x, View<float> grad_weight,
                         View<float> grad_bias, Accumulate mode_params, View<float> workspace) {
  norm_backward(cuda, "group_norm_backward", group_norm_shape("group_norm_backward", grad_y.shape(), groups),
                {x, y, grad_y, mean, rstd, weight, activation, BatchNormMode::batch, grad_x, mode_x, grad_weight,
                 grad_bias, mode_params, workspace});
}

}  // namespace gradlibra::kernels
