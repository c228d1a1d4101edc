// SPDX-License-Identifier: MIT
// Batch norm on the device: one group per channel over all rows (kernels/norms/channel_norm.h).
#include "kernels/norms/batch_norm.h"

#include "kernels/norms/channel_norm.h"

namespace gradlibra::kernels {

template <MapType T>
void batch_norm_statistics(Cuda& cuda, const NormStatisticsPass<T>& pass) {
  constexpr auto op = "batch_norm_statistics";
  norm_statistics(cuda, op, batch_norm_shape(op, pass.x.shape(), 1), pass);
}

template <MapType T>
void batch_norm(Cuda& cuda, const NormForwardPass<T>& pass) {
  constexpr auto op = "batch_norm";
  norm_forward(cuda, op, batch_norm_shape(op, pass.x.shape()), pass);
}

template <MapType T>
void batch_norm_backward(Cuda& cuda, const NormBackwardPass<T>& pass) {
  constexpr auto op = "batch_norm_backward";
  norm_backward(cuda, op, batch_norm_shape(op, pass.grad_y.shape()), pass);
}

template <MapType T>
void batch_norm_input_gradient(Cuda& cuda, const NormBackwardPass<T>& pass, View<const float> average_g,
                               View<const float> average_g_x_hat) {
  constexpr auto op = "batch_norm_input_gradient";
  norm_input_gradient(cuda, op, batch_norm_shape(op, pass.grad_y.shape()), pass, average_g, average_g_x_hat);
}

template void batch_norm_statistics(Cuda&, const NormStatisticsPass<float>&);
template void batch_norm(Cuda&, const NormForwardPass<float>&);
template void batch_norm_backward(Cuda&, const NormBackwardPass<float>&);
template void batch_norm_input_gradient(Cuda&, const NormBackwardPass<float>&, View<const float>, View<const float>);

template void batch_norm_statistics(Cuda&, const NormStatisticsPass<bfloat16>&);
template void batch_norm(Cuda&, const NormForwardPass<bfloat16>&);
template void batch_norm_backward(Cuda&, const NormBackwardPass<bfloat16>&);
template void batch_norm_input_gradient(Cuda&, const NormBackwardPass<bfloat16>&, View<const float>, View<const float>);

}  // namespace gradlibra::kernels
