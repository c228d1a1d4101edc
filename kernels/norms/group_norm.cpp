// SPDX-License-Identifier: MIT
// Group norm on the host (kernels/norms/channel_norm.h).
#include "kernels/norms/group_norm.h"

#include "kernels/norms/channel_norm.h"

namespace gradlibra::kernels {

NormShape group_norm_shape(const char* op, const Shape& x, int groups) {
  require(x.rank() == 4, op, "x has shape " + x.to_string() + ", expected (N, H, W, C)");
  require(groups >= 1 && x.dim(3) >= 1 && x.dim(3) % groups == 0, op,
          std::to_string(x.dim(3)) + " channels do not divide into " + std::to_string(groups) + " groups");
  return {x.dim(0), x.dim(1) * x.dim(2), x.dim(3), groups};
}

int64_t group_norm_workspace(const Shape& x, int groups) {
  return group_norm_shape("group_norm", x, groups).workspace();
}

template <MapType T>
void group_norm(Cpu& cpu, In<T> x, View<const float> weight, View<const float> bias, int groups, float eps,
                Activation activation, View<T> y, View<float> mean, View<float> rstd, View<float> workspace) {
  const NormShape shape = group_norm_shape("group_norm", x.shape(), groups);
  norm_statistics<T>(cpu, "group_norm", shape, x, eps, mean, rstd, {}, workspace);
  norm_forward(cpu, "group_norm", shape, x, mean, rstd, weight, bias, activation, y);
}

template <MapType T>
void group_norm_backward(Cpu& cpu, In<T> x, In<T> y, In<T> grad_y, View<const float> weight, View<const float> mean,
                         View<const float> rstd, int groups, Activation activation, View<T> grad_x, Accumulate mode_x,
                         View<float> grad_weight, View<float> grad_bias, Accumulate mode_params,
                         View<float> workspace) {
  norm_backward<T>(
      cpu, "group_norm_backward", group_norm_shape("group_norm_backward", grad_y.shape(), groups),
      {x, y, grad_y, mean, rstd, weight, activation, grad_x, mode_x, grad_weight, grad_bias, mode_params, workspace});
}

template void group_norm(Cpu&, View<const float>, View<const float>, View<const float>, int, float, Activation,
                         View<float>, View<float>, View<float>, View<float>);
template void group_norm_backward(Cpu&, View<const float>, View<const float>, View<const float>, View<const float>,
                                  View<const float>, View<const float>, int, Activation, View<float>, Accumulate,
                                  View<float>, View<float>, Accumulate, View<float>);

template void group_norm(Cpu&, View<const bfloat16>, View<const float>, View<const float>, int, float, Activation,
                         View<bfloat16>, View<float>, View<float>, View<float>);
template void group_norm_backward(Cpu&, View<const bfloat16>, View<const bfloat16>, View<const bfloat16>,
                                  View<const float>, View<const float>, View<const float>, int, Activation,
                                  View<bfloat16>, Accumulate, View<float>, View<float>, Accumulate, View<float>);

}  // namespace gradlibra::kernels
