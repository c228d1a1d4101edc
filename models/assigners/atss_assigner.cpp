// SPDX-License-Identifier: MIT
#include "models/assigners/atss_assigner.h"

namespace gradlibra {

Assignment assign_atss(Tape& tape, const Anchors& anchors, const GroundTruth& truth, const Tensor& valid,
                       const kernels::AtssAssign& options) {
  const int64_t N = truth.boxes.dim(0), M = truth.boxes.dim(1), P = anchors.boxes.dim(0);
  const std::vector<int64_t>& level_rows = anchors.priors.level_rows;
  Tensor matched = tape.context().empty({N, P}, DType::i32);
  Tensor workspace = tape.context().empty(
      {kernels::atss_assign_workspace(N, M, static_cast<int64_t>(level_rows.size()), options)}, DType::f64);
  const View<const uint8_t> flags = valid.empty() ? View<const uint8_t>() : valid.view<uint8_t>();
  tape.run([&](auto& device) {
    kernels::atss_assign(device, anchors.boxes.view(), level_rows, truth.boxes.view(), truth.counts.view<int32_t>(),
                         flags, options, matched.view<int32_t>(), workspace.view<double>());
  });
  return counted(tape, std::move(matched));
}

}  // namespace gradlibra
