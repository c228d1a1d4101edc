// SPDX-License-Identifier: MIT
#include "models/assigners/valid_cells.h"

#include "kernels/boxes/valid_cells.h"

namespace gradlibra {

Tensor valid_cells(Tape& tape, const Priors& cells, const GroundTruth& truth) {
  if (truth.sizes.empty()) return {};
  Tensor valid = tape.context().empty({truth.boxes.dim(0), cells.points.dim(0)}, DType::u8);
  tape.run([&](auto& device) {
    kernels::valid_cells(device, cells.points.view(), truth.sizes.view<int32_t>(), truth.orientations.view<int32_t>(),
                         kSizeDivisor, valid.view<uint8_t>());
  });
  return valid;
}

}  // namespace gradlibra
