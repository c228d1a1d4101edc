// SPDX-License-Identifier: MIT
// How central each positive cell lies in its box, and what box losses weighted by that are divided by. FCOS and ATSS.
#pragma once

#include "models/assigners/assignment.h"
#include "models/priors.h"

namespace gradlibra {

struct Centerness {
  Tensor targets;  // (N, P): 0 for rows that are not positive
  Tensor sum;      // (1) double of this rank, to be summed over ranks
};
// Of the boxes of the targets around the cells' points: kernels/boxes/centerness.h.
[[nodiscard]] Centerness centerness_targets(Tape& tape, const Priors& cells, const Targets& targets);

// (1) double on the device: a sum over ranks, at least `least`, plus `plus`, both for each of them (assignment.h).
[[nodiscard]] Tensor sum_at_least(Tape& tape, const Tensor& summed, int ranks, double least, double plus = 0);

}  // namespace gradlibra
