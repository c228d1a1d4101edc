// SPDX-License-Identifier: MIT
// Cells that lie in the padding of a batch: what assigners are to leave out.
#pragma once

#include "models/priors.h"
#include "models/targets.h"

namespace gradlibra {

// (N, P) uint8, 0 for a cell in the padding of its image: kernels/boxes/valid_cells.h. Empty, which assigners take for
// all valid, if the ground truth does not know the sizes of its images. cells: of a grid with points at corners, or of
// anchors.
[[nodiscard]] Tensor valid_cells(Tape& tape, const Priors& cells, const GroundTruth& truth);

}  // namespace gradlibra
