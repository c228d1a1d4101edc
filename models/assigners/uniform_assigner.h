// SPDX-License-Identifier: MIT
// Uniform matching of YOLOF (arXiv:2103.09460): every object gets the same number of anchors, whatever its size.
#pragma once

#include "kernels/boxes/uniform_assign.h"
#include "models/anchors.h"
#include "models/assigners/assignment.h"

namespace gradlibra {

struct UniformMatch {
  Assignment assignment;  // for the classification
  Tensor pairs;           // (N, 2k, M) int32, for the box loss: kernels/boxes/uniform_assign.h
};

// valid: valid_cells(). boxes (N, P, 4): what the anchors predict now; no gradient flows through an assignment. Rule
// and ties: kernels/boxes/uniform_assign.h.
[[nodiscard]] UniformMatch assign_uniform(Tape& tape, Var boxes, const Anchors& anchors, const GroundTruth& truth,
                                          const Tensor& valid, const kernels::UniformAssign& options);

}  // namespace gradlibra
