// SPDX-License-Identifier: MIT
// By overlap: a box belongs to the object that it overlaps most, or to none.
#pragma once

#include "kernels/boxes/assign.h"
#include "models/assigners/assignment.h"

namespace gradlibra {

// boxes (N, P, 4): each image's own; valid: of valid_cells(). No gradient flows through an assignment. Rule and ties:
// kernels/boxes/assign.h, max_iou_assign.
[[nodiscard]] Assignment assign_max_iou(Tape& tape, Var boxes, const GroundTruth& truth, const Tensor& valid,
                                        const kernels::MaxIouAssign& options);

}  // namespace gradlibra
