// SPDX-License-Identifier: MIT
#include "models/assigners/fcos_assigner.h"

namespace gradlibra {

Assignment assign_fcos(Tape& tape, const Priors& cells, const GroundTruth& truth, const kernels::FcosAssign& options) {
  Tensor matched = tape.context().empty({truth.boxes.dim(0), cells.points.dim(0)}, DType::i32);
  tape.run([&](auto& device) {
    kernels::fcos_assign(device, cells.points.view(), truth.boxes.view(), truth.counts.view<int32_t>(), options,
                         matched.view<int32_t>());
  });
  return counted(tape, std::move(matched));
}

}  // namespace gradlibra
