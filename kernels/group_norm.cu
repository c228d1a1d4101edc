// SPDX-License-Identifier: MIT
// Group norm on the device (kernels/channel_norm.h).
#include "kernels/group_norm.h"

#include "kernels/channel_norm.h"
#include "kernels/launch.h"

namespace gradlibra::kernels {

template <MapType T>
void group_norm(Cuda& cuda, In<T> x, View<const float> weight, View<const float> bias, int groups, float eps,
                Activation activation, View<T> y, View<float> mean, View<float> rstd, View<float> workspace) {
  const NormShape shape = group_norm_shape("group_norm", x.shape(), groups);
  norm_statistics_and_forward(cuda, "group_norm", shape, x, eps, mean, rstd, weight, bias, activation, y, workspace);
}

template <MapType T>
void group_norm_backward(Cuda& cuda, In<T> x, In<T> y, In<T> grad_y, View<const float> weight, View<const float> mean,
                         View<const float> rstd, int groups, Activation activation, View<T> grad_x, Accumulate mode_x,
                         View<float> grad_weight, View<float> grad_bias, Accumulate mode_params,
                         View<float> workspace) {
  norm_backward<T>(cuda, "group_norm_backward", group_norm_shape("group_norm_backward", grad_y.shape(), groups),
                   {x, y, grad_y, mean, rstd, weight, activation, BatchNormMode::batch, grad_x, mode_x, grad_weight,
                    grad_bias, mode_params, workspace});
}

template void group_norm(Cuda&, View<const float>, View<const float>, View<const float>, int, float, Activation,
                         View<float>, View<float>, View<float>, View<float>);
template void group_norm_backward(Cuda&, View<const float>, View<const float>, View<const float>, View<const float>,
                                  View<const float>, View<const float>, int, Activation, View<float>, Accumulate,
                                  View<float>, View<float>, Accumulate, View<float>);

template void group_norm(Cuda&, View<const bfloat16>, View<const float>, View<const float>, int, float, Activation,
                         View<bfloat16>, View<float>, View<float>, View<float>);
template void group_norm_backward(Cuda&, View<const bfloat16>, View<const bfloat16>, View<const bfloat16>,
                                  View<const float>, View<const float>, View<const float>, int, Activation,
                                  View<bfloat16>, Accumulate, View<float>, View<float>, Accumulate, View<float>);

}  // namespace gradlibra::kernels
