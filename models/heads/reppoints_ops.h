// SPDX-License-Identifier: MIT
// Differentiable operations that only RepPoints needs.
#pragma once

#include "kernels/boxes/grid_points.h"
#include "kernels/boxes/points_to_boxes.h"
#include "runtime/autograd/tape.h"

namespace gradlibra::ops {

// x - row, the row of C channels repeated; the gradient is multiplied by grad_factor. RepPoints' tap offsets. `row`
// outlives the tape.
[[nodiscard]] Var subtract_row(Tape&, Var x, const Tensor& row, float grad_factor);

// a + stop_gradient(b).
[[nodiscard]] Var add_detached(Tape&, Var a, Var b);

// Regular grids of side x side points on boxes that regression (.., 4) makes of the previous ones
// (kernels/boxes/grid_points.h): of `previous`, (.., 4), or where it is empty of squares that reach `half` to each
// side. No gradient flows into `previous`, and none into the boxes that come out.
struct GridPoints {
  Var points, boxes;  // (.., 2 * side * side), (.., 4)
};
[[nodiscard]] GridPoints grid_points(Tape&, Var regression, Var previous, float half, int side);

// offsets (N, P, 2K), priors (P, 3), moment (2) or an empty Var, to boxes (N, P, 4).
[[nodiscard]] Var points_to_boxes(Tape&, Var offsets, const Tensor& priors, Var moment, kernels::BoxTransform transform,
                                  float moment_mul);

}  // namespace gradlibra::ops
