// SPDX-License-Identifier: MIT
// RepPoints' first stage: the nearest points of the level that an object's size belongs to (arXiv:1904.11490).
#pragma once

#include "kernels/boxes/assign.h"
#include "models/assigners/assignment.h"
#include "models/priors.h"

namespace gradlibra {

// valid: of valid_cells(). Rule and ties: kernels/boxes/assign.h, point_assign.
[[nodiscard]] Assignment assign_points(Tape& tape, const Priors& priors, const GroundTruth& truth, const Tensor& valid,
                                       const kernels::PointAssign& options);

}  // namespace gradlibra
