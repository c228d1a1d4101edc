// SPDX-License-Identifier: MIT
// Differentiable operations of heads with anchors.
#pragma once

#include "kernels/boxes/delta_boxes.h"
#include "models/anchors.h"
#include "runtime/autograd/tape.h"

namespace gradlibra::ops {

// deltas (N, .., 4 per anchor), in the order of the anchors, to boxes (N, P, 4): kernels/boxes/delta_boxes.h. `anchors`
// outlive the tape.
[[nodiscard]] Var decode_deltas(Tape&, Var deltas, const Anchors& anchors, const kernels::DeltaCoder& coder);

}  // namespace gradlibra::ops
