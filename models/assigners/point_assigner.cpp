// SPDX-License-Identifier: MIT
#include "models/assigners/point_assigner.h"

namespace gradlibra {

Assignment assign_points(Tape& tape, const Priors& priors, const GroundTruth& truth, const Tensor& valid,
                         const kernels::PointAssign& options) {
  const int64_t N = truth.boxes.dim(0), M = truth.boxes.dim(1), P = priors.points.dim(0);
  Tensor matched = tape.context().empty({N, P}, DType::i32);
  Tensor workspace = tape.context().empty({kernels::point_assign_workspace(N, M, options)}, DType::i32);
  const View<const uint8_t> flags = valid.empty() ? View<const uint8_t>() : valid.view<uint8_t>();
  tape.run([&](auto& device) {
    kernels::point_assign(device, priors.points.view(), truth.boxes.view(), truth.counts.view<int32_t>(), flags,
                          options, matched.view<int32_t>(), workspace.view<int32_t>());
  });
  return counted(tape, std::move(matched));
}

}  // namespace gradlibra
