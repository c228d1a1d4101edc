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
void group_norm(Cpu& cpu, const GroupNorm<T>& norm) {
  constexpr auto op = "group_norm";
  const NormShape shape = group_norm_shape(op, norm.x.shape(), norm.groups);
  norm_statistics(cpu, op, shape, norm.statistics());
  norm_forward(cpu, op, shape, norm.forward());
}

template <MapType T>
void group_norm_backward(Cpu& cpu, const NormBackwardPass<T>& pass, int groups) {
  constexpr auto op = "group_norm_backward";
  norm_backward(cpu, op, group_norm_shape(op, pass.grad_y.shape(), groups), pass);
}

template void group_norm(Cpu&, const GroupNorm<float>&);
template void group_norm_backward(Cpu&, const NormBackwardPass<float>&, int);

template void group_norm(Cpu&, const GroupNorm<bfloat16>&);
template void group_norm_backward(Cpu&, const NormBackwardPass<bfloat16>&, int);

}  // namespace gradlibra::kernels
