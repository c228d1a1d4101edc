// SPDX-License-Identifier: MIT
#include "models/assigners/uniform_assigner.h"

namespace gradlibra {

UniformMatch assign_uniform(Tape& tape, Var boxes, const Anchors& anchors, const GroundTruth& truth,
                            const Tensor& valid, const kernels::UniformAssign& options) {
  const int64_t N = truth.boxes.dim(0), M = truth.boxes.dim(1), P = anchors.boxes.dim(0);
  Tensor matched = tape.context().empty({N, P}, DType::i32);
  Tensor pairs = tape.context().empty({N, 2 * options.match_times, M}, DType::i32);
  const View<const uint8_t> flags = valid.empty() ? View<const uint8_t>() : valid.view<uint8_t>();
  tape.run([&](auto& device) {
    kernels::uniform_assign(device, anchors.boxes.view(), boxes.view(), truth.boxes.view(),
                            truth.counts.view<int32_t>(), flags, options, matched.view<int32_t>(),
                            pairs.view<int32_t>());
  });
  return {counted(tape, std::move(matched)), std::move(pairs)};
}

}  // namespace gradlibra
