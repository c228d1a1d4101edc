// SPDX-License-Identifier: MIT
#include "models/assigners/centerness.h"

#include "kernels/boxes/centerness.h"
#include "kernels/scalar.h"

namespace gradlibra {

Centerness centerness_targets(Tape& tape, const Priors& cells, const Targets& targets) {
  const int64_t N = targets.box_weights.dim(0), P = targets.box_weights.dim(1);
  Centerness result{tape.context().empty({N, P}), tape.context().empty({1}, DType::f64)};
  Tensor workspace = tape.context().empty({kernels::centerness_workspace(N * P)}, DType::f64);
  tape.run([&](auto& device) {
    kernels::centerness_targets(device, cells.points.view(), targets.boxes.view(), targets.box_weights.view(),
                                result.targets.view(), result.sum.view<double>(), workspace.view<double>());
  });
  return result;
}

Tensor sum_at_least(Tape& tape, const Tensor& summed, int ranks, double least, double plus) {
  Tensor result = tape.context().empty({1}, DType::f64);
  tape.run([&](auto& device) {
    kernels::scaled_maximum(device, summed.view<double>(), 1, least * ranks, result.view<double>(), plus * ranks);
  });
  return result;
}

}  // namespace gradlibra
