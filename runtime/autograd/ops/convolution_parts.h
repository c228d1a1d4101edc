// SPDX-License-Identifier: MIT
// What the ops on convolutions share.
#pragma once

#include "kernels/activation.h"
#include "runtime/autograd/tape.h"

namespace gradlibra::ops {

// The gradient of what went into y's activation. It replaces output.grad, which nothing else reads, except under
// inspection, where the gradient of y itself is to be seen: then it lies in `scratch`. A gradient of a bias that can be
// had in the same pass over the map is computed here, and `bias` is then empty.
[[nodiscard]] ConstMap grad_before_activation(Tape&, Var y, kernels::Activation activation, Tensor& scratch,
                                              GradTarget<>& bias);

// A weight or bias as a convolution of x takes it: as it is, or rounded to bfloat16. What the store has not rounded is
// rounded here, into `scratch`.
[[nodiscard]] ConstMap weight_like(Tape&, Var x, Var weight, Tensor& scratch);

}  // namespace gradlibra::ops
