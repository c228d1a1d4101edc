// SPDX-License-Identifier: MIT
#include "models/assigners/max_iou_assigner.h"

namespace gradlibra {

Assignment assign_max_iou(Tape& tape, Var boxes, const GroundTruth& truth, const Tensor& valid,
                          const kernels::MaxIouAssign& options) {
  const int64_t N = truth.boxes.dim(0), M = truth.boxes.dim(1), P = boxes.dim(1);
  Tensor matched = tape.context().empty({N, P}, DType::i32);
  Tensor workspace = tape.context().empty({kernels::max_iou_assign_workspace(N, M)});
  const View<const uint8_t> flags = valid.empty() ? View<const uint8_t>() : valid.view<uint8_t>();
  tape.run([&](auto& device) {
    kernels::max_iou_assign(device, boxes.view(), truth.boxes.view(), truth.counts.view<int32_t>(), flags, options,
                            matched.view<int32_t>(), workspace.view());
  });
  return counted(tape, std::move(matched));
}

}  // namespace gradlibra
