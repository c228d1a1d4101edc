// SPDX-License-Identifier: MIT
// Adaptive training sample selection (arXiv:1912.02424): an object's anchors by the statistics of the overlaps around
// it.
#pragma once

#include "kernels/boxes/atss_assign.h"
#include "models/anchors.h"
#include "models/assigners/assignment.h"

namespace gradlibra {

// valid: valid_cells(). Rule and ties: kernels/boxes/atss_assign.h.
[[nodiscard]] Assignment assign_atss(Tape& tape, const Anchors& anchors, const GroundTruth& truth, const Tensor& valid,
                                     const kernels::AtssAssign& options);

}  // namespace gradlibra
