// SPDX-License-Identifier: MIT
// Batch norm on the host: one group per channel over all rows (kernels/norms/channel_norm.h).
#include "kernels/norms/batch_norm.h"

#include "kernels/norms/channel_norm.h"

namespace gradlibra::kernels {

NormShape batch_norm_shape(const char* op, const Shape& x) {
  require(x.rank() >= 1 && x.dim(-1) >= 1, op, "x has shape " + x.to_string() + ", expected (..., C)");
  return {1, x.size() / x.dim(-1), x.dim(-1), x.dim(-1)};
}

int64_t batch_norm_workspace(int64_t rows, int64_t channels) {
  return NormShape{1, rows, channels, channels}.workspace();
}

template <MapType T>
void batch_norm_statistics(Cpu& cpu, In<T> x, float eps, float momentum, View<float> mean, View<float> rstd,
                           View<float> running_mean, View<float> running_var, View<float> workspace) {
  const NormShape shape = batch_norm_shape("batch_norm_statistics", x.shape());
  require(shape.R >= 1, "batch_norm_statistics", "x has shape " + x.shape().to_string() + ", needs at least one row");
  norm_statistics<T>(cpu, "batch_norm_statistics", shape, x, eps, mean, rstd, {momentum, running_mean, running_var},
                     workspace);
}

template <MapType T>
void batch_norm(Cpu& cpu, In<T> x, View<const float> mean, View<const float> rstd, View<const float> weight,
                View<const float> bias, Activation activation, View<T> y) {
  norm_forward(cpu, "batch_norm", batch_norm_shape("batch_norm", x.shape()), x, mean, rstd, weight, bias, activation,
               y);
}

template <MapType T>
void batch_norm_backward(Cpu& cpu, In<T> x, In<T> y, In<T> grad_y, View<const float> mean, View<const float> rstd,
                         View<const float> weight, Activation activation, View<T> grad_x, Accumulate mode_x,
                         View<float> grad_weight, View<float> grad_bias, Accumulate mode_params,
                         View<float> workspace) {
  norm_backward<T>(
      cpu, "batch_norm_backward", batch_norm_shape("batch_norm_backward", grad_y.shape()),
      {x, y, grad_y, mean, rstd, weight, activation, grad_x, mode_x, grad_weight, grad_bias, mode_params, workspace});
}

template void batch_norm_statistics<float>(Cpu&, View<const float>, float, float, View<float>, View<float>, View<float>,
                                           View<float>, View<float>);
template void batch_norm(Cpu&, View<const float>, View<const float>, View<const float>, View<const float>,
                         View<const float>, Activation, View<float>);
template void batch_norm_backward(Cpu&, View<const float>, View<const float>, View<const float>, View<const float>,
                                  View<const float>, View<const float>, Activation, View<float>, Accumulate,
                                  View<float>, View<float>, Accumulate, View<float>);

template void batch_norm_statistics<bfloat16>(Cpu&, View<const bfloat16>, float, float, View<float>, View<float>,
                                              View<float>, View<float>, View<float>);
template void batch_norm(Cpu&, View<const bfloat16>, View<const float>, View<const float>, View<const float>,
                         View<const float>, Activation, View<bfloat16>);
template void batch_norm_backward(Cpu&, View<const bfloat16>, View<const bfloat16>, View<const bfloat16>,
                                  View<const float>, View<const float>, View<const float>, Activation, View<bfloat16>,
                                  Accumulate, View<float>, View<float>, Accumulate, View<float>);

}  // namespace gradlibra::kernels
