// SPDX-License-Identifier: MIT
// Batch norm on the host: one group per channel over all rows (kernels/norms/channel_norm.h).
#include "kernels/norms/batch_norm.h"

#include "kernels/norms/channel_norm.h"

namespace gradlibra::kernels {

NormShape batch_norm_shape(const char* op, const Shape& x, int64_t fewest_rows) {
  require(x.rank() >= 1 && x.dim(-1) >= 1, op, "x has shape " + x.to_string() + ", expected (..., C)");
  const int64_t C = x.dim(-1), rows = x.size() / C;
  require(rows >= fewest_rows, op, "x has shape " + x.to_string() + ", needs at least one row");
  return {1, rows, C, C};
}

int64_t batch_norm_workspace(int64_t rows, int64_t channels) {
  return NormShape{1, rows, channels, channels}.workspace();
}

template <MapType T>
void batch_norm_statistics(Cpu& cpu, const NormStatisticsPass<T>& pass) {
  constexpr auto op = "batch_norm_statistics";
  norm_statistics(cpu, op, batch_norm_shape(op, pass.x.shape(), 1), pass);
}

template <MapType T>
void batch_norm(Cpu& cpu, const NormForwardPass<T>& pass) {
  constexpr auto op = "batch_norm";
  norm_forward(cpu, op, batch_norm_shape(op, pass.x.shape()), pass);
}

template <MapType T>
void batch_norm_backward(Cpu& cpu, const NormBackwardPass<T>& pass) {
  constexpr auto op = "batch_norm_backward";
  norm_backward(cpu, op, batch_norm_shape(op, pass.grad_y.shape()), pass);
}

template <MapType T>
void batch_norm_input_gradient(Cpu& cpu, const NormBackwardPass<T>& pass, View<const float> average_g,
                               View<const float> average_g_x_hat) {
  constexpr auto op = "batch_norm_input_gradient";
  norm_input_gradient(cpu, op, batch_norm_shape(op, pass.grad_y.shape()), pass, average_g, average_g_x_hat);
}

template void batch_norm_statistics(Cpu&, const NormStatisticsPass<float>&);
template void batch_norm(Cpu&, const NormForwardPass<float>&);
template void batch_norm_backward(Cpu&, const NormBackwardPass<float>&);
template void batch_norm_input_gradient(Cpu&, const NormBackwardPass<float>&, View<const float>, View<const float>);

template void batch_norm_statistics(Cpu&, const NormStatisticsPass<bfloat16>&);
template void batch_norm(Cpu&, const NormForwardPass<bfloat16>&);
template void batch_norm_backward(Cpu&, const NormBackwardPass<bfloat16>&);
template void batch_norm_input_gradient(Cpu&, const NormBackwardPass<bfloat16>&, View<const float>, View<const float>);

}  // namespace gradlibra::kernels
