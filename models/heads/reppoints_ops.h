// SPDX-License-Identifier: MIT
// Differentiable operations that only RepPoints needs.
#pragma once

#include "kernels/boxes/points_to_boxes.h"
#include "runtime/autograd/tape.h"

namespace gradlibra::ops {

// x - row, the row of C channels repeated; the gradient is multiplied by grad_factor. RepPoints' tap offsets. `row`
// outlives the tape.
[[nodiscard]] Var subtract_row(Tape&, Var x, const Tensor& row, float grad_factor);

// a + stop_gradient(b).
[[nodiscard]] Var add_detached(Tape&, Var a, Var b);

// offsets (N, P, 2K), priors (P, 3), moment (2) or an empty Var, to boxes (N, P, 4).
[[nodiscard]] Var points_to_boxes(Tape&, Var offsets, const Tensor& priors, Var moment, kernels::BoxTransform transform,
                                  float moment_mul);

}  // namespace gradlibra::ops
