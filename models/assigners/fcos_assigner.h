// SPDX-License-Identifier: MIT
// FCOS: a cell answers for the smallest object around it that belongs to its level (arXiv:1904.01355).
#pragma once

#include "kernels/boxes/fcos_assign.h"
#include "models/assigners/assignment.h"
#include "models/priors.h"

namespace gradlibra {

// cells: of a grid with points at centres. Rule and ties: kernels/boxes/fcos_assign.h.
[[nodiscard]] Assignment assign_fcos(Tape& tape, const Priors& cells, const GroundTruth& truth,
                                     const kernels::FcosAssign& options);

}  // namespace gradlibra
